"""Frequency tables as the range coder takes them: integers that sum to 2^24, by integer arithmetic alone.

`constriction` computes the lower bound of entry i as floor((w_0 + … + w_{i-1}) * scale) + i, where
scale = (2^24 - n) / (w_0 + … + w_{n-1}) and the w are floats (its `fast_quantized_cdf`, taken for `perfect=False`). We
give it whole numbers w >= 0 that sum to exactly 2^24 - n. Every partial sum is then a whole number below 2^24, which
float32 holds exactly, the scale is exactly 1, and nothing is ever rounded: entry i has the frequency w_i + 1 of 2^24 on
every machine. `tests/codes/entropy/test_coding.py` holds the bytes against exact arithmetic.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from constriction import stream  # type: ignore[import-untyped]

from discrete_ae.codes.entropy.statistics import Integers

PRECISION = 24
ONE = 1 << PRECISION
SYMBOLS_PER_BYTE = 42
"""No byte holds more: no entry has more than 7/8 of the frequency (but for 2^-20 of rounding), so that each costs at
least 0.1926 bits."""

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class StaticTable:
    """One table for all symbols of a codebook."""

    size: int
    weights: Weights
    """(size,) as the coder takes them."""
    model: object
    """The coder's own form of them."""

    @classmethod
    def of(cls, base: Integers) -> "StaticTable":
        """Of frequencies (size,), all at least 1."""
        raised = base + lift(base.max(), base.sum(), len(base))
        weights = to_weights(np.cumsum(raised)[None])[0]
        return cls(len(base), weights, stream.model.Categorical(weights, perfect=False))


def to_weights(sums: Integers) -> Weights:
    """Cumulative frequencies (N, n), the last of each row above 0 and below 2^39, to the coder's weights (N, n)."""
    bounds = sums * (ONE - sums.shape[1]) // sums[:, -1:]
    bounds[:, 1:] -= bounds[:, :-1].copy()
    return cast(Weights, bounds.astype(np.float32))


def lift(largest: Integers | np.int64, total: Integers | np.int64, size: int) -> Integers | np.int64:
    """What to add to each of `size` entries so that the largest has at most 7/8 of the total: 0, but for few tables."""
    return np.maximum(0, -((7 * total - 8 * largest) // (7 * size - 8)))
