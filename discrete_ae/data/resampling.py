"""Resampling of audio that arrives in parts, with the very samples that the whole would have."""

import math

import numpy as np
import soxr

from discrete_ae.data.channels import Audio

# soxr's HQ filter looks less far than this to both sides of a sample, at every usual rate.
MARGIN_S = 0.02


def margin_frames(source_rate: int, target_rate: int) -> int:
    """How much of the source to add on both sides: samples at `source_rate`.

    Of the source's samples only each `step`-th falls on a sample of the result: the margin is a multiple of it.
    """
    step = source_rate // math.gcd(source_rate, target_rate)
    return step * math.ceil(MARGIN_S * source_rate / step)


class Resampler:
    """Resamples parts (C, N), with silence before the first and after the last.

    Args:
        source_rate: in Hz.
        target_rate: in Hz.
        channels: C.
        num_samples: length of the result in samples per channel: what lies beyond it is cut off.
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int, num_samples: int) -> None:
        self._missing = num_samples
        self._margin = np.zeros((channels, margin_frames(source_rate, target_rate)), np.float32)
        self._excess = self._margin.shape[1] * target_rate // source_rate
        self._stream = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(source_rate, target_rate, channels, dtype="float32", quality="HQ")
            self._through(self._margin)

    def push(self, part: Audio) -> Audio:
        """The samples (C, n) of the result, n any number from 0 on, that are known with this part (C, N)."""
        return self._through(part)

    def finish(self) -> Audio:
        """The rest (C, n) of the result."""
        if self._stream is None:
            return self._margin[:, :0]
        return self._through(self._margin, last=True)

    def _through(self, part: Audio, *, last: bool = False) -> Audio:
        if self._stream is not None:
            part = self._stream.resample_chunk(np.ascontiguousarray(part.T), last=last).T
            before = min(self._excess, part.shape[1])
            self._excess -= before
            part = part[:, before:]
        part = part[:, : self._missing]
        self._missing -= part.shape[1]
        return np.ascontiguousarray(part)
