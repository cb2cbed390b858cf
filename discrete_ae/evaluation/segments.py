"""Long recordings are scored in segments, of which their score is the mean: in bounded memory, and PESQ and STOI were
made for short ones. Without torch, for `perceptual.py`.

Axes: C channels, n samples.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from discrete_ae.errors import UsageError

Audio = NDArray[np.float32]

MIN_SEGMENT_S = 1.0
"""What is left at the end and is shorter belongs to the segment before."""


def check_segment_seconds(segment_seconds: float) -> float:
    """The length of a segment that is asked for.

    Raises:
        UsageError: it is not finite, or shorter than `MIN_SEGMENT_S`.
    """
    if not math.isfinite(segment_seconds) or segment_seconds < MIN_SEGMENT_S:
        wanted = f"a finite number of at least {MIN_SEGMENT_S:g}"
        raise UsageError(f"segment_seconds: expected {wanted}, got {segment_seconds}; give another, or leave it out")
    return segment_seconds


def segment_lengths(num_samples: int, sample_rate: int, segment_seconds: float) -> list[int]:
    """Samples of the segments of a recording of `num_samples` >= 1, together that number."""
    length = max(1, round(min(segment_seconds * sample_rate, num_samples)))
    count, rest = divmod(num_samples, length)
    lengths = [length] * count
    if rest and lengths and rest < MIN_SEGMENT_S * sample_rate:
        lengths[-1] += rest
    elif rest:
        lengths.append(rest)
    return lengths


def cut(blocks: Iterable[Audio], lengths: Iterable[int]) -> Iterator[Audio]:
    """Blocks (C, n), put together and cut into segments of these lengths; fewer or shorter ones where they end."""
    parts: list[Audio] = []
    missing = iter(lengths)
    wanted, there = next(missing, 0), 0
    for block in blocks:
        start = 0
        while wanted and there + block.shape[1] - start >= wanted:
            stop = start + wanted - there
            yield np.concatenate([*parts, block[:, start:stop]], axis=1)
            parts, there, start, wanted = [], 0, stop, next(missing, 0)
        parts.append(block[:, start:])
        there += block.shape[1] - start
    if there and wanted:
        yield np.concatenate(parts, axis=1)


def weighted_mean(values: Sequence[tuple[float, float | None]]) -> float | None:
    """Of (weight, value), without those that are None; None where all are. NaN where one is, whose value was lost."""
    known = [(weight, value) for weight, value in values if value is not None]
    if not known:
        return None
    return math.fsum(weight * value for weight, value in known) / math.fsum(weight for weight, _ in known)
