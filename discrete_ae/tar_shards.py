"""Tars in the format of WebDataset: keys of files, and shards of limited size. Importing this module needs no torch."""

import os
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from discrete_ae.errors import DataError


def write_tars(
    folder: Path, name: str, samples: Iterable[tuple[str, Mapping[str, BinaryIO]]], max_bytes: int
) -> list[str]:
    """Write the shards `NAME-000000.tar`, `NAME-000001.tar`, …, and return their names.

    Equal samples give equal bytes.

    Args:
        folder: folder for the shards.
        name: first part of the shards' names, NAME.
        samples: key of each sample, and its files by suffix, including the dot.
        max_bytes: maximum size of a shard, exceeded only by a single larger sample.

    Raises:
        OSError: a shard cannot be written.
    """
    names: list[str] = []
    archive: tarfile.TarFile | None = None
    with ExitStack() as last:
        for key, files in samples:
            members = [(tarfile.TarInfo(key + suffix), file) for suffix, file in files.items()]
            size = 0
            for member, file in members:
                member.size = file.seek(0, os.SEEK_END)  # owner and time are 0 by default, so bytes are reproducible
                file.seek(0)
                size += len(member.tobuf(tarfile.PAX_FORMAT)) + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            # A tar ends with at most one record of zeros.
            if archive is None or archive.offset + size + tarfile.RECORDSIZE > max_bytes:
                last.close()
                names.append(f"{name}-{len(names):06d}.tar")
                archive = last.enter_context(tarfile.open(folder / names[-1], "w", format=tarfile.PAX_FORMAT))
            for member, file in members:
                archive.addfile(member, file)
    return names


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
