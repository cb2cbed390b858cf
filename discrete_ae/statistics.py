"""Means with bootstrap intervals (Efron 1979), paired where two things were measured on the same recordings.

Axes: S seeds, F files.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean with its 95 % interval; all NaN where nothing was measured."""

    mean: float
    low: float
    high: float


def mean_interval(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """Mean of values (F,) with the 2.5 and 97.5 percentiles of the means of RESAMPLES resamples of the files.

    NaN values are left out.
    """
    raise NotImplementedError


def paired_difference(first: NDArray[np.float64], second: NDArray[np.float64], seed: int = 0) -> Interval:
    """Mean of first - second, both (S, F), with its 95 % interval over seeds and files.

    A resample draws S seeds and F files, each with replacement and the same ones for both, so that what a recording or
    a seed has in common for both cancels out. Files that are NaN anywhere are left out.

    Raises:
        ValueError: the shapes differ.
    """
    raise NotImplementedError
