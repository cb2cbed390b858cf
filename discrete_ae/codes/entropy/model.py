"""A static integer model of codes, kept with the checkpoint that makes them, and the range coding with it.

Two predictors: "order0" knows how often each entry of a codebook occurs; "context" also which entry the codebook had in
the frame before, and the codebook before it in the same frame. The frequencies are integers throughout
(statistics.py, tables.py), so that a file is decoded to the same codes on every machine. The range coder is that of
R. Bamler, "Understanding Entropy Coding With Asymmetric Numeral Systems (ANS): a Statistician's Perspective",
https://arxiv.org/abs/2201.01741, package `constriction`.

A checkpoint holds the model as arrays, all of one dimension and of type int32 or int64, those of all codebooks one
after the other:

- `codebook_sizes` (K,); without the others where the codes cannot be modelled
- `base` (sum of sizes,)
- `weights` (2 * K,): of the frame before and of the codebook before
- `frame_cells`, `frame_counts`, `frame_lengths` (K,): the pairs, and how many there are in each codebook
- `book_cells`, `book_counts`, `book_lengths`

Axes: S streams, K codebooks, T frames.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from discrete_ae.codes.arrays import Codes, check_codes, checked_shape, codes_dtype
from discrete_ae.codes.entropy.coding import Reader, Writer, code_context, code_order0
from discrete_ae.codes.entropy.statistics import (
    MAX_BASE,
    MAX_ROW_TOTAL,
    MAX_SIZE,
    WEIGHTS,
    Integers,
    Pairs,
    Statistics,
    collect,
    context_sizes,
)
from discrete_ae.codes.entropy.tables import SYMBOLS_PER_BYTE, ContextTable, StaticTable

PREDICTORS = ("order0", "context")
MAX_CODEBOOKS = 1 << 10

_KINDS = ("frame", "book")
_NAMES = (
    "codebook_sizes",
    "base",
    "weights",
    *(f"{k}_{part}" for k in _KINDS for part in ("cells", "counts", "lengths")),
)

Arrays = Mapping[str, npt.NDArray[Any]]


class EntropyModel:
    """Made by `fit` or `from_arrays`; never altered afterwards.

    Codes of fewer codebooks than the model's, the first n, as a residual quantizer gives them, are coded as well.
    """

    codebook_sizes: tuple[int, ...]
    """Entries of each of the K codebooks."""

    def __init__(self, codebook_sizes: tuple[int, ...], statistics: Sequence[Statistics]) -> None:
        self.codebook_sizes = codebook_sizes
        self._statistics = tuple(statistics)

    @classmethod
    def fit(cls, codes: Sequence[Codes], codebook_sizes: Sequence[int]) -> "EntropyModel":
        """Count in the codes of recordings, each (S, K, T); without any, all entries are equally frequent.

        Raises:
            ValueError: codes of another shape, or outside of their codebooks.
        """
        sizes = tuple(int(size) for size in codebook_sizes)
        if not sizes or min(sizes) < 2:
            raise ValueError(f"codebook_sizes: expected at least one codebook of at least 2 entries, got {sizes}")
        for recording in codes:
            check_codes(recording, sizes)
        if max(sizes) > MAX_SIZE:
            return cls(sizes, ())
        found = []
        before: Integers | None = None
        for k, contexts in enumerate(context_sizes(sizes)):
            books = [recording[:, k].astype(np.int64) for recording in codes]
            # Along each stream, with -1 in front of its first frame.
            frames = [np.pad(book[:, :-1], ((0, 0), (1, 0)), constant_values=-1) for book in books]
            own, frame = (
                np.concatenate([np.zeros(0, np.int64), *(a.ravel() for a in part)]) for part in (books, frames)
            )
            found.append(collect(sizes[k], contexts, own, frame, np.full(len(own), -1) if before is None else before))
            before = own
        return cls(sizes, found)

    @property
    def available(self) -> bool:
        """Whether it can code: not where a codebook has more than 65536 entries."""
        return bool(self._statistics)

    def check_codebooks(self, codebook_sizes: Sequence[int]) -> None:
        """Check that it is a model of codes of these codebooks.

        Raises:
            ValueError: it is not.
        """
        if tuple(codebook_sizes) != self.codebook_sizes[: len(codebook_sizes)]:
            raise ValueError(
                f"entropy model: expected one of codebooks of {_shown(codebook_sizes)} entries, "
                f"got one of {_shown(self.codebook_sizes)}"
            )

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return its integers by name, for a checkpoint; see the module."""
        arrays: dict[str, npt.NDArray[Any]] = {"codebook_sizes": np.array(self.codebook_sizes, np.int64)}
        if self.available:
            known = self._statistics
            arrays["base"] = np.concatenate([one.base for one in known]).astype(np.int32)
            arrays["weights"] = np.array([[one.frame.weight, one.book.weight] for one in known], np.int32).ravel()
            for kind in _KINDS:
                pairs: list[Pairs] = [getattr(one, kind) for one in known]
                arrays[f"{kind}_cells"] = np.concatenate([one.cells for one in pairs]).astype(np.int32)
                arrays[f"{kind}_counts"] = np.concatenate([one.counts for one in pairs]).astype(np.int32)
                arrays[f"{kind}_lengths"] = np.array([len(one.cells) for one in pairs], np.int64)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "EntropyModel":
        """Return the model of what `to_arrays` gave, from a source that need not be trusted.

        Raises:
            ValueError: an array is missing or superfluous, or holds what `to_arrays` cannot have given.
        """
        if "codebook_sizes" not in arrays:
            raise ValueError("entropy model: codebook_sizes missing")
        sizes = tuple(_integers(arrays, "codebook_sizes", 2, (1 << 63) - 1).tolist())
        if not 1 <= len(sizes) <= MAX_CODEBOOKS:
            raise ValueError(f"codebook_sizes: expected 1 to {MAX_CODEBOOKS} codebooks, got {len(sizes)}")
        modelled = max(sizes) <= MAX_SIZE
        if set(arrays) != set(_NAMES if modelled else _NAMES[:1]):
            raise ValueError(f"entropy model: it cannot have the arrays {', '.join(sorted(arrays))[:500]}")
        if not modelled:
            return cls(sizes, ())
        base = _split(arrays, "base", 1, MAX_BASE, sizes)
        weights = _integers(arrays, "weights", 0, max(WEIGHTS))
        if len(weights) != 2 * len(sizes) or not np.isin(weights, WEIGHTS).all():
            raise ValueError(f"weights: expected {2 * len(sizes)} powers of two or zeros, got {len(weights)} numbers")
        contexts = context_sizes(sizes)
        frame, book = (
            _pairs(arrays, kind, sizes, [of[i] for of in contexts], weights[i::2]) for i, kind in enumerate(_KINDS)
        )
        return cls(sizes, [Statistics(*parts) for parts in zip(base, frame, book, strict=True)])

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of its names and integers, whatever their types."""
        digest = hashlib.sha256()
        for name, array in sorted(self.to_arrays().items()):
            digest.update(f"{name} {len(array)}\n".encode())
            digest.update(array.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def encode(self, codes: Codes, predictor: str) -> bytes:
        """Return (S, K, T) codes as bytes; of fewer codebooks than the model's, the first ones.

        Raises:
            ValueError: codes of another shape or outside of their codebooks, or the model is not `available`.
        """
        _, codebooks, _ = checked_shape(codes)
        check_codes(codes, self.codebook_sizes[:codebooks])
        writer = Writer()
        self._code(codes.copy(), predictor, writer)
        return writer.payload()

    def decode(
        self, payload: bytes, num_streams: int, num_frames: int, predictor: str, num_codebooks: int | None = None
    ) -> Codes:
        """Return bytes of `encode` as codes (S, K, T) in the smallest unsigned type, by default of all codebooks.

        Raises:
            ValueError: the payload cannot hold so many codes, or does not hold codes of this model, or the model is not
                `available`.
        """
        num_codebooks = len(self.codebook_sizes) if num_codebooks is None else num_codebooks
        # The coder holds back up to 8 bytes. Before anything is allocated.
        most = SYMBOLS_PER_BYTE * (len(payload) + 8)
        if num_streams * num_codebooks * num_frames > most:
            raise ValueError(
                f"payload: {len(payload)} bytes hold at most {most} codes, "
                f"not {num_streams} x {num_codebooks} x {num_frames}"
            )
        codes = np.zeros((num_streams, num_codebooks, num_frames), codes_dtype(self.codebook_sizes[:num_codebooks]))
        reader = Reader(payload)
        self._code(codes, predictor, reader)
        reader.check_end()
        return codes

    def _code(self, codes: Codes, predictor: str, coder: Reader | Writer) -> None:
        if not self.available:
            raise ValueError(f"expected codebooks of at most {MAX_SIZE} entries, got {self.codebook_sizes}")
        if predictor == "order0":
            code_order0(self._order0, codes, coder)
        elif predictor == "context":
            code_context(self._context, codes, coder)
        else:
            raise ValueError(f"predictor: expected one of {', '.join(PREDICTORS)}, got {predictor!r}")

    @cached_property
    def _order0(self) -> list[StaticTable]:
        return [StaticTable.of(statistics.base) for statistics in self._statistics]

    @cached_property
    def _context(self) -> list[ContextTable | StaticTable]:
        return [
            ContextTable(statistics, contexts) if statistics.frame.weight or statistics.book.weight else static
            for statistics, contexts, static in zip(
                self._statistics, context_sizes(self.codebook_sizes), self._order0, strict=True
            )
        ]


def _shown(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes[:16])) + (", …" if len(sizes) > 16 else "")


def _integers(arrays: Arrays, name: str, low: int, high: int) -> Integers:
    array = np.asarray(arrays[name])
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name}: expected a row of integers, got {array.dtype} of shape {array.shape}")
    if len(array) and not (low <= int(array.min()) and int(array.max()) <= high):
        raise ValueError(f"{name}: expected {low} to {high}, got values from {array.min()} to {array.max()}")
    return array.astype(np.int64)


def _split(arrays: Arrays, name: str, low: int, high: int, lengths: Sequence[int]) -> list[Integers]:
    """The numbers of each codebook."""
    array = _integers(arrays, name, low, high)
    if sum(lengths) != len(array):
        raise ValueError(f"{name}: expected {sum(lengths)} numbers, got {len(array)}")
    return np.split(array, np.cumsum(lengths)[:-1])


def _pairs(arrays: Arrays, kind: str, sizes: Sequence[int], contexts: Sequence[int], weights: Integers) -> list[Pairs]:
    lengths = _integers(arrays, f"{kind}_lengths", 0, 1 << 20).tolist()
    if len(lengths) != len(sizes):
        raise ValueError(f"{kind}_lengths: expected {len(sizes)} numbers, got {len(lengths)}")
    cells = _split(arrays, f"{kind}_cells", 0, 1 << 20, lengths)
    counts = _split(arrays, f"{kind}_counts", 1, MAX_ROW_TOTAL, lengths)
    found = [Pairs(*parts) for parts in zip(cells, counts, weights.tolist(), strict=True)]
    for k, (size, n, pairs) in enumerate(zip(sizes, contexts, found, strict=True)):
        if bool(pairs.weight) != bool(len(pairs.cells)):
            raise ValueError(
                f"{kind}_counts: expected pairs only where the weight is not 0, and there, in codebook {k}"
            )
        if not pairs.weight:
            continue
        if int(pairs.cells[-1]) >= n * size or (np.diff(pairs.cells) <= 0).any():
            raise ValueError(f"{kind}_cells: expected ascending numbers below {n * size} in codebook {k}")
        if np.bincount(pairs.cells // size, pairs.counts).max() > MAX_ROW_TOTAL:
            raise ValueError(f"{kind}_counts: expected at most {MAX_ROW_TOTAL} in a context of codebook {k}")
    return found
