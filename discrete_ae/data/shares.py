"""Assignment of training crops to several sources."""

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

WINDOW = 1000
"""Number of consecutive crops among which each source has its share, rounded up or down to a whole crop."""

_GOLDEN = (math.sqrt(5) - 1) / 2


class Shares:
    """Assignment of a source to every sample number, as a pure function of (seed, number).

    The sample numbers of a window, in random order, are mapped to an even grid of points in [0, 1). Each source owns an
    interval as long as its share, and all numbers mapped to points in it. The share of a source in a window is
    therefore exact to within one crop. The grid shifts by the golden ratio from window to window, so that the shares
    are exact in the long run even if they are not multiples of 1 / `WINDOW`.

    Args:
        weights: weights of the sources, each above 0, in any unit.
        seed: seed of the random order.
        stream: index of one of several independent orders with the same seed.
    """

    def __init__(self, weights: Sequence[float], seed: int, stream: int = 0) -> None:
        self.shares = np.array(weights, dtype=np.float64) / math.fsum(weights)
        self._ends = self.shares.cumsum()
        self._ends[-1] = 1.0
        self._seed = seed
        self._stream = stream

    def __getitem__(self, number: int) -> int:
        """Return the index of a sample number's source, from 0 to len(weights) - 1."""
        if len(self.shares) == 1:
            return 0
        window, place = divmod(number, WINDOW)
        point = (int(_order(self._seed, window, self._stream)[place]) + window * _GOLDEN % 1) / WINDOW
        return int(np.searchsorted(self._ends, point, side="right"))


@functools.lru_cache(maxsize=8)
def _order(seed: int, window: int, stream: int) -> npt.NDArray[np.int64]:
    """Return the random order of the numbers of a window."""
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, window), spawn_key=(2, stream))))
    return random.permutation(WINDOW)
