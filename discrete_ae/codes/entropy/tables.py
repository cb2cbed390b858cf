"""Frequency tables as the range coder takes them: integers that sum to 2^24, by integer arithmetic alone.

`constriction` computes the lower bound of entry i as floor((w_0 + … + w_{i-1}) * scale) + i, where
scale = (2^24 - n) / (w_0 + … + w_{n-1}) and the w are floats (its `fast_quantized_cdf`, taken for `perfect=False`). We
give it whole numbers w >= 0 that sum to exactly 2^24 - n. Every partial sum is then a whole number below 2^24, which
float32 holds exactly, the scale is exactly 1, and nothing is ever rounded: entry i has the frequency w_i + 1 of 2^24 on
every machine. `tests/codes/entropy/test_coding.py` holds the bytes against exact arithmetic.

With contexts, a table of all 256 entries for every symbol would be slow: an entry is coded in two steps of 16, its
group and then its place in the group. A frequency is a sum over `Part`s, and so are the running sums of frequencies
that the coder needs; those of each part are made once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from constriction import stream  # type: ignore[import-untyped]

from discrete_ae.codes.entropy.statistics import Integers, Pairs, Statistics

PRECISION = 24
ONE = 1 << PRECISION
SYMBOLS_PER_BYTE = 42
"""No byte holds more: no entry has more than 7/8 of the frequency (but for 2^-20 of rounding), so that each costs at
least 0.1926 bits."""

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class StaticTable:
    """One table for all symbols of a codebook."""

    weights: Weights
    """(size,) as the coder takes them."""
    model: object
    """The coder's own form of them."""

    @classmethod
    def of(cls, base: Integers) -> "StaticTable":
        """Return the table of frequencies (size,), all at least 1."""
        raised = base + lift(base.max(), base.sum(), len(base))
        weights = to_weights(np.cumsum(raised)[None])[0]
        return cls(weights, stream.model.Categorical(weights, perfect=False))


@dataclass(frozen=True, eq=False)
class Part:
    """What one kind of context adds to the frequencies, as running sums over groups of entries and within each."""

    groups: Integers | npt.NDArray[np.int32]
    """(R, groups)."""
    places: Integers | npt.NDArray[np.int32]
    """(R * groups, width)."""
    largest: Integers | npt.NDArray[np.int32]
    """(R,) the largest frequency of a row."""
    row_of: npt.NDArray[np.intp]
    """The row of each context, the last for none: those that were never seen share row 0, of zeros."""
    weight: int = 1

    @classmethod
    def of(cls, rows: npt.NDArray[np.integer], width: int, row_of: npt.NDArray[np.intp], weight: int = 1) -> "Part":
        """Return the sums of frequencies (R, size), in their type."""
        padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % width)))
        places = np.cumsum(padded.reshape(len(rows), -1, width), 2, dtype=rows.dtype)
        groups = np.cumsum(places[:, :, -1], 1, dtype=rows.dtype)
        return cls(groups, places.reshape(-1, width), rows.max(1), row_of, weight)

    @classmethod
    def of_pairs(cls, pairs: Pairs, size: int, contexts: int, width: int) -> "Part":
        """Return the sums of pairs that were counted for `contexts` different contexts."""
        seen, row = np.unique(pairs.cells // size, return_inverse=True)
        row_of = np.zeros(contexts + 1, np.intp)
        row_of[seen] = np.arange(1, len(seen) + 1)
        counts = np.zeros((len(seen) + 1, size), np.int32)
        counts[row + 1, pairs.cells % size] = pairs.counts
        return cls.of(counts, width, row_of, pairs.weight)


class ContextTable:
    """The tables of one codebook with contexts.

    Args:
        statistics: what was counted.
        contexts: as `context_sizes` gives them.
    """

    def __init__(self, statistics: Statistics, contexts: tuple[int, int]) -> None:
        self.size = len(statistics.base)
        self.width = self.size if self.size <= 16 else 1 << ((self.size - 1).bit_length() + 1) // 2
        """Of a group: entry = group * width + place. With up to 16 entries there is one group, and no step for it."""
        only = np.zeros(1, np.intp)
        self._base = Part.of(statistics.base[None], self.width, only)
        self._ones = Part.of(np.ones((1, self.size), np.int64), self.width, only)
        self._parts = [
            (i, Part.of_pairs(pairs, self.size, contexts[i], self.width))
            for i, pairs in enumerate((statistics.frame, statistics.book))
            if pairs.weight
        ]

    def given(self, contexts: Sequence[Integers]) -> "Given":
        """Return the tables of N symbols by the entries of the frame and codebook before, each (N,), -1 for none."""
        rows = [(self._base, np.zeros(len(contexts[0]), np.intp))]
        rows += [(part, part.row_of[contexts[i]]) for i, part in self._parts]
        # The largest of each part, added up, is at least the largest of the sums.
        sums = _total([(part.groups, at, part.weight) for part, at in rows])
        largest = _total([(part.largest, at, part.weight) for part, at in rows])
        raised = cast(Integers, lift(largest, sums[:, -1], self.size))
        return Given(rows, self._ones, raised, sums + raised[:, None] * self._ones.groups)


@dataclass(frozen=True, eq=False)
class Given:
    """The tables of N symbols whose contexts are known."""

    rows: list[tuple[Part, npt.NDArray[np.intp]]]
    ones: Part
    raised: Integers
    """(N,) added to every entry's frequency, so that none has more than 7/8."""
    sums: Integers

    def groups(self) -> Weights:
        """Return weights (N, groups) of the groups; a single group has nothing to be coded."""
        return to_weights(self.sums)

    def places(self, groups: Integers) -> Weights:
        """Return weights (N, width) of the places in these groups (N,)."""
        count = self.sums.shape[1]
        sums = _total([(part.places, at * count + groups, part.weight) for part, at in self.rows])
        return to_weights(sums + self.raised[:, None] * self.ones.places.take(groups, 0))


def to_weights(sums: Integers) -> Weights:
    """Return the coder's weights (N, n) of cumulative frequencies (N, n), the last of each row above 0, below 2^39."""
    bounds = sums * (ONE - sums.shape[1]) // sums[:, -1:]
    bounds[:, 1:] -= bounds[:, :-1].copy()
    return cast(Weights, bounds.astype(np.float32))


def lift(largest: Integers | np.int64, total: Integers | np.int64, size: int) -> Integers | np.int64:
    """Return what to add to each of `size` entries for the largest to have at most 7/8 of the total: mostly 0."""
    return np.maximum(0, -((7 * total - 8 * largest) // (7 * size - 8)))


def _total(parts: Sequence[tuple[npt.NDArray[np.integer], npt.NDArray[np.intp], int]]) -> Integers:
    """The weighted sum of rows."""
    return cast(Integers, sum(np.multiply(table.take(at, 0), weight, dtype=np.int64) for table, at, weight in parts))
