"""Static integer model of codes for range coding, saved with the checkpoint that makes the codes.

There are two predictors. "order0" uses the frequency of each entry of a codebook. "context" also uses two contexts: the
entry of the same codebook in the previous frame, and the entry of the previous codebook in the same frame. The
frequency of entry c is `base[c] + frame_weight * n(entry in the previous frame, c) + book_weight * n(entry of the
previous codebook, c)`, where n counts pairs. This smooths the counts towards the frequencies without context, like a
Dirichlet prior of sum(base) / weight pseudo-counts; the weights are fitted. All numbers are integers, so that a file
decodes to the same codes on every machine (range_coder.py).

A checkpoint holds the model as one-dimensional arrays of int32 or int64, each concatenated over all codebooks:

- `codebook_sizes` (K,); the only array if a codebook is too large to be modeled
- `base` (sum of sizes,)
- `weights` (2 * K,): for each codebook, the weight of the previous frame and that of the previous codebook
- `frame_cells`, `frame_counts`, `frame_lengths` (K,): the pairs that occurred with the previous frame, as context *
  size + entry, ascending; the count of each pair; and the number of different pairs in each codebook
- `book_cells`, `book_counts`, `book_lengths`: the same for the previous codebook

Axes: S streams, K codebooks, T frames.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from discrete_ae.codes.code_file import Codes, check_codes, check_room, checked_shape, codes_dtype, in_words
from discrete_ae.codes.range_coder import (
    ContextTable,
    Integers,
    Reader,
    StaticTable,
    Writer,
    code_in_context,
    code_one_by_one,
)

PREDICTORS = ("order0", "context")
MAX_CODEBOOKS = 1 << 10
MAX_SIZE = 1 << 16
"""Largest codebook that is modeled."""
MAX_CONTEXT_SIZE = 1 << 10
"""Largest codebook with contexts; for larger ones, too few of the possible pairs occur in the data of a fit."""
MAX_CELLS = 1 << 25
"""Largest number of possible pairs in all tables of a model; codebooks beyond this limit have no contexts."""
MAX_ROW_TOTAL = 1 << 22
"""Largest sum of the counts of one context. With the limits on the weights and on the base, no frequency table's total
reaches 2^38, so that its product with 2^24 is an exact int64."""
MAX_BASE = 1 << 22
WEIGHTS = (0, *(1 << shift for shift in range(15)))

_KINDS = ("frame", "book")
# For each array: its type, and its smallest and largest allowed value.
_PAIRS = {"cells": (np.int32, 0, 1 << 20), "counts": (np.int32, 1, MAX_ROW_TOTAL), "lengths": (np.int64, 0, 1 << 20)}
_ARRAYS = {
    "codebook_sizes": (np.int64, 2, (1 << 63) - 1),
    "base": (np.int32, 1, MAX_BASE),
    "weights": (np.int32, 0, max(WEIGHTS)),
    **{f"{kind}_{part}": said for kind in _KINDS for part, said in _PAIRS.items()},
}

Arrays = Mapping[str, npt.NDArray[Any]]


class EntropyModel:
    """An entropy model, created by `fit` or `from_arrays` and never changed afterwards.

    It can also code only the first n of its codebooks.
    """

    codebook_sizes: tuple[int, ...]
    """Number of entries of each of the K codebooks."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = {name: array.astype(_ARRAYS[name][0]) for name, array in arrays.items()}
        self.codebook_sizes = tuple(self._arrays["codebook_sizes"].tolist())

    @classmethod
    def fit(cls, codes: Sequence[Codes], codebook_sizes: Sequence[int]) -> "EntropyModel":
        """Fit a model to the codes of recordings, each (S, K, T); without recordings, all entries are equally frequent.

        Raises:
            ValueError: codes have a wrong shape, or are outside of their codebooks.
        """
        sizes = tuple(int(size) for size in codebook_sizes)
        if not sizes or min(sizes) < 2:
            raise ValueError(f"codebook_sizes: expected at least one codebook of at least 2 entries, got {sizes}")
        for recording in codes:
            check_codes(recording, sizes)
        if max(sizes) > MAX_SIZE:
            return cls({"codebook_sizes": np.array(sizes)})
        found: list[dict[str, Integers]] = []
        none = np.zeros(0, np.int64)
        before = np.full(sum(recording[:, 0].size for recording in codes), -1)
        for k, contexts in enumerate(context_sizes(sizes)):
            books = [recording[:, k].astype(np.int64) for recording in codes]
            # Entries of the previous frame in each stream; -1 for its first frame.
            frames = [np.pad(book[:, :-1], ((0, 0), (1, 0)), constant_values=-1) for book in books]
            own, frame = (np.concatenate([none, *(a.ravel() for a in part)]) for part in (books, frames))
            found.append(_fitted(sizes[k], contexts, own, [frame, before]))
            before = own
        return cls({name: np.concatenate([one[name] for one in found]) for name in _ARRAYS})

    @property
    def available(self) -> bool:
        """True if the model can code; False if a codebook has more than 65536 entries."""
        return max(self.codebook_sizes) <= MAX_SIZE

    def check_codebooks(self, codebook_sizes: Sequence[int]) -> None:
        """Check that these are the sizes of the model's codebooks, or of its first codebooks.

        Raises:
            ValueError: the model is for other codebooks.
        """
        if tuple(codebook_sizes) != self.codebook_sizes[: len(codebook_sizes)]:
            raise ValueError(
                f"entropy model: expected one for codebooks of {in_words(codebook_sizes)}, "
                f"got one for {in_words(self.codebook_sizes)}"
            )

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name, for a checkpoint; see the module."""
        return {name: array.copy() for name, array in self._arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "EntropyModel":
        """Return the model from the arrays of `to_arrays`, which may come from an untrusted source.

        Raises:
            ValueError: an array is missing, unknown, or invalid.
        """
        if unknown := set(arrays) - set(_ARRAYS):
            raise ValueError(f"entropy model: unknown array {min(unknown)[:80]}")
        found = {name: _integers(name, np.asarray(array)) for name, array in arrays.items()}
        sizes = tuple(found.get("codebook_sizes", np.zeros(0, int)).tolist())
        if not 1 <= len(sizes) <= MAX_CODEBOOKS:
            raise ValueError(f"codebook_sizes: expected 1 to {MAX_CODEBOOKS} codebooks, got {len(sizes)}")
        expected = set(_ARRAYS) if max(sizes) <= MAX_SIZE else {"codebook_sizes"}
        if set(found) != expected:
            raise ValueError(f"entropy model: expected the arrays {', '.join(sorted(expected))}")
        if len(expected) > 1:
            _split(found, "base", sizes)
            weights = found["weights"]
            if len(weights) != 2 * len(sizes) or not np.isin(weights, WEIGHTS).all():
                raise ValueError(
                    f"weights: expected {2 * len(sizes)} powers of two or zeros, got {len(weights)} numbers"
                )
            for i, kind in enumerate(_KINDS):
                _check_pairs(found, kind, sizes, [contexts[i] for contexts in context_sizes(sizes)], weights[i::2])
        return cls(found)

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the arrays' names and values, whatever their integer types."""
        digest = hashlib.sha256()
        for name, array in sorted(self._arrays.items()):
            digest.update(f"{name} {len(array)}\n".encode())
            digest.update(array.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def encode(self, codes: Codes, predictor: str) -> bytes:
        """Return codes (S, K, T) as bytes; K may be smaller than the model's number of codebooks.

        Raises:
            ValueError: codes have a wrong shape or are outside of their codebooks, or the model is not `available`.
        """
        _, codebooks, _ = checked_shape(codes)
        check_codes(codes, self.codebook_sizes[:codebooks])
        writer = Writer()
        self._code(codes.copy(), predictor, writer)
        return writer.payload()

    def decode(
        self, payload: bytes, num_streams: int, num_frames: int, predictor: str, num_codebooks: int | None = None
    ) -> Codes:
        """Decode bytes of `encode` to codes (S, K, T) in the smallest unsigned type, by default for all codebooks.

        Raises:
            ValueError: the payload is too short for so many codes, or does not hold codes of this model; or the model
                is not `available`.
        """
        sizes = self.codebook_sizes[:num_codebooks]
        shape = num_streams, len(sizes), num_frames
        check_room(shape, len(payload) + 8)  # the coder omits up to 8 bytes
        codes = np.zeros(shape, codes_dtype(sizes))
        reader = Reader(payload)
        self._code(codes, predictor, reader)
        reader.check_end()
        return codes

    def _code(self, codes: Codes, predictor: str, coder: Reader | Writer) -> None:
        if not self.available:
            raise ValueError(f"expected codebooks of at most {MAX_SIZE} entries, got {self.codebook_sizes}")
        assert predictor in PREDICTORS
        if predictor == "order0":
            code_one_by_one(self._order0, codes, coder)
        else:
            code_in_context(self._context, codes, coder)

    @cached_property
    def _order0(self) -> list[StaticTable]:
        ends = np.cumsum(self.codebook_sizes)[:-1]
        return [StaticTable(base) for base in np.split(self._arrays["base"].astype(np.int64), ends)]

    @cached_property
    def _context(self) -> list[ContextTable | StaticTable]:
        def added(kind: str, k: int, weight: int) -> tuple[Integers, Integers]:
            """Return the contexts that were seen, and the frequencies that each adds."""
            size, end = self.codebook_sizes[k], np.cumsum(self._arrays[f"{kind}_lengths"])[k]
            part = slice(end - self._arrays[f"{kind}_lengths"][k], end)
            context, entry = np.divmod(self._arrays[f"{kind}_cells"][part].astype(np.int64), size)
            seen, row = np.unique(context, return_inverse=True)
            rows = np.zeros((len(seen), size), np.int64)
            rows[row, entry] = self._arrays[f"{kind}_counts"][part].astype(np.int64) * weight
            return seen, rows

        weights = self._arrays["weights"].reshape(-1, 2).tolist()
        return [
            ContextTable(static.base, [added(kind, k, weight) for kind, weight in zip(_KINDS, weights[k], strict=True)])
            if any(weights[k])
            else static
            for k, static in enumerate(self._order0)
        ]


def context_sizes(codebook_sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return for each codebook the sizes of its two contexts, previous frame and previous codebook; 0 for none."""
    found, cells = [], 0
    for k, size in enumerate(codebook_sizes):
        before = codebook_sizes[k - 1] if k > 0 else 0
        cells += size * (size + before)
        small = size <= MAX_CONTEXT_SIZE and cells <= MAX_CELLS
        found.append((size, before if before <= MAX_CONTEXT_SIZE else 0) if small else (0, 0))
    return found


def _fitted(size: int, contexts: tuple[int, int], codes: Integers, given: Sequence[Integers]) -> dict[str, Integers]:
    """Fit the arrays of one codebook.

    Smoothing and weights are chosen for the fewest bits on a held-out quarter of the codes.

    Args:
        size: number of entries of the codebook.
        contexts: sizes of the contexts, from `context_sizes`.
        codes: entries (N,), in any order that keeps neighbors together.
        given: entries (N,) of each kind of context; -1 where a code has no context.
    """
    # Whole stretches are held out: single frames would be too similar to their neighbors in the counts.
    stretch = max(1, min(64, len(codes) // 8))
    held_out = np.arange(len(codes)) // stretch % 4 == 3
    seen, tested = ~held_out, np.flatnonzero(held_out)[: 1 << 14]

    counts = np.bincount(codes[seen], minlength=size)
    smoothed = [(counts << shift) + 1 for shift in range(9)]
    smoothing = int(np.argmin([-np.log2(each[codes[tested]] / each.sum()).sum() for each in smoothed]))
    weights: Sequence[int] = (0, 0)
    if any(contexts) and len(tested):
        trial = _base(size, codes[seen], smoothing)
        evidence = []
        for n, entries in zip(contexts, given, strict=True):
            pairs, own = _pairs(size, n, entries[seen], codes[seen]), np.minimum(entries[tested], max(n, 1) - 1)
            evidence.append(np.stack([pairs[own, codes[tested]], pairs.sum(1)[own]]) * (entries[tested] >= 0))
        weights = _weights(np.stack([trial[codes[tested]], np.full(len(tested), trial.sum())]), *evidence)
    arrays = {"codebook_sizes": np.array([size]), "base": _base(size, codes, smoothing), "weights": np.array(weights)}
    for i, kind in enumerate(_KINDS):
        counted = _pairs(size, contexts[i] if weights[i] else 0, given[i], codes).ravel()
        cells = np.flatnonzero(counted)
        arrays["weights"][i] *= bool(len(cells))
        arrays |= {f"{kind}_cells": cells, f"{kind}_counts": counted[cells], f"{kind}_lengths": np.array([len(cells)])}
    return arrays


def _base(size: int, codes: Integers, smoothing: int) -> Integers:
    """Return frequencies (size,) of at least 1, roughly proportional to count * 2^smoothing + 1."""
    counted = (np.bincount(codes, minlength=size).astype(np.int64) << smoothing) + 1
    # Large enough for rare entries; with contexts, small compared with the weight of a count.
    total = 1 << 16 if size <= MAX_CONTEXT_SIZE else MAX_BASE
    return counted * (total - size) // counted.sum() + 1


def _pairs(size: int, contexts: int, given: Integers, codes: Integers) -> Integers:
    """Return the counts (contexts, size) of each entry in each context; a row of zeros if there is no context."""
    known = given >= 0 if contexts else np.zeros(len(given), bool)
    rows = max(contexts, 1)
    counted = np.bincount(given[known] * size + codes[known], minlength=rows * size).reshape(rows, size)
    return counted >> max(0, (int(counted.sum(1).max()) // MAX_ROW_TOTAL).bit_length())


def _weights(base: Integers, frame: Integers, book: Integers) -> list[int]:
    """Return the two weights that take the fewest bits.

    Each argument is (2, N): the frequencies of the entries that occurred, and the totals over all entries.
    """
    best, chosen = np.inf, [0, 0]
    for by_frame in WEIGHTS if frame.any() else (0,):
        for by_book in WEIGHTS if book.any() else (0,):
            own, total = base + by_frame * frame + by_book * book
            bits = -np.log2(own / total).sum()
            if bits < best:
                best, chosen = bits, [by_frame, by_book]
    return chosen


def _integers(name: str, array: npt.NDArray[Any]) -> Integers:
    _, low, high = _ARRAYS[name]
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name}: expected integers with one axis, got {array.dtype} of shape {array.shape}")
    if len(array) and not (low <= int(array.min()) and int(array.max()) <= high):
        raise ValueError(f"{name}: expected {low} to {high}, got values from {array.min()} to {array.max()}")
    return array.astype(np.int64)


def _split(arrays: Arrays, name: str, lengths: Sequence[int]) -> list[Integers]:
    """Split an array into the parts of its codebooks."""
    if sum(lengths) != len(arrays[name]):
        raise ValueError(f"{name}: expected {sum(lengths)} numbers, got {len(arrays[name])}")
    return np.split(arrays[name], np.cumsum(lengths)[:-1])


def _check_pairs(arrays: Arrays, kind: str, sizes: Sequence[int], contexts: Sequence[int], weights: Integers) -> None:
    lengths = arrays[f"{kind}_lengths"].tolist()
    if len(lengths) != len(sizes):
        raise ValueError(f"{kind}_lengths: expected {len(sizes)} numbers, got {len(lengths)}")
    parts = (_split(arrays, f"{kind}_{part}", lengths) for part in ("cells", "counts"))
    for k, (cells, counts) in enumerate(zip(*parts, strict=True)):
        if bool(weights[k]) != bool(len(cells)):
            raise ValueError(
                f"{kind}_counts: expected pairs in codebook {k} if and only if its weight is not 0, got weight "
                f"{weights[k]} and {len(cells)} pairs"
            )
        if not len(cells):
            continue
        most = contexts[k] * sizes[k]
        if int(cells[-1]) >= most or (np.diff(cells) <= 0).any():
            raise ValueError(f"{kind}_cells: expected ascending numbers below {most} in codebook {k}")
        if np.bincount(cells // sizes[k], counts).max() > MAX_ROW_TOTAL:
            raise ValueError(f"{kind}_counts: expected at most {MAX_ROW_TOTAL} in a context of codebook {k}")
