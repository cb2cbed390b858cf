"""Means with 95 % intervals: by the bootstrap (Efron 1979), and by Student's t for a handful of values.

Axes: S rows (mostly seeds), F columns (mostly files), R resamples, T tables.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

RESAMPLES = 10_000
_AT_ONCE = 2**21  # number of values drawn at a time: 16 MB

_KEPT_FILES = 1000  # largest number of files whose draws are kept: 20 MB

Values = NDArray[np.float64]
Counts = NDArray[np.integer]


class Interval(NamedTuple):
    """A mean with its 95 % interval. Without values all fields are NaN; for a single value, low and high are NaN."""

    mean: float
    low: float
    high: float


def mean_interval(values: Values, seed: int = 0) -> Interval:
    """Return the mean of values (F,) with the 2.5 and 97.5 percentiles of the means of RESAMPLES resamples.

    NaN values are left out. The interval is too narrow for few values: for 5, 9, 20 and 50 normal values it contained
    the true mean in 85, 90, 93 and 94 % of the simulated cases.
    """
    return crossed_interval(values[None], seed)


def paired_difference(first: Values, second: Values, seed: int = 0) -> Interval:
    """Return the mean of first - second, both (S, F), with its 95 % interval over seeds and files.

    A resample draws S seeds and F files with replacement, the same for `first` and `second`. Effects that a recording
    or a seed has on both thus cancel out. Files with a NaN in any row are left out. With one seed the interval is over
    files alone.
    """
    difference = first - second
    return crossed_interval(difference[:, ~np.isnan(difference).any(0)], seed)


def unpaired_difference(first: Values, second: Values, seed: int = 0) -> Interval:
    """Return the mean of first (S, F) minus the mean of second (S', F), with its 95 % interval over seeds and files.

    A resample draws S seeds for `first` and S' seeds for `second` independently, since they are not pairs, and the same
    F files for both. Files with a NaN in any row are left out.
    """
    known = ~np.isnan(np.concatenate([first, second])).any(0)
    first, second = first[:, known], second[:, known]
    if not first.size:
        return Interval(math.nan, math.nan, math.nan)
    return _around(float(first.mean() - second.mean()), resampled([first[None], -second[None]], seed)[0])


def crossed_interval(values: Values, seed: int = 0) -> Interval:
    """Return the mean of values (S, F) with its 95 % bootstrap interval over rows and columns; NaN is a missing value.

    A resample draws S rows and F columns with replacement, and takes the mean of the values that are not missing.
    With one row the interval is over columns alone, and vice versa; a single value has no interval.
    """
    is_there = ~np.isnan(values)
    values = values[is_there.any(1)][:, is_there.any(0)]
    mean = float(np.nanmean(values)) if values.size else math.nan
    if values.size < 2:  # every resample would be this value
        return Interval(mean, math.nan, math.nan)
    total, count = resampled([np.stack([np.nan_to_num(values), ~np.isnan(values)])], seed)
    return _around(mean, total[count > 0] / count[count > 0])


def resampled(groups: Sequence[Values], seed: int = 0) -> Values:
    """Return means (T, R) of tables (T, S, F), summed over groups; groups draw separate rows and the same columns."""
    shape = tuple(tables.shape[1] for tables in groups), groups[0].shape[2]
    draws = _kept_draws(*shape, seed) if shape[1] <= _KEPT_FILES else _draws(*shape, seed)
    found = np.zeros((len(groups[0]), 0))
    for rows, columns in draws:
        means = [_means(tables, drawn, columns) for tables, drawn in zip(groups, rows, strict=True)]
        found = np.concatenate([found, np.sum(means, axis=0)], axis=1)
    return found


def _means(tables: Values, rows: Counts, columns: Counts) -> Values:
    """Return means (T, n) of tables (T, S, F) over rows and columns drawn by counts (n, S) and (n, F)."""
    found: Values = ((tables @ columns.T.astype(float)) * rows.T).sum(1) / (tables.shape[1] * tables.shape[2])
    return found


def _draws(groups: tuple[int, ...], files: int, seed: int) -> Iterator[tuple[list[Counts], Counts]]:
    """Yield how often blocks of n resamples draw each row of each group, [(n, S)], and each column, (n, F)."""
    random = np.random.default_rng(seed)
    block = max(1, _AT_ONCE // files)
    for count in [block] * (RESAMPLES // block) + [RESAMPLES % block]:
        rows: list[Counts] = [random.multinomial(size, np.full(size, 1 / size), count) for size in groups]
        columns = random.integers(files, size=(count, files)) + files * np.arange(count)[:, None]
        of_columns = np.bincount(columns.ravel(), minlength=count * files).reshape(count, files)
        yield rows, of_columns.astype(np.min_scalar_type(files))


@lru_cache(maxsize=8)
def _kept_draws(groups: tuple[int, ...], files: int, seed: int) -> list[tuple[list[Counts], Counts]]:
    return list(_draws(groups, files, seed))  # drawing takes most of the time, and all pairs of methods draw the same


def half_width(values: Values) -> float:
    """Return half the width of the 95 % interval around the mean of values (S,), S >= 2, by Student's t."""
    return float(scipy.special.stdtrit(len(values) - 1, 0.975) * values.std(ddof=1)) / math.sqrt(len(values))


def welch_half_width(first: Values, second: Values) -> float:
    """Return half the width of the 95 % interval around the difference of two means of 2 or more values (Welch 1947).

    The degrees of freedom are those of Welch and Satterthwaite, rounded down.
    """
    parts = [float(values.var(ddof=1)) / len(values) for values in (first, second)]
    if (variance := sum(parts)) == 0:
        return 0.0
    freedom = 1 / sum((part / variance) ** 2 / (len(of) - 1) for part, of in zip(parts, (first, second), strict=True))
    # The small number keeps rounding errors from lowering a whole number by 1.
    return float(scipy.special.stdtrit(math.floor(freedom + 1e-9), 0.975)) * math.sqrt(variance)


def _around(mean: float, means: Values) -> Interval:
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(mean, float(low), float(high))
