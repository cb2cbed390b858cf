"""What a model of codes knows of one codebook: integers counted in the codes of a fit, and how they are weighed.

The frequency of entry c is `base[c] + frame.weight * n(previous frame's entry, c) + book.weight * n(entry of the
codebook before, c)`: counts of pairs, smoothed towards the frequencies without context, as by a Dirichlet prior whose
strength, sum(base) / weight pseudo-counts, is the weight to choose.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

MAX_SIZE = 1 << 16
"""Entries of the largest codebook that is modelled at all."""
MAX_CONTEXT_SIZE = 1 << 10
"""Entries of the largest codebook with contexts; above it, a fit sees too few of the pairs."""
MAX_CELLS = 1 << 25
"""Pairs that can be told apart in all tables of a model; the later codebooks do without contexts."""
MAX_WEIGHT = 1 << 14
MAX_ROW_TOTAL = 1 << 22
"""Sum of the counts of one context. With the limits of the weights and of the base, no frequency table's total reaches
2^38, so that its product with 2^24 is an exact int64."""
MAX_BASE = 1 << 22

WEIGHTS = (0, *(1 << shift for shift in range(15)))


class Pairs(NamedTuple):
    """Counts of (context, entry), the ones that are not 0."""

    cells: Integers
    """(N,) context * size + entry, ascending."""
    counts: Integers
    """(N,) at least 1."""
    weight: int
    """Of a count, in units of the base."""


class Statistics(NamedTuple):
    """Of one codebook."""

    base: Integers
    """(size,) at least 1: frequencies without context."""
    frame: Pairs
    """The context is the entry of the same codebook in the frame before."""
    book: Pairs
    """The context is the entry of the codebook before in the same frame."""


def context_sizes(codebook_sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """For each codebook the entries of its two contexts, the frame before and the codebook before; 0 for none."""
    found, cells = [], 0
    for k, size in enumerate(codebook_sizes):
        before = codebook_sizes[k - 1] if k > 0 else 0
        cells += size * (size + before)
        small = size <= MAX_CONTEXT_SIZE and cells <= MAX_CELLS
        found.append((size, before if before <= MAX_CONTEXT_SIZE else 0) if small else (0, 0))
    return found


def collect(size: int, contexts: tuple[int, int], codes: Integers, frame: Integers, book: Integers) -> Statistics:
    """Count, and choose the smoothing and the weights that code a held-out quarter in the fewest bits.

    Args:
        size: entries of the codebook.
        contexts: as `context_sizes` gives them.
        codes: (N,) entries, in any order that keeps neighbours together.
        frame: (N,) the same codebook's entry in the frame before, -1 where there is none.
        book: (N,) the entry of the codebook before in the same frame, -1 where there is none.
    """
    # Whole stretches are held out: single frames would resemble their neighbours in the counts too much.
    stretch = max(1, min(64, len(codes) // 8))
    held_out = np.arange(len(codes)) // stretch % 4 == 3
    seen, tested = ~held_out, np.flatnonzero(held_out)[: 1 << 14]

    smoothing = _smoothing(size, codes[seen], codes[tested])
    weights = [0, 0]
    if any(contexts) and len(tested):
        trial = base_frequencies(size, codes[seen], smoothing)
        mass = [
            _conditional(count_pairs(size, n, given[seen], codes[seen]), given[tested], codes[tested])
            for n, given in zip(contexts, (frame, book), strict=True)
        ]
        weights = _weights(trial[codes[tested]], int(trial.sum()), *mass)
    pairs = []
    for n, given, weight in zip(contexts, (frame, book), weights, strict=True):
        counted = count_pairs(size, n if weight else 0, given, codes).ravel()
        cells = np.flatnonzero(counted)
        pairs.append(Pairs(cells, counted[cells], weight if len(cells) else 0))
    return Statistics(base_frequencies(size, codes, smoothing), *pairs)


def base_frequencies(size: int, codes: Integers, smoothing: int) -> Integers:
    """(size,) frequencies of at least 1: a count weighs 2^smoothing times an entry that was never seen."""
    counted = (np.bincount(codes, minlength=size).astype(np.int64) << smoothing) + 1
    # Enough resolution for rare entries, and small beside the weight of a count where contexts are to matter.
    total = 1 << 16 if size <= MAX_CONTEXT_SIZE else MAX_BASE
    return counted * (total - size) // counted.sum() + 1


def count_pairs(size: int, contexts: int, given: Integers, codes: Integers) -> Integers:
    """(contexts, size) how often each entry came in each context; a row of zeros where there is no context."""
    known = given >= 0 if contexts else np.zeros(len(given), bool)
    rows = max(contexts, 1)
    counted = np.bincount(given[known] * size + codes[known], minlength=rows * size).reshape(rows, size)
    return counted >> max(0, (int(counted.sum(1).max()) // MAX_ROW_TOTAL).bit_length())


def _conditional(counted: Integers, given: Integers, codes: Integers) -> Integers:
    """(2, N) the count of each (given, code), and that of its context."""
    own, known = np.minimum(given, len(counted) - 1), given >= 0
    return np.stack([counted[own, codes], counted.sum(1)[own]]) * known


def _smoothing(size: int, seen: Integers, tested: Integers) -> int:
    counts = np.bincount(seen, minlength=size)
    bits = []
    for shift in range(9):
        frequencies = (counts << shift) + 1
        bits.append(-np.log2(frequencies[tested] / frequencies.sum()).sum())
    return int(np.argmin(bits))


def _weights(base: Integers, base_total: int, frame: Integers, book: Integers) -> list[int]:
    best, chosen = np.inf, [0, 0]
    for by_frame in WEIGHTS if frame.any() else (0,):
        for by_book in WEIGHTS if book.any() else (0,):
            hit, total = by_frame * frame + by_book * book
            bits = -np.log2((base + hit) / (base_total + total)).sum()
            if bits < best:
                best, chosen = bits, [by_frame, by_book]
    return chosen
