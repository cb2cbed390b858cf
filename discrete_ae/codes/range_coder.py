"""Range coding of codes by integer frequencies, with the same bytes and the same codes on every machine.

The coder is that of the package `constriction`: R. Bamler, "Understanding Entropy Coding With Asymmetric Numeral
Systems (ANS): a Statistician's Perspective", https://arxiv.org/abs/2201.01741. The package computes the lower bound of
entry i as floor((w_0 + … + w_{i-1}) * scale) + i, where scale = (2^24 - n) / (w_0 + … + w_{n-1}) and the w are floats
(its `fast_quantized_cdf`, used for `perfect=False`). We pass whole numbers w >= 0 that sum to exactly 2^24 - n. Every
partial sum is then a whole number below 2^24, which float32 represents exactly, and the scale is exactly 1. Nothing is
ever rounded: entry i has the frequency w_i + 1 of 2^24. `tests/codes/test_range_coder.py` checks the bytes against
exact arithmetic.

Writing and reading traverse the codes by the same function, so that they cannot disagree. A `Writer` returns the
symbols that it is given; a `Reader` returns the symbols that it decodes.

Axes: S streams, K codebooks, T frames.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from constriction import stream  # type: ignore[import-untyped]

from discrete_ae.codes.code_file import Codes

ONE = 1 << 24
LANE_FRAMES = 64
"""Largest number of frames in a lane. Lanes are coded in parallel: each call of the coder has one symbol of every lane.
The first frame of a lane has no previous frame as context."""

Integers = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.int32]
Weights = npt.NDArray[np.float32]

_FAMILY = stream.model.Categorical(perfect=False)


class Writer:
    """A range encoder: symbols to bytes."""

    def __init__(self) -> None:
        self._encoder = stream.queue.RangeEncoder()

    def code(self, symbols: Symbols, model: Any, *weights: Weights) -> Symbols:
        """Write symbols (N,) with one model, or with a family of models and a row of weights (N, n) for each symbol."""
        self._encoder.encode(symbols, model, *weights)
        return symbols

    def payload(self) -> bytes:
        """Return the bytes written so far: little-endian words of 32 bits."""
        return bytes(self._encoder.get_compressed().astype("<u4").tobytes())


class Reader:
    """A range decoder: bytes to symbols.

    Raises:
        ValueError: the bytes are not a whole number of words.
    """

    def __init__(self, payload: bytes) -> None:
        if len(payload) % 4:
            raise ValueError(f"payload: expected a whole number of 32-bit words, got {len(payload)} bytes")
        self._decoder = stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))

    def code(self, symbols: Symbols, model: Any, *weights: Weights) -> Symbols:
        """Read as many symbols as `symbols` has; its values are ignored. See `Writer.code`.

        Raises:
            ValueError: no symbols have these bytes.
        """
        try:
            return cast(Symbols, self._decoder.decode(model, *(weights or [len(symbols)])))
        except AssertionError as error:
            raise ValueError("payload: not codes of this entropy model") from error

    def check_end(self) -> None:
        """Check that all bytes were used.

        Raises:
            ValueError: bytes are left over.
        """
        if not self._decoder.maybe_exhausted():
            raise ValueError("payload: longer than its codes")


class StaticTable:
    """One table of frequencies (size,), all at least 1, for all symbols of a codebook."""

    def __init__(self, base: Integers) -> None:
        self.base, self.size = base, len(base)
        self.weights = to_weights(np.cumsum(base + lift(base.max(), base.sum(), self.size))[None])[0]
        """Weights (size,) for the coder."""
        self._model = stream.model.Categorical(self.weights, perfect=False)

    def code(self, coder: Writer | Reader, symbols: Symbols, *contexts: Integers) -> Symbols:
        """Code symbols (N,), ignoring their contexts."""
        return coder.code(symbols, self._model)


class _Part(NamedTuple):
    """Frequencies by context, as cumulative sums over groups of entries and within each group."""

    groups: Integers
    """Sums over groups, (R, groups)."""
    places: Integers
    """Sums within groups, (R * groups, width)."""

    @classmethod
    def of(cls, rows: Integers, width: int) -> "_Part":
        padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % width)))
        places = np.cumsum(padded.reshape(len(rows), -1, width), 2)
        return cls(np.cumsum(places[:, :, -1], 1), places.reshape(-1, width))


class ContextTable:
    """The tables of one codebook: frequencies without context, plus those of each kind of context.

    With 256 entries, for example, a table of all entries for every symbol would be slow. An entry is therefore coded in
    two steps of 16 choices: its group, then its place in the group. The cumulative sums are computed once per context;
    for each symbol, only the sums of its contexts are added.

    Args:
        base: frequencies (size,) without context.
        added: for each kind of context, the numbers (R,) of the contexts seen, ascending, and their additional
            frequencies (R, size).
    """

    def __init__(self, base: Integers, added: Sequence[tuple[Integers, Integers]]) -> None:
        self.size = len(base)
        self._width = self.size if self.size <= 16 else 1 << ((self.size - 1).bit_length() + 1) // 2
        """Width of a group: entry = group * width + place. Up to 16 entries form a single group, which is not coded."""
        self._ones = _Part.of(np.ones((1, self.size), np.int64), self._width)
        self._rows: list[npt.NDArray[np.intp]] = []
        self._parts: list[_Part] = []
        self._largest: list[Integers] = []
        for seen, rows in added:
            # Indexed by context + 1. The first and last index give row 0: no context, or a context that was not seen.
            row_of = np.zeros(int(seen.max(initial=-1)) + 3, np.intp)
            row_of[seen + 1] = np.arange(1, len(seen) + 1)
            rows = np.pad(rows, ((1, 0), (0, 0)))
            # The sum of the largest values of all parts is at least the largest sum.
            self._largest.append(rows.max(1) + (0 if self._parts else base.max()))
            self._parts.append(_Part.of(rows if self._parts else rows + base, self._width))
            self._rows.append(row_of)

    def code(self, coder: Writer | Reader, symbols: Symbols, *contexts: Integers) -> Symbols:
        """Code symbols (N,) given their contexts, an array (N,) for each kind, -1 for none."""
        at = [row_of.take(given + 1, mode="clip") for row_of, given in zip(self._rows, contexts, strict=True)]
        sums = _total([part.groups for part in self._parts], at)
        count = sums.shape[1]
        raised = lift(_total(self._largest, at), sums[:, -1], self.size)[:, None]
        groups, places = np.divmod(symbols, np.int32(self._width))
        if count > 1:
            groups = coder.code(groups, _FAMILY, to_weights(sums + raised * self._ones.groups))
        sums = _total([part.places for part in self._parts], [rows * count + groups for rows in at])
        places = coder.code(places, _FAMILY, to_weights(sums + raised * self._ones.places[groups]))
        return groups * np.int32(self._width) + places


def code_one_by_one(tables: Sequence[StaticTable], codes: Codes, coder: Writer | Reader) -> None:
    """Code codebook by codebook, without contexts; overwrite `codes` (S, K, T) with the results of the coder."""
    for k, table in enumerate(tables[: codes.shape[1]]):
        symbols = np.ascontiguousarray(codes[:, k], np.int32)
        codes[:, k] = table.code(coder, symbols.ravel()).reshape(symbols.shape)


def code_in_context(tables: Sequence[StaticTable | ContextTable], codes: Codes, coder: Writer | Reader) -> None:
    """Code all lanes in parallel, frame by frame and codebook by codebook; overwrite `codes` (S, K, T).

    The contexts are the entry of the same codebook in the previous frame, and the entry of the previous codebook in the
    same frame.

    Raises:
        ValueError: a decoded symbol is outside of its codebook.
    """
    streams, num_codebooks, frames = codes.shape
    lanes = -(-frames // LANE_FRAMES)
    length = -(-frames // lanes)
    last = frames - (lanes - 1) * length
    padded = np.zeros((streams, num_codebooks, lanes * length), np.int32)
    padded[:, :, :frames] = codes
    # (length, K, lanes * S): only the last lane can be shorter, so the lanes still running come first.
    by_step = padded.reshape(streams, num_codebooks, lanes, length).transpose(3, 1, 2, 0)
    grid = by_step.reshape(length, num_codebooks, lanes * streams)
    for step in range(length):
        running = (lanes if step < last else lanes - 1) * streams
        before = np.full((num_codebooks, running), -1) if step == 0 else grid[step - 1, :, :running]
        book = np.full(running, -1)
        for k, table in enumerate(tables[:num_codebooks]):
            book = table.code(coder, grid[step, k, :running], before[k], book)
            if int(book.max()) >= table.size:
                raise ValueError(f"payload: expected codes below {table.size}, got {book.max()}")
            grid[step, k, :running] = book
    in_order = grid.reshape(length, num_codebooks, lanes, streams).transpose(3, 1, 2, 0)
    codes[:] = in_order.reshape(streams, num_codebooks, -1)[:, :, :frames]


def _total(tables: Sequence[Integers], at: Sequence[npt.NDArray[np.integer]]) -> Integers:
    return cast(Integers, sum(table[rows] for table, rows in zip(tables, at, strict=True)))


def to_weights(sums: Integers) -> Weights:
    """Return the coder's weights (N, n) from cumulative frequencies (N, n), the last of each row in (0, 2^39)."""
    bounds = sums * (ONE - sums.shape[1]) // sums[:, -1:]
    bounds[:, 1:] -= bounds[:, :-1].copy()
    return cast(Weights, bounds.astype(np.float32))


def lift(largest: Integers | np.int64, total: Integers | np.int64, size: int) -> Any:
    """Return the number to add to each of `size` entries so that the largest is at most 7/8 of the total; usually 0."""
    return np.maximum(0, -((7 * total - 8 * largest) // (7 * size - 8)))
