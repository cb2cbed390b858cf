"""Student's t for a handful of seeds, of which a bootstrap knows too little."""

import math

import numpy as np
from numpy.typing import NDArray


def half_width(values: NDArray[np.float64]) -> float:
    """Of the 95 % interval around the mean of values (S,), S >= 2, by Student's t."""
    count = len(values)
    return quantile(count - 1) * float(values.std(ddof=1)) / math.sqrt(count)


def quantile(freedom: int, share: float = 0.95) -> float:
    """Below which |t| lies with the probability `share`, t being Student's with `freedom` >= 1 degrees of freedom."""
    low, high = 0.0, math.pi / 2
    while high - low > 1e-15 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _share_within(middle, freedom) < share else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _share_within(angle: float, freedom: int) -> float:
    """Probability of |t| < sqrt(freedom) tan(angle): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    cosine = math.cos(angle)
    is_odd = freedom % 2
    term = cosine if is_odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(3 if is_odd else 2, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if is_odd else math.sin(angle) * total
