"""Where codes to train on come from: files with a manifest, tar shards, or one array. No torch here.

All three are tables of recordings and a way to a stretch of one of them. None keeps a file open, so that a source can
be handed to any number of processes.

Axes: S streams, K codebooks, T frames.
"""

import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from discrete_ae.codes import fields
from discrete_ae.codes.container import MAGIC, Codes, DaecHeader
from discrete_ae.codes.daec import CRC, FRONT
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.entry import ManifestEntry, entry_of, parse_entry, read_entry
from discrete_ae.codes.manifest import CodeSet, one_set, read_manifest
from discrete_ae.codes.npy_region import NpyRegion
from discrete_ae.codes.shard_index import INDEX_NAME, RECORDINGS_NAME, ShardIndex, ShardKind, read_index
from discrete_ae.codes.shards import keys_of
from discrete_ae.errors import DataError


class CodeSource(ABC):
    """Codes of one model, recording by recording.

    Args:
        folder: where they lie.
        code_set: what all have in common.
        keys: of the recordings, each another.
        entries: the recordings.

    Raises:
        DataError: the recordings are not of the set, two have one key, or they have more frames than can be counted.
    """

    def __init__(self, folder: Path, code_set: CodeSet, keys: Sequence[str], entries: Sequence[ManifestEntry]) -> None:
        if one_set(entries, folder) != code_set:
            raise DataError(f"{folder}: its recordings are not those of its index; write the shards again")
        if len(set(keys)) < len(keys):
            raise DataError(f"{folder}: two of its recordings have one key; write the shards again")
        if sum(entry.streams * entry.frames for entry in entries) > fields.MAX_INTEGER:
            raise DataError(
                f"{folder}: damaged, it says that it holds 2^63 frames or more; encode the recordings again"
            )
        self.folder = folder
        self.code_set = code_set
        self.keys = keys
        self.streams = np.array([entry.streams for entry in entries], np.int64)
        self.frames = np.array([entry.frames for entry in entries], np.int64)

    @abstractmethod
    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """Codes (K, stop - start) of a stream of a recording, from frame `start` on.

        Raises:
            DataError: if they cannot be read.
        """


class FileSource(CodeSource):
    """The files of a folder with a manifest; each is read whole for any stretch of it.

    Raises:
        DataError: see CodeSource; or the first entropy-coded file needs another entropy model.
    """

    def __init__(self, folder: Path, entropy_model: EntropyModel | None = None) -> None:
        entries = read_manifest(folder)
        code_set = one_set(entries, folder)
        super().__init__(folder, code_set, keys_of(folder, (entry.path for entry in entries)), entries)
        self._entries = entries
        self._entropy_model = entropy_model
        self._check_entropy_model()

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """See CodeSource."""
        return read_entry(self.folder, self._entries[recording], self._entropy_model)[stream, :, start:stop]

    def _check_entropy_model(self) -> None:
        """Now, not in the middle of an epoch; one file tells, for all are of one model."""
        paths = (self.folder / entry.path for entry in self._entries if entry.path.endswith(".daec"))
        needed, path = next(((found, path) for path in paths if (found := _entropy_model_of(path))), ("", Path()))
        given = self._entropy_model.fingerprint if self._entropy_model else ""
        if needed and needed != given:
            came = "another was given" if given else "none was given"
            raise DataError(
                f"{path}: entropy-coded with the entropy model {needed} and {came}; "
                "give entropy_model=discrete_ae.load(CHECKPOINT).entropy_model"
            )


class ArraySource(CodeSource):
    """One array with the codes of all recordings."""

    def __init__(self, folder: Path, index: ShardIndex) -> None:
        rows = _read_rows(folder, index)
        super().__init__(folder, index.code_set, [row.key for row in rows], [row.entry for row in rows])
        self._array = NpyRegion.of_file(folder / index.files[0])
        self._offsets = np.array([row.offset for row in rows], np.int64)
        shape = (len(index.code_set.codebook_sizes), int((self.streams * self.frames).sum()))
        if self._array.shape != shape or not self._array.fortran_order:
            raise DataError(f"{folder / index.files[0]}: does not fit {RECORDINGS_NAME}; write the shards again")

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """See CodeSource."""
        first = int(self._offsets[recording] + stream * self.frames[recording])
        codebooks = self._array.shape[0]
        stretch = self._array.read((first + start) * codebooks, (stop - start, codebooks))
        return _in_range(stretch.T, self.code_set, self._array.path)


class TarSource(CodeSource):
    """Tar shards: where each recording lies is looked up once, nothing is unpacked."""

    def __init__(self, folder: Path, index: ShardIndex) -> None:
        found = [member for name in index.files for member in _tar_members(folder / name)]
        if len(found) != index.recordings:
            raise DataError(
                f"{folder}: its shards hold {len(found)} recordings, the index says {fields.shown(index.recordings)}; "
                "write the shards again"
            )
        super().__init__(folder, index.code_set, [member.key for member in found], [member.entry for member in found])
        self._arrays = [member.array for member in found]

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """See CodeSource."""
        array = self._arrays[recording]
        _, codebooks, frames = array.shape
        codes = array.read(stream * codebooks * frames, (codebooks, frames))[:, start:stop]
        return _in_range(codes, self.code_set, array.path)


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


def _in_range(codes: Codes, code_set: CodeSet, path: Path) -> Codes:
    """The codes: an embedding would be read beyond its end by one that is too large."""
    if bool((codes >= np.array(code_set.codebook_sizes)[:, None]).any()):
        raise DataError(f"{path}: damaged, it holds codes that its codebooks do not have; write the shards again")
    return codes


def _entropy_model_of(path: Path) -> str:
    """The fingerprint that a `.daec` file has in its header; empty for none, or a damaged file, which is met later."""
    try:
        with path.open("rb") as stream:
            magic, _, header_bytes = FRONT.unpack(stream.read(FRONT.size).ljust(FRONT.size))
            payload_bytes = os.fstat(stream.fileno()).st_size - FRONT.size - header_bytes - CRC.size
            if magic != MAGIC or payload_bytes < 0:
                return ""
            return DaecHeader.from_json(stream.read(header_bytes), payload_bytes).entropy_model
    except (OSError, ValueError):
        return ""


class _Row(NamedTuple):
    key: str
    offset: int
    entry: ManifestEntry


def _read_rows(folder: Path, index: ShardIndex) -> list[_Row]:
    path = folder / RECORDINGS_NAME
    rows = []
    try:
        for line in path.read_bytes().splitlines():
            found = fields.parse_object(line)
            rows.append(_Row(fields.text(found, "key"), fields.integer(found, "offset"), entry_of(found)))
        if len(rows) != index.recordings:
            raise ValueError(f"{len(rows)} recordings, the index says {fields.shown(index.recordings)}")
        end = 0
        for row in sorted(rows, key=lambda row: row.offset):
            if row.offset != end:
                raise ValueError(f"offset: expected {end}, where another recording ends, got {row.offset}")
            end += row.entry.streams * row.entry.frames
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged or missing ({fields.shown(error)}); write the shards again") from error
    return rows


class _Member(NamedTuple):
    key: str
    entry: ManifestEntry
    array: NpyRegion


def _tar_members(path: Path) -> Iterator[_Member]:
    arrays: dict[str, NpyRegion] = {}
    try:
        with tarfile.open(path, "r:") as archive, path.open("rb") as stream:
            length = os.fstat(stream.fileno()).st_size
            for member in archive:
                end = member.offset_data + member.size
                # With a negative size, Python's tarfile would come to the same member for ever.
                if not 0 <= member.size <= length - member.offset_data:
                    raise ValueError("cut short")
                key, _, suffix = member.name.rpartition(".")
                if suffix == "npy":
                    stream.seek(member.offset_data)
                    arrays[key] = NpyRegion.at(path, stream, end)
                elif suffix == "json" and key in arrays:
                    stream.seek(member.offset_data)
                    entry = parse_entry(stream.read(member.size))
                    array = arrays.pop(key)
                    if array.shape != (entry.streams, entry.codebooks, entry.frames) or array.fortran_order:
                        raise ValueError(f"{key} does not have the shape that it says")
                    yield _Member(key, entry, array)
    except Exception as error:  # nearly any, from what tarfile makes of a damaged header
        raise DataError(f"{path}: damaged ({fields.shown(error)}); copy it again, or write the shards again") from error
