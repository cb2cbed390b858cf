"""A static integer model of codes, kept with the checkpoint that makes them, and the range coding with it.

Two predictors: "order0" knows how often each entry of a codebook occurs; "context" also which entry the codebook had in
the frame before, and the codebook before it in the same frame. The frequencies are integers throughout
(statistics.py, tables.py), so that a file is decoded to the same codes on every machine. The range coder is that of
R. Bamler, "Understanding Entropy Coding With Asymmetric Numeral Systems (ANS): a Statistician's Perspective",
https://arxiv.org/abs/2201.01741, package `constriction`.

Axes: S streams, K codebooks, T frames.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from discrete_ae.codes.entropy import arrays as stored
from discrete_ae.codes.entropy.coding import Codes, Meter, Reader, Writer, code_context, code_order0
from discrete_ae.codes.entropy.contexts import ContextTable
from discrete_ae.codes.entropy.statistics import MAX_SIZE, Statistics, collect, context_sizes
from discrete_ae.codes.entropy.tables import SYMBOLS_PER_BYTE, StaticTable

Predictor = Literal["order0", "context"]
PREDICTORS: tuple[Predictor, ...] = ("order0", "context")


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
            _check(recording, sizes)
            if recording.shape[1] != len(sizes):
                raise ValueError(f"codes: expected all {len(sizes)} codebooks, got {recording.shape[1]}")
        if max(sizes) > MAX_SIZE:
            return cls(sizes, ())
        before: npt.NDArray[np.int64] | None = None
        found = []
        for k, contexts in enumerate(context_sizes(sizes)):
            own = _joined([recording[:, k] for recording in codes])
            # Along each stream, with -1 in front of its first frame.
            frame = _joined(
                [
                    np.pad(recording[:, k, :-1].astype(np.int64), ((0, 0), (1, 0)), constant_values=-1)
                    for recording in codes
                ]
            )
            book = np.full(len(own), -1) if before is None else before
            found.append(collect(sizes[k], contexts, own, frame, book))
            before = own
        return cls(sizes, found)

    @property
    def available(self) -> bool:
        """Whether it can code: not where a codebook has more than 65536 entries."""
        return bool(self._statistics)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Its integers by name, for a checkpoint (discrete_ae/codes/entropy/arrays.py)."""
        return stored.to_arrays(self.codebook_sizes, self._statistics)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "EntropyModel":
        """Of what `to_arrays` gave, from a source that need not be trusted.

        Raises:
            ValueError: an array is missing or superfluous, or holds what `to_arrays` cannot have given.
        """
        return cls(*stored.from_arrays(arrays))

    @cached_property
    def fingerprint(self) -> str:
        """Of its integers: the first 16 hexadecimal digits of their SHA-256."""
        return stored.fingerprint(self.to_arrays())

    def cross_entropy_bits(self, codes: Codes, predictor: Predictor) -> float:
        """Sum of -log2 of the probabilities that `encode` codes with, over all of (S, K, T).

        Raises:
            ValueError: as `encode`.
        """
        meter = Meter()
        self._code(self._checked(codes), predictor, meter)
        return meter.bits

    def encode(self, codes: Codes, predictor: Predictor) -> bytes:
        """(S, K, T) codes to bytes; of fewer codebooks than the model's, the first ones.

        Raises:
            ValueError: codes of another shape or outside of their codebooks, or the model is not `available`.
        """
        writer = Writer()
        self._code(self._checked(codes), predictor, writer)
        return writer.payload()

    def decode(
        self, payload: bytes, num_streams: int, num_frames: int, predictor: Predictor, num_codebooks: int | None = None
    ) -> Codes:
        """Bytes of `encode` to codes (S, K, T) in the smallest unsigned type; all codebooks if not said otherwise.

        Raises:
            ValueError: the payload cannot hold so many codes, or does not hold codes of this model, or the model is not
                `available`.
        """
        num_codebooks = len(self.codebook_sizes) if num_codebooks is None else num_codebooks
        if not 1 <= num_codebooks <= len(self.codebook_sizes) or num_streams < 1 or num_frames < 1:
            raise ValueError(
                f"expected at least 1 stream and frame, and 1 to {len(self.codebook_sizes)} codebooks, "
                f"got {num_streams}, {num_frames} and {num_codebooks}"
            )
        # The coder holds back up to 8 bytes. Before anything is allocated.
        most = SYMBOLS_PER_BYTE * (len(payload) + 8)
        if num_streams * num_codebooks * num_frames > most:
            raise ValueError(
                f"payload: {len(payload)} bytes hold at most {most} codes, "
                f"not {num_streams} x {num_codebooks} x {num_frames}"
            )
        dtype = np.min_scalar_type(max(self.codebook_sizes[:num_codebooks]) - 1)
        codes = np.zeros((num_streams, num_codebooks, num_frames), dtype)
        reader = Reader(payload)
        self._code(codes, predictor, reader)
        reader.check_end()
        return codes

    def _checked(self, codes: Codes) -> Codes:
        _check(codes, self.codebook_sizes)
        return codes.copy()

    def _code(self, codes: Codes, predictor: Predictor, coder: Meter | Reader | Writer) -> None:
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
            ContextTable.of(statistics, contexts) if statistics.frame.weight or statistics.book.weight else static
            for statistics, contexts, static in zip(
                self._statistics, context_sizes(self.codebook_sizes), self._order0, strict=True
            )
        ]


def _joined(parts: Sequence[Codes]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *(part.ravel().astype(np.int64) for part in parts)])


def _check(codes: Codes, sizes: tuple[int, ...]) -> None:
    if codes.ndim != 3 or 0 in codes.shape or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(
            "codes: expected integers of shape (streams, codebooks, frames), none of them 0, "
            f"got {codes.dtype} of shape {codes.shape}"
        )
    if codes.shape[1] > len(sizes):
        raise ValueError(f"codes: expected at most {len(sizes)} codebooks, got {codes.shape[1]}")
    for k, size in enumerate(sizes[: codes.shape[1]]):
        low, high = int(codes[:, k].min()), int(codes[:, k].max())
        if low < 0 or high >= size:
            raise ValueError(f"codes: expected 0 <= code < {size} in codebook {k}, got values from {low} to {high}")
