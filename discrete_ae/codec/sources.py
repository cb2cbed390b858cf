"""Where codes to train on come from: files with a manifest, tar shards, or one array. No torch here.

All three are tables of recordings and a way to a stretch of one of them. None keeps a file open, so that a source can
be handed to any number of processes.

Axes: S streams, K codebooks, T frames.
"""

import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from discrete_ae.codec.container import Codes
from discrete_ae.codec.manifest import CodeSet, ManifestEntry, entry_of, one_set, parse_entry, read_entry, read_manifest
from discrete_ae.codec.npy_region import NpyRegion
from discrete_ae.codec.shard_index import INDEX_NAME, RECORDINGS_NAME, ShardIndex, ShardKind, read_index
from discrete_ae.codec.shards import key_of
from discrete_ae.entropy_coding import EntropyModel
from discrete_ae.errors import DataError


class CodeSource(ABC):
    """Codes of one model, recording by recording.

    Args:
        code_set: what all have in common.
        keys: of the recordings, each another.
        streams: of each recording.
        frames: of one stream of each recording.
    """

    def __init__(self, code_set: CodeSet, keys: Sequence[str], streams: Sequence[int], frames: Sequence[int]) -> None:
        self.code_set = code_set
        self.keys = keys
        self.streams = np.array(streams, np.int64)
        self.frames = np.array(frames, np.int64)

    @abstractmethod
    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """Codes (K, stop - start) of a stream of a recording, from frame `start` on.

        Raises:
            DataError: if they cannot be read.
        """


class FileSource(CodeSource):
    """The files of a folder with a manifest; each is read whole for any stretch of it."""

    def __init__(self, folder: Path, entropy_model: EntropyModel | None = None) -> None:
        entries = read_manifest(folder)
        super().__init__(
            one_set(entries, folder),
            [key_of(entry.path) for entry in entries],
            [entry.streams for entry in entries],
            [entry.frames for entry in entries],
        )
        self._folder = folder
        self._entries = entries
        self._entropy_model = entropy_model

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """See CodeSource."""
        return read_entry(self._folder, self._entries[recording], self._entropy_model)[stream, :, start:stop]


class ArraySource(CodeSource):
    """One array with the codes of all recordings."""

    def __init__(self, folder: Path, index: ShardIndex) -> None:
        rows = _read_rows(folder, index)
        super().__init__(
            index.code_set,
            [row.key for row in rows],
            [row.entry.streams for row in rows],
            [row.entry.frames for row in rows],
        )
        self._array = NpyRegion.of_file(folder / index.files[0])
        self._offsets = np.array([row.offset for row in rows], np.int64)
        lengths = self.streams * self.frames
        shape = (len(index.code_set.codebook_sizes), int(lengths.sum()))
        if self._array.shape != shape or not self._array.fortran_order or (self._offsets + lengths).max() > shape[1]:
            raise DataError(f"{folder / index.files[0]}: does not fit {RECORDINGS_NAME}; write the shards again")

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """See CodeSource."""
        first = int(self._offsets[recording] + stream * self.frames[recording])
        codebooks = self._array.shape[0]
        stretch = self._array.read((first + start) * codebooks, (stop - start, codebooks))
        return stretch.T


class TarSource(CodeSource):
    """Tar shards: where each recording lies is looked up once, nothing is unpacked."""

    def __init__(self, folder: Path, index: ShardIndex) -> None:
        found = [member for name in index.files for member in _tar_members(folder / name)]
        if len(found) != index.recordings:
            raise DataError(
                f"{folder}: its shards hold {len(found)} recordings, the index says {index.recordings}; "
                "write the shards again"
            )
        super().__init__(
            index.code_set,
            [member.key for member in found],
            [member.entry.streams for member in found],
            [member.entry.frames for member in found],
        )
        self._arrays = [member.array for member in found]

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """See CodeSource."""
        array = self._arrays[recording]
        _, codebooks, frames = array.shape
        return array.read(stream * codebooks * frames, (codebooks, frames))[:, start:stop]


def open_source(path: str | Path, entropy_model: EntropyModel | None = None) -> CodeSource:
    """The codes of a folder: shards where it has their index, else the files of its manifest.

    Raises:
        DataError: if it has neither, or they are damaged.
    """
    folder = Path(path)
    if not (folder / INDEX_NAME).exists():
        return FileSource(folder, entropy_model)
    index = read_index(folder)
    return TarSource(folder, index) if index.kind is ShardKind.TAR else ArraySource(folder, index)


class _Row(NamedTuple):
    key: str
    offset: int
    entry: ManifestEntry


def _read_rows(folder: Path, index: ShardIndex) -> list[_Row]:
    path = folder / RECORDINGS_NAME
    rows = []
    try:
        for line in path.read_bytes().splitlines():
            found = json.loads(line)
            rows.append(_Row(str(found["key"]), int(found["offset"]), entry_of(found)))
        if len(rows) != index.recordings:
            raise ValueError(f"{len(rows)} recordings, the index says {index.recordings}")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged or missing ({error}); write the shards again") from error
    return rows


class _Member(NamedTuple):
    key: str
    entry: ManifestEntry
    array: NpyRegion


def _tar_members(path: Path) -> Iterator[_Member]:
    arrays: dict[str, NpyRegion] = {}
    try:
        with tarfile.open(path, "r:") as archive, path.open("rb") as stream:
            for member in archive:
                key, _, suffix = member.name.rpartition(".")
                if suffix == "npy":
                    stream.seek(member.offset_data)
                    arrays[key] = NpyRegion.at(path, stream)
                elif suffix == "json" and key in arrays:
                    stream.seek(member.offset_data)
                    entry = parse_entry(stream.read(member.size))
                    array = arrays.pop(key)
                    if array.shape != (entry.streams, entry.codebooks, entry.frames) or array.fortran_order:
                        raise ValueError(f"{key} does not have the shape that it says")
                    yield _Member(key, entry, array)
    except (OSError, tarfile.TarError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); copy it again, or write the shards again") from error
