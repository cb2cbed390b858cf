"""An entropy model as arrays of integers for a checkpoint, and back from one that need not be trusted.

The arrays, all of one dimension and of type int32 or int64, those of all codebooks one after the other:

- `codebook_sizes` (K,); without the others where the codes cannot be modelled
- `base` (sum of sizes,)
- `weights` (2 * K,): of the frame before and of the codebook before
- `frame_cells`, `frame_counts`, `frame_lengths` (K,): the pairs, and how many there are in each codebook
- `book_cells`, `book_counts`, `book_lengths`
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from discrete_ae.codes.entropy.statistics import (
    MAX_BASE,
    MAX_ROW_TOTAL,
    MAX_SIZE,
    WEIGHTS,
    Integers,
    Pairs,
    Statistics,
    context_sizes,
)

KINDS = ("frame", "book")
NAMES = ("base", "weights", *(f"{kind}_{part}" for kind in KINDS for part in ("cells", "counts", "lengths")))
MAX_CODEBOOKS = 1 << 10


def to_arrays(codebook_sizes: tuple[int, ...], statistics: Sequence[Statistics]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the module's description."""
    arrays: dict[str, npt.NDArray[Any]] = {"codebook_sizes": np.array(codebook_sizes, np.int64)}
    if not statistics:
        return arrays
    arrays["base"] = np.concatenate([one.base for one in statistics]).astype(np.int32)
    arrays["weights"] = np.array([[one.frame.weight, one.book.weight] for one in statistics], np.int32).ravel()
    for kind in KINDS:
        pairs: list[Pairs] = [getattr(one, kind) for one in statistics]
        arrays[f"{kind}_cells"] = np.concatenate([one.cells for one in pairs]).astype(np.int32)
        arrays[f"{kind}_counts"] = np.concatenate([one.counts for one in pairs]).astype(np.int32)
        arrays[f"{kind}_lengths"] = np.array([len(one.cells) for one in pairs], np.int64)
    return arrays


def from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[tuple[int, ...], list[Statistics]]:
    """The codebook sizes and, where there is a model of them, what it knows; nothing larger than the arrays is made.

    Raises:
        ValueError: see `EntropyModel.from_arrays`.
    """
    sizes = _sizes(arrays)
    if max(sizes) > MAX_SIZE:
        _check_names(arrays, ("codebook_sizes",))
        return sizes, []
    _check_names(arrays, ("codebook_sizes", *NAMES))
    base = _split("base", _integers(arrays, "base", 1, MAX_BASE), sizes)
    weights = _integers(arrays, "weights", 0, max(WEIGHTS))
    if len(weights) != 2 * len(sizes) or not np.isin(weights, WEIGHTS).all():
        raise ValueError(f"weights: expected {2 * len(sizes)} powers of two or zeros, got {len(weights)} numbers")
    contexts = context_sizes(sizes)
    frame, book = (
        _pairs(arrays, kind, sizes, [of[i] for of in contexts], weights[i::2]) for i, kind in enumerate(KINDS)
    )
    return sizes, [Statistics(*parts) for parts in zip(base, frame, book, strict=True)]


def fingerprint(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of names and numbers, whatever their types."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {len(arrays[name])}\n".encode())
        digest.update(arrays[name].astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def _sizes(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[int, ...]:
    if "codebook_sizes" not in arrays:
        raise ValueError("entropy model: codebook_sizes missing")
    sizes = _integers(arrays, "codebook_sizes", 2, (1 << 63) - 1)
    if not 1 <= len(sizes) <= MAX_CODEBOOKS:
        raise ValueError(f"codebook_sizes: expected 1 to {MAX_CODEBOOKS} codebooks, got {len(sizes)}")
    return tuple(int(size) for size in sizes)


def _check_names(arrays: Mapping[str, npt.NDArray[Any]], names: tuple[str, ...]) -> None:
    if set(arrays) != set(names):
        raise ValueError(
            f"entropy model: expected the arrays {', '.join(names)}, got {', '.join(sorted(arrays))[:500]}"
        )


def _integers(arrays: Mapping[str, npt.NDArray[Any]], name: str, low: int, high: int) -> Integers:
    array = np.asarray(arrays[name])
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name}: expected a row of integers, got {array.dtype} of shape {array.shape}")
    if len(array) and not (low <= int(array.min()) and int(array.max()) <= high):
        raise ValueError(f"{name}: expected {low} to {high}, got values from {array.min()} to {array.max()}")
    return array.astype(np.int64)


def _split(name: str, array: Integers, lengths: Sequence[int]) -> list[Integers]:
    if sum(lengths) != len(array):
        raise ValueError(f"{name}: expected {sum(lengths)} numbers, got {len(array)}")
    return np.split(array, np.cumsum(lengths)[:-1])


def _pairs(
    arrays: Mapping[str, npt.NDArray[Any]], kind: str, sizes: Sequence[int], contexts: list[int], weights: Integers
) -> list[Pairs]:
    lengths = [int(n) for n in _integers(arrays, f"{kind}_lengths", 0, 1 << 20)]
    if len(lengths) != len(sizes):
        raise ValueError(f"{kind}_lengths: expected {len(sizes)} numbers, got {len(lengths)}")
    cells = _split(f"{kind}_cells", _integers(arrays, f"{kind}_cells", 0, 1 << 20), lengths)
    counts = _split(f"{kind}_counts", _integers(arrays, f"{kind}_counts", 1, MAX_ROW_TOTAL), lengths)
    found = []
    for k, (size, n, weight) in enumerate(zip(sizes, contexts, weights, strict=True)):
        if len(cells[k]) and (int(cells[k][-1]) >= n * size or (np.diff(cells[k]) <= 0).any()):
            raise ValueError(f"{kind}_cells: expected ascending numbers below {n * size} in codebook {k}")
        if bool(weight) != bool(len(cells[k])):
            raise ValueError(
                f"{kind}_counts: expected pairs where the weight is not 0, and only there, in codebook {k}"
            )
        if len(cells[k]) and np.bincount(cells[k] // size, counts[k]).max() > MAX_ROW_TOTAL:
            raise ValueError(f"{kind}_counts: expected at most {MAX_ROW_TOTAL} in a context of codebook {k}")
        found.append(Pairs(cells[k], counts[k], int(weight)))
    return found
