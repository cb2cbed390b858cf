"""Long recordings are scored in segments: in bounded memory, and PESQ and STOI were made for short ones.

Axes: C channels, n samples.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]

MIN_SEGMENT_S = 1.0
"""What is left at the end and is shorter belongs to the segment before."""


def segment_lengths(num_samples: int, sample_rate: int, segment_seconds: float) -> list[int]:
    """Samples of the segments of a recording of `num_samples` >= 1, together that number."""
    length = max(1, round(segment_seconds * sample_rate))
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
