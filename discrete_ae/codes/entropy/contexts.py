"""The frequency tables of a codebook with contexts, made for many symbols at a time.

A table of all 256 entries for every symbol would be slow: an entry is coded in two steps of 16, its group and then its
place in the group. All sums needed for that are sums of what is precomputed here, since a frequency is a sum.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from discrete_ae.codes.entropy.statistics import Integers, Pairs, Statistics
from discrete_ae.codes.entropy.tables import Weights, lift, to_weights

Counts = npt.NDArray[np.signedinteger[Any]]


@dataclass(frozen=True, eq=False)
class Cumulative:
    """Running sums of rows of frequencies, over the groups of entries and within each group."""

    groups: Counts
    """(R, groups)."""
    places: Counts
    """(R * groups, width)."""
    largest: Counts
    """(R,) the largest frequency of a row."""

    @classmethod
    def of(cls, frequencies: Counts, width: int) -> "Cumulative":
        """Of frequencies (R, groups * width); the sums keep their type."""
        places = np.cumsum(frequencies.reshape(len(frequencies), -1, width), 2, dtype=frequencies.dtype)
        groups = np.cumsum(places[:, :, -1], 1, dtype=frequencies.dtype)
        return cls(groups, places.reshape(-1, width), frequencies.max(1))


@dataclass(frozen=True, eq=False)
class Context:
    """The counts in one kind of context; those that were never seen share row 0, of zeros."""

    row_of: npt.NDArray[np.int32]
    """(contexts + 1,); the last is for no context, -1."""
    counts: Cumulative
    weight: int

    @classmethod
    def of(cls, pairs: Pairs, size: int, contexts: int, width: int) -> "Context":
        """Of the pairs that were counted, for `contexts` different contexts of a codebook with `size` entries."""
        seen, row = np.unique(pairs.cells // size, return_inverse=True)
        row_of = np.zeros(contexts + 1, np.int32)
        row_of[seen] = np.arange(1, len(seen) + 1)
        counts = np.zeros((len(seen) + 1, -(-size // width) * width), np.int32)
        counts[row + 1, pairs.cells % size] = pairs.counts
        return cls(row_of, Cumulative.of(counts, width), pairs.weight)


@dataclass(frozen=True, eq=False)
class ContextTable:
    """All that the tables of one codebook are summed from."""

    size: int
    width: int
    """Of a group: entry = group * width + place. With up to 16 entries there is one group, and no step for it."""
    base: Cumulative
    ones: Cumulative
    """How many entries there are up to each: the sums of a constant added to all of them."""
    contexts: tuple[Context | None, Context | None]

    @classmethod
    def of(cls, statistics: Statistics, contexts: tuple[int, int]) -> "ContextTable":
        """Of what was counted; `contexts` as `context_sizes` gives them."""
        size = len(statistics.base)
        width = size if size <= 16 else 1 << ((size - 1).bit_length() + 1) // 2
        padded = np.zeros((2, 1, -(-size // width) * width), np.int64)
        padded[:, 0, :size] = statistics.base, np.ones(size, np.int64)
        frame, book = (
            Context.of(pairs, size, n, width) if pairs.weight else None
            for pairs, n in zip((statistics.frame, statistics.book), contexts, strict=True)
        )
        return cls(size, width, Cumulative.of(padded[0], width), Cumulative.of(padded[1], width), (frame, book))

    def given(self, frame: Integers, book: Integers) -> "Given":
        """For N symbols: the entry of the frame before and of the codebook before, each (N,), -1 for none."""
        known = [(c, c.row_of[at]) for c, at in zip(self.contexts, (frame, book), strict=True) if c is not None]
        sums: Integers = np.repeat(self.base.groups, len(frame), 0).astype(np.int64)
        largest: Integers = np.repeat(self.base.largest, len(frame)).astype(np.int64)
        for context, rows in known:
            sums += np.multiply(context.counts.groups.take(rows, 0), context.weight, dtype=np.int64)
            largest += np.multiply(context.counts.largest.take(rows), context.weight, dtype=np.int64)
        # The largest of each summand, added up, is at least the largest of the sums.
        raised = np.asarray(lift(largest, sums[:, -1], self.size))
        if raised.any():
            sums += raised[:, None] * self.ones.groups
        return Given(self, known, raised, sums)


@dataclass(frozen=True, eq=False)
class Given:
    """The tables of N symbols whose contexts are known."""

    table: ContextTable
    known: list[tuple[Context, npt.NDArray[np.int32]]]
    raised: Integers
    """(N,) added to every entry's frequency, so that none has more than 7/8."""
    sums: Integers

    def groups(self) -> Weights:
        """(N, groups) weights of the groups; a single group has nothing to be coded."""
        return to_weights(self.sums)

    def places(self, groups: Integers) -> Weights:
        """(N, width) weights of the places in these groups (N,)."""
        sums: Integers = self.table.base.places.take(groups, 0).astype(np.int64)
        count = self.sums.shape[1]
        for context, rows in self.known:
            sums += np.multiply(context.counts.places.take(rows * count + groups, 0), context.weight, dtype=np.int64)
        if self.raised.any():
            sums += self.raised[:, None] * self.table.ones.places.take(groups, 0)
        return to_weights(sums)
