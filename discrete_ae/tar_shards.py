"""Tars in the format of WebDataset: keys of files, and shards of limited size. Importing this module needs no torch."""

import tarfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, Self

from discrete_ae.errors import DataError


class Content(NamedTuple):
    """A file of a sample."""

    suffix: str
    """Suffix of the file, including the dot."""
    num_bytes: int
    stream: BinaryIO


class TarShards(ExitStack):
    """Writer of the shards `NAME-000000.tar`, `NAME-000001.tar`, …; equal contents give equal bytes.

    The writer is a context manager. The last shard is complete when the context ends.

    Args:
        folder: folder for the shards.
        name: first part of the shards' names, NAME.
        max_bytes: maximum size of a shard, exceeded only by a single larger sample.
    """

    def __init__(self, folder: Path, name: str, max_bytes: int) -> None:
        super().__init__()
        self.names: list[str] = []
        """Names of the shards so far."""
        self._folder, self._name, self._max_bytes = folder, name, max_bytes
        self._archive: tarfile.TarFile | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, key: str, contents: Sequence[Content]) -> None:
        """Write the files of a sample, each named by the key and its suffix.

        Raises:
            OSError: the shard cannot be written.
        """
        members = [(tarfile.TarInfo(key + one.suffix), one) for one in contents]
        size = 0
        for member, one in members:
            member.size = one.num_bytes  # owner and time are 0 by default, so equal contents give equal bytes
            size += len(member.tobuf(tarfile.PAX_FORMAT)) + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        # A tar ends with at most one record of zeros.
        if self._archive is None or self._archive.offset + size + tarfile.RECORDSIZE > self._max_bytes:
            self.close()
            self.names.append(f"{self._name}-{len(self.names):06d}.tar")
            archive = tarfile.open(self._folder / self.names[-1], "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
            self._archive = self.enter_context(archive)
        for member, one in members:
            self._archive.addfile(member, one.stream)


def keys_of(folder: Path, paths: Iterable[str], advice: str) -> list[str]:
    """Return the WebDataset keys of the files of a folder: their paths without the suffix.

    A key ends at the first dot of the file's name. Other dots in the name become %2E, and % becomes %25.

    Args:
        folder: folder to name in error messages.
        paths: paths relative to the folder, in POSIX form.
        advice: advice in the error message if two files have the same key.

    Raises:
        DataError: two files have the same key.
    """
    found: dict[str, str] = {}
    for path in paths:
        pure = PurePosixPath(path)
        key = pure.with_name(pure.stem.replace("%", "%25").replace(".", "%2E")).as_posix()
        if (first := found.setdefault(key, path)) != path:
            raise DataError(f"{folder}: {first} and {path} have the same name without suffix, {key}; {advice}")
    return list(found)
