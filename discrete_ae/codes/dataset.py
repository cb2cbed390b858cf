"""Data set for training on codes from files of `discrete-ae encode`, one memory-mapped array, or Parquet shards.

With Parquet shards, each item reads a whole row group. To read tar shards, use webdataset (docs/encoding.md).

Axes: S streams, K codebooks, T frames, L positions of a sequence of tokens.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from discrete_ae.codes.code_file import Codes, in_words, parse_object
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.manifest import ManifestEntry, one_set, read_entry, read_manifest
from discrete_ae.codes.patterns import PATTERNS, Pattern
from discrete_ae.codes.shards import ARRAY_NAME, INDEX_NAME, RECORDINGS_NAME, ShardIndex, ShardRow, keys_of
from discrete_ae.errors import DataError

log = logging.getLogger("discrete_ae")


class CodesItem(NamedTuple):
    """One stream of a recording, or a crop of it."""

    codes: Tensor
    """Codes (K, T) int64; with a pattern, tokens (L,) or (K, L)."""
    frames: int
    """Number of frames of the recording in the item; the rest is padding."""
    key: str
    """Key of the recording: the path of its file of codes without the suffix, as in the shards."""
    stream: int
    """Index of the stream in the recording: the channel, for a mono model."""
    start: int
    """First frame of the item in the stream."""


class CodesDataset(Dataset[CodesItem]):
    """The codes of a folder, stream by stream, or in crops of one length.

    Without `frames`, item i is the whole i-th stream. With `frames`, item i is a crop, a pure function of the seed, the
    epoch and i. The stream is drawn in proportion to its length and the start uniformly within it, so that all frames
    are about equally likely. The number of items is that of one pass over all frames; `set_epoch` selects the crops of
    another pass. The set works with any number of worker processes, and keeps no file open.

    >>> dataset = CodesDataset(codes, frames=20)
    >>> dataset[0].codes.shape
    torch.Size([2, 20])

    With a pattern, items are sequences of tokens for a language model (patterns.py). Each sequence begins with
    `begin_id`, and has `end_id` if it reaches the end of the stream. For crops, all sequences are as long as that of a
    full crop with begin and end; shorter ones are padded with `pad_id`.

    >>> dataset = CodesDataset(codes, frames=20, pattern="delay")
    >>> tokens = dataset[0].codes
    >>> tokens.shape  # 20 frames, one position of delay, begin and end
    torch.Size([2, 23])
    >>> dataset.pattern.invert(tokens).shape
    (2, 20)

    Args:
        path: folder of files of codes with their manifest, or folder of `write_memory_map` or `write_parquet_shards`.
        frames: length of the crops; None for whole streams.
        seed: seed of the crops, at least 0.
        padding: value appended to streams shorter than a crop; None leaves out these streams. A pattern pads with its
            own `pad_id`.
        pattern: "flat", "coarse_first", "parallel" or "delay", or an instance of `Pattern` for these codebook sizes.
        entropy_model: entropy model of entropy-coded files; not needed for shards.

    Raises:
        OSError: the manifest cannot be read; from `__getitem__`: the item's file cannot be read.
        DataError: the folder is missing, has no codes or codes of different models, or every stream is shorter than a
            crop; from `__getitem__`: the item's file is damaged.
        ValueError: a number is out of range; the pattern is unknown, for other codebooks, or used with `padding`.
    """

    def __init__(
        self,
        path: str | Path,
        frames: int | None = None,
        seed: int = 0,
        *,
        padding: int | None = None,
        pattern: str | Pattern | None = None,
        entropy_model: EntropyModel | None = None,
    ) -> None:
        if frames is not None and frames < 1:
            raise ValueError(f"frames: expected at least 1, or None for whole streams, got {frames}")
        if seed < 0:
            raise ValueError(f"seed: expected at least 0, got {seed}")
        self.frames = frames
        self.seed = seed
        if pattern is not None and padding is not None:
            raise ValueError(f"padding: expected None beside a pattern, which pads with its pad_id, got {padding}")
        self.padding = padding
        folder = Path(path)
        self._source = _source(folder, entropy_model)
        entries = self._source.entries
        common = one_set(entries, folder)
        self.model_hash = common.model_hash
        """Hash of the model that made the codes."""
        self.codebook_sizes = common.codebook_sizes
        """Number of entries of each of the K codebooks."""
        self.pattern = None if pattern is None else _pattern(pattern, self.codebook_sizes)
        """Pattern of the tokens; None if items are codes."""
        if sum(entry.streams * entry.frames for entry in entries) >= 2**63:
            raise DataError(f"{folder}: damaged, claims 2^63 frames or more; encode again")
        # One entry per recording, not per stream: a file may claim any number of streams.
        self._lengths = np.array([entry.frames for entry in entries], np.int64)
        streams = np.array([entry.streams for entry in entries], np.int64)
        self._stream_ends = np.cumsum(streams)
        self._ends = np.cumsum(self._weights(folder, streams))
        # Shared, so that persistent worker processes see the next epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def total_frames(self) -> int:
        """Number of frames of all streams in use."""
        return int(self._ends[-1])

    def set_epoch(self, epoch: int) -> None:
        """Select the crops of an epoch; whole streams are the same in all epochs."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return int(self._stream_ends[-1]) if self.frames is None else math.ceil(self.total_frames / self.frames)

    def __getitem__(self, index: int) -> CodesItem:
        if not 0 <= index < len(self):  # ends `for item in dataset`
            raise IndexError(f"item {index} of {len(self)}")
        if self.frames is None:
            recording, stream = _place(self._stream_ends, index)
            return self._item(recording, stream, 0, int(self._lengths[recording]))
        seeds = np.random.SeedSequence((self.seed, int(self._epoch), index))
        random = np.random.Generator(np.random.Philox(seeds))
        recording, frame = _place(self._ends, int(random.integers(self.total_frames)))
        length = int(self._lengths[recording])
        start = int(random.integers(max(length - self.frames, 0) + 1))
        return self._item(recording, frame // length, start, min(start + self.frames, length))

    def _item(self, recording: int, stream: int, start: int, stop: int) -> CodesItem:
        codes: Codes = self._source.read(recording, stream, start, stop).astype(np.int64)
        length, fill = self.frames or stop - start, self.padding or 0
        if self.pattern:
            codes = self.pattern.apply(codes, begin=True, end=stop == self._lengths[recording])
            length, fill = self.pattern.shape(length)[-1] + 2, self.pattern.pad_id
        codes = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, length - codes.shape[-1])], constant_values=fill)
        return CodesItem(torch.from_numpy(codes), stop - start, self._source.keys[recording], stream, start)

    def _weights(self, folder: Path, streams: Any) -> Any:
        """Return the number of frames in all streams of each recording; 0 for a recording that is left out."""
        if self.frames is None or self.padding is not None or self.pattern:
            return streams * self._lengths
        short = self._lengths < self.frames
        if short.all():
            raise DataError(
                f"{folder}: expected a stream of at least {self.frames} frames, the length of a crop, got at most "
                f"{self._lengths.max()}; use shorter crops or padding"
            )
        if short.any():
            log.warning(
                "%s: left out %d of %d streams, shorter than %d frames; use padding to include them",
                folder,
                streams[short].sum(),
                streams.sum(),
                self.frames,
            )
        return np.where(short, 0, streams * self._lengths)


class _Source(Protocol):
    """Codes by recording and stream."""

    @property
    def entries(self) -> Sequence[ManifestEntry]:
        """Entries of the recordings."""

    @property
    def keys(self) -> Sequence[str]:
        """Keys of the recordings."""

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """Return codes (K, stop - start) of a stream of a recording, from frame `start` on, or raise a DataError."""


def _source(folder: Path, entropy_model: EntropyModel | None) -> _Source:
    if not (folder / INDEX_NAME).exists():
        return _Files(folder, entropy_model)
    index = ShardIndex.read(folder / INDEX_NAME, "write the shards again")
    if index.kind == "tar":
        raise DataError(f"{folder}: holds tar shards; read them with webdataset, or encode with --shards mmap")
    if index.kind == "mmap":
        return _Array(folder, index)
    try:
        from discrete_ae.codes.parquet import ParquetCodes
    except ImportError as error:
        raise DataError(f"{folder}: needs the package {error.name}; pip install 'discrete-ae[parquet]'") from error
    return ParquetCodes(folder, index.files)


class _Files:
    """The files of a folder with a manifest; any access reads a whole file."""

    def __init__(self, folder: Path, entropy_model: EntropyModel | None) -> None:
        try:
            self.entries: Sequence[ManifestEntry] = read_manifest(folder)
        except (FileNotFoundError, NotADirectoryError) as error:
            said = "is not a folder with a manifest of codes" if folder.exists() else "no such folder"
            raise DataError(f"{folder}: {said}; give one written by discrete-ae encode") from error
        self.keys = keys_of(folder, (entry.path for entry in self.entries))
        self._folder = folder
        self._entropy_model = entropy_model
        # A missing entropy model is reported now, not in a worker process.
        if first := next((entry for entry in self.entries if entry.path.endswith(".daec")), None):
            read_entry(folder, first, entropy_model)

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """Return codes (K, stop - start) of a stream of a recording, from frame `start` on.

        Raises:
            OSError: the file cannot be read.
            DataError: the file is damaged.
        """
        return read_entry(self._folder, self.entries[recording], self._entropy_model)[stream, :, start:stop]


class _Array:
    """One array with the codes of all recordings."""

    def __init__(self, folder: Path, index: ShardIndex) -> None:
        rows = _rows(folder / RECORDINGS_NAME)
        self.entries: Sequence[ManifestEntry] = rows
        self.keys = [row.key for row in rows]
        self._offsets = [row.offset for row in rows]
        self._path = folder / ARRAY_NAME
        self._sizes = np.array(one_set(rows, folder).codebook_sizes)[:, None]
        shape = (len(self._sizes), rows[-1].offset + rows[-1].streams * rows[-1].frames)
        try:
            array = np.lib.format.open_memmap(self._path, mode="r")
        except Exception as error:  # for a damaged header, numpy raises nearly any error
            raise DataError(f"{self._path}: damaged or missing; copy it again, or write the shards again") from error
        if array.shape != shape or array.dtype.kind != "u" or not array.flags.f_contiguous:
            raise DataError(f"{self._path}: does not fit {RECORDINGS_NAME}; write the shards again")
        self._dtype, self._start = array.dtype, array.offset

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """Return the same codes as `_Files.read`."""
        first = self._offsets[recording] + stream * self.entries[recording].frames + start
        # The file is opened anew: a memory map would keep it open, and be copied whole into each worker process.
        count, rows = (stop - start) * len(self._sizes), len(self._sizes)
        codes = np.fromfile(self._path, self._dtype, count, offset=self._start + first * rows * self._dtype.itemsize)
        found: Codes = codes[: len(codes) // rows * rows].reshape(rows, -1, order="F")
        if len(codes) < count or bool((found >= self._sizes).any()):  # an embedding would be indexed out of range
            raise DataError(f"{self._path}: damaged, codes are out of range or missing; write the shards again")
        return found


def _pattern(pattern: str | Pattern, codebook_sizes: tuple[int, ...]) -> Pattern:
    if isinstance(pattern, str) and pattern in PATTERNS:
        return PATTERNS[pattern](codebook_sizes)
    if not isinstance(pattern, Pattern):
        raise ValueError(
            f"pattern: expected one of {', '.join(PATTERNS)}, or an instance of Pattern, got {pattern!r:.60}"
        )
    if pattern.codebook_sizes != codebook_sizes:
        raise ValueError(
            f"pattern: expected the codebooks of the set ({in_words(codebook_sizes)}), got a pattern "
            f"for {in_words(pattern.codebook_sizes)}; give the name of the pattern instead"
        )
    return pattern


def _rows(path: Path) -> list[ShardRow]:
    rows: list[ShardRow] = []
    end = 0
    try:
        for line in path.read_bytes().splitlines():
            rows.append(row := ShardRow.of(parse_object(line)))
            if row.offset != end:
                raise ValueError(f"offset: expected {end}, the end of the recording before, got {row.offset}")
            end += row.streams * row.frames
        if len({row.key for row in rows}) < max(len(rows), 1):
            raise ValueError("no recordings, or two with the same key")
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); write the shards again") from error
    return rows


def _place(ends: Any, index: int) -> tuple[int, int]:
    """Return the recording that contains an index, and the index within it."""
    recording = int(np.searchsorted(ends, index, side="right"))
    return recording, index - (int(ends[recording - 1]) if recording else 0)
