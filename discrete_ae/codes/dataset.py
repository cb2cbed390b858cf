"""Codes to train on: a data set over what `discrete-ae encode` wrote, as files, tar shards or one array.

Axes: K codebooks, T frames.
"""

import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.sources import open_source
from discrete_ae.errors import DataError

log = logging.getLogger("discrete_ae")


class CodesItem(NamedTuple):
    """One stream of a recording, or a crop of it."""

    codes: Tensor
    """(K, T) int64."""
    frames: int
    """How many of the T frames are codes; what follows them is padding."""
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

    Args:
        path: a folder of files of codes with their manifest.jsonl, or a folder of shards.
        frames: length of the crops; None takes whole streams.
        seed: of the crops, at least 0.
        padding: of the streams that are shorter than a crop, after their end; None leaves them out.
        entropy_model: of files that are entropy-coded; shards and other files need none.

    Raises:
        DataError: the folder holds no codes, or those of different models; every stream is shorter than a crop; or,
            from an item, its file is missing or damaged.
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        path: str | Path,
        frames: int | None = None,
        seed: int = 0,
        *,
        padding: int | None = None,
        entropy_model: EntropyModel | None = None,
    ) -> None:
        if frames is not None and frames < 1:
            raise ValueError(f"frames: expected at least 1, or None for whole streams, got {frames}")
        if seed < 0:
            raise ValueError(f"seed: expected at least 0, got {seed}")
        self.frames = frames
        self.seed = seed
        self.padding = padding
        self._source = open_source(path, entropy_model)
        # By recording, not by stream: how many streams there are is what a file says of itself.
        self._stream_ends = np.cumsum(self._source.streams)
        self._ends = np.cumsum(self._weights(Path(path)))
        # Shared, so that loading processes that outlive an epoch hear of the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Entries of each of the K codebooks."""
        return self._source.code_set.codebook_sizes

    @property
    def model_hash(self) -> str:
        """The model that made the codes, and that decodes them."""
        return self._source.code_set.model_hash

    @property
    def total_frames(self) -> int:
        """Of all streams that items are taken from."""
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
            return self._item(recording, stream, 0, int(self._source.frames[recording]))
        seeds = np.random.SeedSequence((self.seed, int(self._epoch), index))
        random = np.random.Generator(np.random.Philox(seeds))
        recording, frame = _place(self._ends, int(random.integers(self.total_frames)))
        length = int(self._source.frames[recording])
        start = int(random.integers(max(length - self.frames, 0) + 1))
        return self._item(recording, frame // length, start, min(start + self.frames, length))

    def _item(self, recording: int, stream: int, start: int, stop: int) -> CodesItem:
        read = self._source.read(recording, stream, start, stop)
        codes = np.full((len(read), self.frames or stop - start), self.padding or 0, np.int64)
        codes[:, : stop - start] = read
        return CodesItem(torch.from_numpy(codes), stop - start, self._source.keys[recording], stream, start)

    def _weights(self, path: Path) -> Any:
        """Frames of all streams of each recording, 0 for one that is left out."""
        streams, lengths = self._source.streams, self._source.frames
        if self.frames is None or self.padding is not None:
            return streams * lengths
        short = lengths < self.frames
        if short.all():
            raise DataError(
                f"{path}: the longest stream has {lengths.max()} frames, a crop has {self.frames}; take shorter "
                "crops, or give padding"
            )
        if short.any():
            log.warning(
                "%s: %d of %d streams are shorter than %d frames and left out; give padding to have them",
                path,
                streams[short].sum(),
                streams.sum(),
                self.frames,
            )
        return np.where(short, 0, streams * lengths)


def _place(ends: Any, index: int) -> tuple[int, int]:
    """The recording in which the index falls, and how far in it."""
    recording = int(np.searchsorted(ends, index, side="right"))
    return recording, index - (int(ends[recording - 1]) if recording else 0)
