"""Codes to train on: a data set over what `discrete-ae encode` wrote, as files, one memory-mapped array, or Parquet.

Parquet is read here too, a whole row group for each item, with pyarrow; tar shards are read with webdataset.

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
    """(K, T) int64; of a data set with a pattern its tokens, (L,) or (K, L)."""
    frames: int
    """How many frames of the recording they are; what follows them is padding."""
    key: str
    """Of the recording: the path of its file of codes without the suffix, as in the shards."""
    stream: int
    """Which of the recording's streams, from 0 on: the channel, for a mono model."""
    start: int
    """The stream's frame at which the item begins."""


class CodesDataset(Dataset[CodesItem]):
    """The codes of a folder, stream by stream, or in crops of one length.

    Without `frames`, item i is the i-th stream, whole. With `frames`, item i is a crop, a pure function of the seed,
    the epoch and i: the stream is drawn in proportion to its length and the start uniformly within it, so that every
    frame is about as likely as any other; the length of the set is that of one pass over all frames, and `set_epoch`
    makes the crops of another one. The set may be handed to any number of loading processes, and keeps no file open.

    >>> dataset = CodesDataset(codes, frames=20)
    >>> dataset[0].codes.shape
    torch.Size([2, 20])

    With a pattern, items are sequences of tokens for a language model (patterns.py). Each begins with `begin_id`, that
    of a crop too; `end_id` follows where the stream ends. Those of crops have the length of a whole crop with begin and
    end, and are filled up with `pad_id`.

    >>> dataset = CodesDataset(codes, frames=20, pattern="delay")
    >>> tokens = dataset[0].codes
    >>> tokens.shape  # 20 frames, one position of delay, begin and end
    torch.Size([2, 23])
    >>> dataset.pattern.invert(tokens).shape
    (2, 20)

    Args:
        path: a folder of files of codes with their manifest, or the folder of `write_memory_map` or
            `write_parquet_shards`.
        frames: length of the crops; None takes whole streams.
        seed: of the crops, at least 0.
        padding: of the streams that are shorter than a crop, after their end; None leaves them out.
            A pattern pads by itself.
        pattern: "flat", "coarse_first", "parallel" or "delay", or a pattern for codebooks of the sizes of these codes.
        entropy_model: of files that are entropy-coded; the array needs none.

    Raises:
        OSError: the manifest, or, from an item, its file cannot be read.
        DataError: the folder is not there, or holds no codes, or those of different models; every stream is shorter
            than a crop; or, from an item, its file is damaged.
        ValueError: a number out of its range; no such pattern, or one for other codebooks, or with `padding`.
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
        """The model that made the codes, and that decodes them."""
        self.codebook_sizes = common.codebook_sizes
        """Entries of each of the K codebooks."""
        self.pattern = None if pattern is None else _pattern(pattern, self.codebook_sizes)
        """Of the tokens; None where items are codes."""
        if sum(entry.streams * entry.frames for entry in entries) >= 2**63:
            raise DataError(f"{folder}: damaged, it says that it holds 2^63 frames or more; encode again")
        # By recording, not by stream: how many streams there are is what a file says of itself.
        self._lengths = np.array([entry.frames for entry in entries], np.int64)
        streams = np.array([entry.streams for entry in entries], np.int64)
        self._stream_ends = np.cumsum(streams)
        self._ends = np.cumsum(self._weights(folder, streams))
        # Shared, so that loading processes that outlive an epoch hear of the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def total_frames(self) -> int:
        """Frames of all streams that items are taken from."""
        return int(self._ends[-1])

    def set_epoch(self, epoch: int) -> None:
        """Choose which crops follow; whole streams are the same in all epochs."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return int(self._stream_ends[-1]) if self.frames is None else math.ceil(self.total_frames / self.frames)

    def __getitem__(self, index: int) -> CodesItem:
        if not 0 <= index < len(self):  # without which `for item in dataset` would not end
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
        """Frames of all streams of each recording, 0 for one that is left out."""
        if self.frames is None or self.padding is not None or self.pattern:
            return streams * self._lengths
        short = self._lengths < self.frames
        if short.all():
            raise DataError(
                f"{folder}: the longest stream has {self._lengths.max()} frames, a crop has {self.frames}; take "
                "shorter crops, or give padding"
            )
        if short.any():
            log.warning(
                "%s: %d of %d streams are shorter than %d frames and left out; give padding to have them",
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
        """The recordings."""

    @property
    def keys(self) -> Sequence[str]:
        """Their keys."""

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """Return codes (K, stop - start) of a stream of a recording, from frame `start` on; DataError if that fails."""


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
    """The files of a folder with a manifest; each is read whole for any stretch of it."""

    def __init__(self, folder: Path, entropy_model: EntropyModel | None) -> None:
        try:
            self.entries: Sequence[ManifestEntry] = read_manifest(folder)
        except (FileNotFoundError, NotADirectoryError) as error:
            said = "is not a folder with a manifest of codes" if folder.exists() else "no such folder"
            raise DataError(f"{folder}: {said}; give one that discrete-ae encode has filled") from error
        self.keys = keys_of(folder, (entry.path for entry in self.entries))
        self._folder = folder
        self._entropy_model = entropy_model
        # That the entropy model is missing shows now, not in a loading process.
        if first := next((entry for entry in self.entries if entry.path.endswith(".daec")), None):
            read_entry(folder, first, entropy_model)

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """Codes (K, stop - start) of a stream of a recording, from frame `start` on; DataError if that fails."""
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
        except Exception as error:  # nearly any, from what numpy makes of a damaged header
            raise DataError(f"{self._path}: damaged or missing; copy it again, or write the shards again") from error
        if array.shape != shape or array.dtype.kind != "u" or not array.flags.f_contiguous:
            raise DataError(f"{self._path}: does not fit {RECORDINGS_NAME}; write the shards again")
        self._dtype, self._start = array.dtype, array.offset

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """As that of `_Files`."""
        first = self._offsets[recording] + stream * self.entries[recording].frames + start
        # Opened each time: a mapping keeps its file open, and would be copied whole into a loading process.
        count, rows = (stop - start) * len(self._sizes), len(self._sizes)
        codes = np.fromfile(self._path, self._dtype, count, offset=self._start + first * rows * self._dtype.itemsize)
        found: Codes = codes[: len(codes) // rows * rows].reshape(rows, -1, order="F")
        if len(codes) < count or bool((found >= self._sizes).any()):  # an embedding would be read beyond its end
            raise DataError(
                f"{self._path}: damaged, it holds codes that its codebooks do not have, or too few; write the shards "
                "again"
            )
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
            f"pattern: expected one for codebooks of the set ({in_words(codebook_sizes)}), got one for others "
            f"({in_words(pattern.codebook_sizes)}); give its name instead"
        )
    return pattern


def _rows(path: Path) -> list[ShardRow]:
    rows: list[ShardRow] = []
    end = 0
    try:
        for line in path.read_bytes().splitlines():
            rows.append(row := ShardRow.of(parse_object(line)))
            if row.offset != end:
                raise ValueError(f"offset: expected {end}, where another recording ends, got {row.offset}")
            end += row.streams * row.frames
        if len({row.key for row in rows}) < max(len(rows), 1):
            raise ValueError("two of its recordings have one key, or there are none")
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); write the shards again") from error
    return rows


def _place(ends: Any, index: int) -> tuple[int, int]:
    """The recording in which the index falls, and how far in it."""
    recording = int(np.searchsorted(ends, index, side="right"))
    return recording, index - (int(ends[recording - 1]) if recording else 0)
