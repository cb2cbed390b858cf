"""Means with bootstrap intervals (Efron 1979), paired where two things were measured on the same recordings.

Axes: S seeds, F files.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000

_AT_ONCE = 2**21  # values drawn at a time: 16 MB


class Interval(NamedTuple):
    """A mean with its 95 % interval; all NaN where nothing was measured, low and high of a single value."""

    mean: float
    low: float
    high: float


def mean_interval(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """Mean of values (F,) with the 2.5 and 97.5 percentiles of the means of RESAMPLES resamples of the files.

    NaN values are left out. Of few values the percentiles lie too close: of 5, 9, 20 and 50 normal ones the interval
    held the true mean 85, 90, 93 and 94 % of the time in a simulation.
    """
    return _interval(values[None, ~np.isnan(values)], seed)


def paired_difference(first: NDArray[np.float64], second: NDArray[np.float64], seed: int = 0) -> Interval:
    """Mean of first - second, both (S, F), with its 95 % interval over seeds and files.

    A resample draws S seeds and F files, each with replacement and the same ones for both, so that what a recording or
    a seed has in common for both cancels out. Files that are NaN anywhere are left out. With one seed the interval is
    that over files alone.

    Raises:
        ValueError: the shapes differ.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"expected two arrays of one shape (seeds, files), got {first.shape} and {second.shape}")
    difference = first - second
    return _interval(difference[:, ~np.isnan(difference).any(axis=0)], seed)


def _interval(values: NDArray[np.float64], seed: int) -> Interval:
    """Of values (S, F), none of them NaN."""
    if not values.size:
        return Interval(np.nan, np.nan, np.nan)
    mean = float(values.mean())
    if values.size == 1:  # every resample is that value, which says nothing of how far off it is
        return Interval(mean, np.nan, np.nan)
    low, high = np.percentile(resampled_means(values, seed), (2.5, 97.5))
    return Interval(mean, float(low), float(high))


def resampled_means(values: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Means (RESAMPLES,) of values (S, F) of which rows and columns are drawn anew, with replacement."""
    return np.concatenate(list(_blocks(values, np.random.default_rng(seed))))


def _blocks(values: NDArray[np.float64], random: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    seeds, files = values.shape
    block = max(1, _AT_ONCE // files)
    for start in range(0, RESAMPLES, block):
        count = min(block, RESAMPLES - start)
        # How often each seed is drawn; then one mean over the seeds drawn for each file.
        shares = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        drawn = random.integers(files, size=(count, files))
        yield np.take_along_axis(shares @ values, drawn, axis=1).mean(axis=1)
