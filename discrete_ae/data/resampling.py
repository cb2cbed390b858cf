"""Resample signals given in parts, in bounded memory, by soxr.

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

# Upper bounds of the reach of soxr's HQ filter to each side: in samples at the lower rate, and in seconds.
MARGIN_SAMPLES = 160
MARGIN_S = 0.02

BLOCK_FRAMES = 2**16
"""Frames that are read and resampled at once, at usual rates; see `block_frames`."""

# Limit on the samples of all channels in a block, before and after resampling: 4 MB.
_BLOCK_SAMPLES = 2**20
# soxr buffers about 800 samples of each channel at the lower rate, and several copies of them at the higher rate. A
# channel takes about 10 kB times the ratio of the rates, and all channels at most 80 MB.
_MAX_RATIO_OF_ALL_CHANNELS = 2**13


def block_frames(source_rate: int, target_rate: int, channels: int) -> int:
    """Return the number of source frames to resample at once, at least 1.

    This is `BLOCK_FRAMES`, unless there are very many channels, or the resampled block would be much longer.
    """
    return max(1, min(BLOCK_FRAMES, _BLOCK_SAMPLES * source_rate // (channels * max(source_rate, target_rate))))


def margin_frames(source_rate: int, target_rate: int) -> int:
    """Return the margin to add on both sides of the source, in samples at `source_rate`.

    Only every `step`-th sample of the source coincides with a sample of the result. The margin is a multiple of `step`.
    """
    step = source_rate // math.gcd(source_rate, target_rate)
    return step * math.ceil(filter_frames(source_rate, target_rate) / step)


def filter_frames(source_rate: float, target_rate: float) -> int:
    """Return an upper bound of the filter's reach to one side, in samples at `source_rate`."""
    return math.ceil(max(MARGIN_S, MARGIN_SAMPLES / min(source_rate, target_rate)) * source_rate)


class Resampler:
    """A resampler of a signal given in parts (C, N), with silence before the first part and after the last.

    Args:
        source_rate: sample rate of the source in Hz.
        target_rate: sample rate of the result in Hz.
        channels: C.
        num_samples: length of the result in samples per channel; further samples are dropped.

    Raises:
        DataError: resampling so many channels at this ratio of rates would take too much memory.
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int, num_samples: int) -> None:
        self._missing = num_samples
        if channels * max(source_rate, target_rate) > _MAX_RATIO_OF_ALL_CHANNELS * min(source_rate, target_rate):
            raise DataError(
                f"resampling {channels} channels from {source_rate} to {target_rate} Hz takes too much memory; use "
                "fewer channels or an intermediate rate"
            )
        self._block = block_frames(source_rate, target_rate, channels)
        # A broadcast of one zero takes no memory.
        margin = margin_frames(source_rate, target_rate)
        self._margin: Audio = np.broadcast_to(np.zeros((channels, 1), np.float32), (channels, margin))
        self._excess = margin * target_rate // source_rate
        self._stream = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(source_rate, target_rate, channels, dtype="float32", quality="HQ")
            self.push(self._margin)

    def push(self, part: Audio) -> Audio:
        """Return the next samples (C, n) of the result, n ≥ 0, given the next part (C, N)."""
        return _joined(self.pieces(part))

    def pieces(self, part: Audio, *, last: bool = False) -> Iterator[Audio]:
        """Yield the result of `push` in pieces of bounded length; the caller must consume them all."""
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
