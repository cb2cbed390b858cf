"""Range coding of codes by integer frequencies: the same bytes, and the same codes, on every machine.

The coder is that of R. Bamler, "Understanding Entropy Coding With Asymmetric Numeral Systems (ANS): a Statistician's
Perspective", https://arxiv.org/abs/2201.01741, package `constriction`. It computes the lower bound of entry i as
floor((w_0 + … + w_{i-1}) * scale) + i, where scale = (2^24 - n) / (w_0 + … + w_{n-1}) and the w are floats (its
`fast_quantized_cdf`, taken for `perfect=False`). We give it whole numbers w >= 0 that sum to exactly 2^24 - n. Every
partial sum is then a whole number below 2^24, which float32 holds exactly, the scale is exactly 1, and nothing is ever
rounded: entry i has the frequency w_i + 1 of 2^24. `tests/codes/test_range_coder.py` holds the bytes against exact
arithmetic.

Writing and reading walk through the codes by the same function, so that they cannot disagree: of a `Writer` it gets
back the symbols that it gave, of a `Reader` those that were written.

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
"""Codes are cut into lanes of at most this many frames, coded side by side: a call of the coder then has a symbol of
every lane. The first frame of a lane does without the frame before."""

Integers = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.int32]
Weights = npt.NDArray[np.float32]

_FAMILY = stream.model.Categorical(perfect=False)


class Writer:
    """Symbols to bytes."""

    def __init__(self) -> None:
        self._encoder = stream.queue.RangeEncoder()

    def code(self, symbols: Symbols, model: Any, *weights: Weights) -> Symbols:
        """Write symbols (N,) by one model, or by a family of models with a row of weights (N, n) for each."""
        self._encoder.encode(symbols, model, *weights)
        return symbols

    def payload(self) -> bytes:
        """Return all that was written: little-endian words of 32 bits."""
        return bytes(self._encoder.get_compressed().astype("<u4").tobytes())


class Reader:
    """Bytes to symbols; of the symbols given only the number counts.

    Raises:
        ValueError: the bytes are no whole number of words.
    """

    def __init__(self, payload: bytes) -> None:
        if len(payload) % 4:
            raise ValueError(f"payload: expected a whole number of 32-bit words, got {len(payload)} bytes")
        self._decoder = stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))

    def code(self, symbols: Symbols, model: Any, *weights: Weights) -> Symbols:
        """Read as many symbols; see `Writer.code`."""
        return cast(Symbols, self._decoder.decode(model, *(weights or [len(symbols)])))

    def check_end(self) -> None:
        """Check that all bytes were needed.

        Raises:
            ValueError: some are left.
        """
        if not self._decoder.maybe_exhausted():
            raise ValueError("payload: longer than the codes in it")


class StaticTable:
    """One table for all symbols of a codebook, of frequencies (size,), all at least 1."""

    def __init__(self, base: Integers) -> None:
        self.base, self.size = base, len(base)
        self.weights = to_weights(np.cumsum(base + lift(base.max(), base.sum(), self.size))[None])[0]
        """(size,) as the coder takes them."""
        self._model = stream.model.Categorical(self.weights, perfect=False)

    def code(self, coder: Writer | Reader, symbols: Symbols, *contexts: Integers) -> Symbols:
        """Code symbols (N,), whatever their contexts."""
        return coder.code(symbols, self._model)


class _Part(NamedTuple):
    """Frequencies by context, as running sums over groups of entries and within each group."""

    groups: Integers
    """(R, groups)."""
    places: Integers
    """(R * groups, width)."""

    @classmethod
    def of(cls, rows: Integers, width: int) -> "_Part":
        padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % width)))
        places = np.cumsum(padded.reshape(len(rows), -1, width), 2)
        return cls(np.cumsum(places[:, :, -1], 1), places.reshape(-1, width))


class ContextTable:
    """The tables of one codebook: frequencies without context, and what each of several contexts adds to them.

    A table of all 256 entries for every symbol would be slow. An entry is therefore coded in two steps of 16, its group
    and then its place in the group, and the running sums that the coder needs are made once for each context, and only
    added up for a symbol.

    Args:
        base: (size,) frequencies without context.
        added: for each kind of context the numbers of the contexts that were seen (R,), ascending, and the frequencies
            that each adds (R, size).
    """

    def __init__(self, base: Integers, added: Sequence[tuple[Integers, Integers]]) -> None:
        self.size = len(base)
        self._width = self.size if self.size <= 16 else 1 << ((self.size - 1).bit_length() + 1) // 2
        """Of a group: entry = group * width + place. With up to 16 entries there is one group, and no step for it."""
        self._ones = _Part.of(np.ones((1, self.size), np.int64), self._width)
        self._rows: list[npt.NDArray[np.intp]] = []
        self._parts: list[_Part] = []
        self._largest: list[Integers] = []
        for seen, rows in added:
            # By context + 1; row 0, for none and for those that were not seen, is also behind the last.
            row_of = np.zeros(int(seen.max(initial=-1)) + 3, np.intp)
            row_of[seen + 1] = np.arange(1, len(seen) + 1)
            rows = np.pad(rows, ((1, 0), (0, 0)))
            # The largest of each part, added up, is at least the largest of the sums.
            self._largest.append(rows.max(1) + (0 if self._parts else base.max()))
            self._parts.append(_Part.of(rows if self._parts else rows + base, self._width))
            self._rows.append(row_of)

    def code(self, coder: Writer | Reader, symbols: Symbols, *contexts: Integers) -> Symbols:
        """Code symbols (N,) by their contexts, an array (N,) for each kind, -1 where there is none."""
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
    """Code codebook by codebook, without contexts; `codes` (S, K, T) are overwritten by what the coder returns."""
    for k, table in enumerate(tables[: codes.shape[1]]):
        symbols = np.ascontiguousarray(codes[:, k], np.int32)
        codes[:, k] = table.code(coder, symbols.ravel()).reshape(symbols.shape)


def code_in_context(tables: Sequence[StaticTable | ContextTable], codes: Codes, coder: Writer | Reader) -> None:
    """Code frame by frame of all lanes, codebook by codebook; `codes` (S, K, T) are overwritten.

    The contexts are the entry of the same codebook in the frame before, and that of the codebook before in this frame.

    Raises:
        ValueError: a symbol came that the codebook does not have.
    """
    streams, num_codebooks, frames = codes.shape
    lanes = -(-frames // LANE_FRAMES)
    length = -(-frames // lanes)
    last = frames - (lanes - 1) * length
    padded = np.zeros((streams, num_codebooks, lanes * length), np.int32)
    padded[:, :, :frames] = codes
    # (length, K, lanes * S): only the last lane can be shorter, so that the lanes still running come first.
    by_step = padded.reshape(streams, num_codebooks, lanes, length).transpose(3, 1, 2, 0)
    grid = by_step.reshape(length, num_codebooks, lanes * streams)
    for step in range(length):
        running = (lanes if step < last else lanes - 1) * streams
        before = np.full((num_codebooks, running), -1) if step == 0 else grid[step - 1, :, :running]
        book = np.full(running, -1)
        for k, table in enumerate(tables[:num_codebooks]):
            book = table.code(coder, grid[step, k, :running], before[k], book)
            if int(book.max()) >= table.size:
                raise ValueError(f"payload: has code {book.max()} of a codebook of {table.size} entries")
            grid[step, k, :running] = book
    in_order = grid.reshape(length, num_codebooks, lanes, streams).transpose(3, 1, 2, 0)
    codes[:] = in_order.reshape(streams, num_codebooks, -1)[:, :, :frames]


def _total(tables: Sequence[Integers], at: Sequence[npt.NDArray[np.integer]]) -> Integers:
    return cast(Integers, sum(table[rows] for table, rows in zip(tables, at, strict=True)))


def to_weights(sums: Integers) -> Weights:
    """Return the coder's weights (N, n) of cumulative frequencies (N, n), the last of each row above 0, below 2^39."""
    bounds = sums * (ONE - sums.shape[1]) // sums[:, -1:]
    bounds[:, 1:] -= bounds[:, :-1].copy()
    return cast(Weights, bounds.astype(np.float32))


def lift(largest: Integers | np.int64, total: Integers | np.int64, size: int) -> Any:
    """Return what to add to each of `size` entries for the largest to have at most 7/8 of the total: mostly 0."""
    return np.maximum(0, -((7 * total - 8 * largest) // (7 * size - 8)))
