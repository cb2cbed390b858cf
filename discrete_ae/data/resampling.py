"""Resampling of signals that come in parts, in bounded memory, by soxr.

Legend: C channels, N samples per channel.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import soxr

from discrete_ae.errors import DataError

Audio = npt.NDArray[np.float32]
"""Samples (C, N), full scale at -1 and 1."""

# soxr's HQ filter looks less far than this to both sides of a sample: so many samples at the lower rate, and so long.
MARGIN_SAMPLES = 160
MARGIN_S = 0.02

BLOCK_FRAMES = 2**16
"""So much goes through a resampler at once, at usual rates, and is read at once; see `block_frames`."""

# Samples of all channels, as they go in or come out: 4 MB.
_BLOCK_SAMPLES = 2**20
# soxr holds back about 800 samples of each channel at the lower rate, several times over at the higher one: 10 kB for
# each unit of their ratio, 80 MB in all.
_MAX_RATIO_OF_ALL_CHANNELS = 2**13


def block_frames(source_rate: int, target_rate: int, channels: int) -> int:
    """Return how much of the source to resample at once, at least 1 frame.

    `BLOCK_FRAMES`, unless there are very many channels, or a block would become far longer than it was.
    """
    return max(1, min(BLOCK_FRAMES, _BLOCK_SAMPLES * source_rate // (channels * max(source_rate, target_rate))))


def margin_frames(source_rate: int, target_rate: int) -> int:
    """Return how much of the source to add on both sides: samples at `source_rate`.

    Of the source's samples only each `step`-th falls on a sample of the result: the margin is a multiple of it.
    """
    step = source_rate // math.gcd(source_rate, target_rate)
    return step * math.ceil(filter_frames(source_rate, target_rate) / step)


def filter_frames(source_rate: float, target_rate: float) -> int:
    """Return how far the filter looks to one side, or further: samples at `source_rate`."""
    return math.ceil(max(MARGIN_S, MARGIN_SAMPLES / min(source_rate, target_rate)) * source_rate)


class Resampler:
    """Resamples parts (C, N), with silence before the first and after the last.

    Args:
        source_rate: in Hz.
        target_rate: in Hz.
        channels: C.
        num_samples: length of the result in samples per channel: what lies beyond it is cut off.

    Raises:
        DataError: so many channels so far up would not fit into memory.
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int, num_samples: int) -> None:
        self._missing = num_samples
        if channels * max(source_rate, target_rate) > _MAX_RATIO_OF_ALL_CHANNELS * min(source_rate, target_rate):
            raise DataError(
                f"{channels} channels from {source_rate} to {target_rate} Hz take too much memory; use fewer channels, "
                "or a rate between"
            )
        self._block = block_frames(source_rate, target_rate, channels)
        # Silence takes no memory as long as nobody writes to it.
        margin = margin_frames(source_rate, target_rate)
        self._margin: Audio = np.broadcast_to(np.zeros((channels, 1), np.float32), (channels, margin))
        self._excess = margin * target_rate // source_rate
        self._stream = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(source_rate, target_rate, channels, dtype="float32", quality="HQ")
            self.push(self._margin)

    def push(self, part: Audio) -> Audio:
        """Return the samples (C, n) of the result, n from 0 on, that are known with this part (C, N)."""
        return _joined(self.pieces(part))

    def pieces(self, part: Audio, *, last: bool = False) -> Iterator[Audio]:
        """Yield what `push` returns, in pieces of bounded length however long the part; take them all."""
        starts = range(0, max(part.shape[1], 1), self._block)
        for start in starts:
            yield self._through(part[:, start : start + self._block], last=last and start == starts[-1])

    def finish(self) -> Audio:
        """Return the rest (C, n) of the result."""
        if self._stream is None:
            return np.zeros((len(self._margin), 0), np.float32)
        return _joined(self.pieces(self._margin, last=True))

    def _through(self, part: Audio, *, last: bool = False) -> Audio:
        if self._stream is not None:
            part = self._stream.resample_chunk(np.ascontiguousarray(part.T), last=last).T
            before = min(self._excess, part.shape[1])
            self._excess -= before
            part = part[:, before:]
        part = part[:, : self._missing]
        self._missing -= part.shape[1]
        return np.ascontiguousarray(part)


def _joined(pieces: Iterable[Audio]) -> Audio:
    parts = list(pieces)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
