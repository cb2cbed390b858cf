"""The order in which codes are coded by a range coder, the same for writing and reading, so that they cannot disagree.

Axes: S streams, K codebooks, T frames.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from constriction import stream  # type: ignore[import-untyped]

from discrete_ae.codes.arrays import Codes
from discrete_ae.codes.entropy.tables import ContextTable, StaticTable, Weights

LANE_FRAMES = 64
"""Codes are cut into lanes of at most this many frames, coded side by side: a call of the coder then has a symbol of
every lane. The first frame of a lane does without the frame before."""

Symbols = npt.NDArray[np.int32]

_FAMILY = stream.model.Categorical(perfect=False)


class Writer:
    """Symbols to bytes. A coder takes symbols (N,) if they are known, and returns them."""

    def __init__(self) -> None:
        self._encoder = stream.queue.RangeEncoder()

    def shared(self, table: StaticTable, symbols: Symbols) -> Symbols:
        """Write symbols with one table."""
        self._encoder.encode(symbols, table.model)
        return symbols

    def each(self, weights: Weights, symbols: Symbols) -> Symbols:
        """Write symbols with a row of (N, n) weights each."""
        self._encoder.encode(symbols, _FAMILY, weights)
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

    def shared(self, table: StaticTable, symbols: Symbols) -> Symbols:
        """Read symbols with one table."""
        found: Symbols = self._decoder.decode(table.model, len(symbols))
        return found

    def each(self, weights: Weights, symbols: Symbols) -> Symbols:
        """Read symbols with a row of (N, n) weights each."""
        found: Symbols = self._decoder.decode(_FAMILY, weights)
        return found

    def check_end(self) -> None:
        """Check that all bytes were needed.

        Raises:
            ValueError: some are left.
        """
        if not self._decoder.maybe_exhausted():
            raise ValueError("payload: longer than the codes in it")


def code_order0(tables: Sequence[StaticTable], codes: Codes, coder: Writer | Reader) -> None:
    """Code codebook by codebook; `codes` (S, K, T) are overwritten by what the coder returns."""
    for k, table in enumerate(tables[: codes.shape[1]]):
        symbols = np.ascontiguousarray(codes[:, k], np.int32)
        codes[:, k] = coder.shared(table, symbols.ravel()).reshape(symbols.shape)


def code_context(tables: Sequence[ContextTable | StaticTable], codes: Codes, coder: Writer | Reader) -> None:
    """Code frame by frame of all lanes, codebook by codebook; `codes` (S, K, T) are overwritten.

    Raises:
        ValueError: a symbol came that the codebook does not have.
    """
    streams, num_codebooks, frames = codes.shape
    lanes = -(-frames // LANE_FRAMES)
    length = -(-frames // lanes)
    last = frames - (lanes - 1) * length
    padded = np.zeros((streams, num_codebooks, lanes * length), codes.dtype)
    padded[:, :, :frames] = codes
    # (length, K, lanes * S): only the last lane can be shorter, so that the lanes still running come first.
    by_step = padded.reshape(streams, num_codebooks, lanes, length).transpose(3, 1, 2, 0)
    grid = by_step.reshape(length, num_codebooks, lanes * streams)
    for step in range(length):
        running = (lanes if step < last else lanes - 1) * streams
        none = np.full(running, -1)
        book = none
        for k, table in enumerate(tables[:num_codebooks]):
            frame = grid[step - 1, k, :running].astype(np.int64) if step else none
            symbols = grid[step, k, :running].astype(np.int32)
            if isinstance(table, StaticTable):
                symbols = coder.shared(table, symbols)
            else:
                given = table.given((frame, book))
                groups, places = np.divmod(symbols, np.int32(table.width))
                if table.width < table.size:
                    groups = coder.each(given.groups(), groups)
                symbols = groups * np.int32(table.width) + coder.each(given.places(groups.astype(np.int64)), places)
                if int(symbols.max()) >= table.size:
                    raise ValueError(f"payload: has code {symbols.max()} of a codebook of {table.size} entries")
            grid[step, k, :running] = symbols
            book = symbols.astype(np.int64)
    in_order = grid.reshape(length, num_codebooks, lanes, streams).transpose(3, 1, 2, 0)
    codes[:] = in_order.reshape(streams, num_codebooks, -1)[:, :, :frames]
