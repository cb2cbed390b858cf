"""Codes to bytes without a model of them: each codebook's symbols in words of as few bits as they can do with.

`BITS` has a symbol a word. `RADIX` joins several, as the digits of a number in base `size`, where that is shorter: of
5 entries 3 share 7 bits, 2.33 bits each instead of 3; log2(5) is 2.32. Words of up to 64 bits bring most sizes within
1 % of the logarithm, and all within 2 %.

The words of a codebook follow one another without gaps, the first in the lowest bits: its bytes are one little-endian
number. What is left over of its symbols makes a shorter word of its own. Both begin on a whole byte, the bits left over
at their ends are 0.

Axes: S streams, K codebooks, T frames.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from discrete_ae.codes.code_file import Codes, codes_dtype

Words = npt.NDArray[np.uint64]

WORD_BITS = 64


class _Part(NamedTuple):
    """Words of a codebook that have the same number of symbols."""

    words: int
    joined: int
    """Symbols in each."""
    bits: int
    """Of each."""

    @property
    def num_bytes(self) -> int:
        return -(-self.words * self.bits // 8)


@dataclass(frozen=True)
class Packing:
    """Symbols to words; see `BITS` and `RADIX`. Codebooks have up to 2^63 entries."""

    joins: bool
    """Whether symbols may share a word."""

    def num_bytes(self, num_streams: int, num_frames: int, codebook_sizes: Sequence[int]) -> int:
        """Return the exact size of the packed codes."""
        symbols = num_streams * num_frames
        return sum(part.num_bytes for size in codebook_sizes for part in self._parts(symbols, size))

    def pack(self, codes: Codes, codebook_sizes: Sequence[int]) -> bytes:
        """Return the bytes of codes (S, K, T), 0 <= codes[:, k] < codebook_sizes[k]."""
        packed = []
        for k, size in enumerate(codebook_sizes):
            rest = codes[:, k].ravel().astype(np.uint64)
            for part in self._parts(len(rest), size):
                digits, rest = np.split(rest, [part.words * part.joined])
                packed.append(_to_bytes(digits.reshape(-1, part.joined) @ _powers(size, part.joined), part.bits))
        return b"".join(packed)

    def unpack(self, payload: bytes, num_streams: int, num_frames: int, codebook_sizes: Sequence[int]) -> Codes:
        """Return the codes (S, K, T) that `pack` made bytes of, in the smallest unsigned type.

        Raises:
            ValueError: the payload has another size than such codes, or is not what `pack` makes of any.
        """
        expected = self.num_bytes(num_streams, num_frames, codebook_sizes)
        if len(payload) != expected:
            raise ValueError(f"payload: expected {expected} bytes, got {len(payload)}")
        codes = np.empty((len(codebook_sizes), num_streams * num_frames), codes_dtype(codebook_sizes))
        at = 0
        for k, size in enumerate(codebook_sizes):
            start = 0
            for part in self._parts(codes.shape[1], size):
                words = _from_bytes(payload[at : at + part.num_bytes], part)
                digits = words[:, None] // _powers(size, part.joined)
                if int(digits[:, -1].max()) >= size:
                    raise ValueError(f"payload: has a code of at least {size} in a codebook of {size} entries")
                stop = start + part.words * part.joined
                codes[k, start:stop] = (digits % np.uint64(size)).ravel()
                start, at = stop, at + part.num_bytes
        return codes.reshape(len(codebook_sizes), num_streams, num_frames).transpose(1, 0, 2)

    def _parts(self, symbols: int, size: int) -> Iterator[_Part]:
        """Whole words, then the one of what is left."""
        joined = _best_joined(size) if self.joins else 1
        if symbols >= joined:
            yield _Part(symbols // joined, joined, _bits(size, joined))
        if left := symbols % joined:
            yield _Part(1, left, _bits(size, left))


BITS = Packing(joins=False)
RADIX = Packing(joins=True)


def _bits(size: int, joined: int) -> int:
    return (size**joined - 1).bit_length()


def _powers(size: int, joined: int) -> Words:
    """The weights of the digits of a word: the first is the lowest."""
    return np.array([size**i for i in range(joined)], np.uint64)


@cache
def _best_joined(size: int) -> int:
    """The number of symbols that share a word: of what fits, the fewest with the least bits for each."""
    most = max(1, int(WORD_BITS / math.log2(size)))
    fitting = [joined for joined in range(1, most + 1) if _bits(size, joined) <= WORD_BITS]
    return min(fitting, key=lambda joined: _bits(size, joined) / joined)


def _to_bytes(words: Words, bits: int) -> bytes:
    spread = words.astype("<u8").view(np.uint8).reshape(-1, 8)
    return np.packbits(np.unpackbits(spread, axis=1, count=bits, bitorder="little"), bitorder="little").tobytes()


def _from_bytes(content: bytes, part: _Part) -> Words:
    single, left_over = np.split(
        np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little"), [part.words * part.bits]
    )
    if left_over.any():
        raise ValueError("payload: expected zeros in the bits left over")
    spread = np.zeros((part.words, 8), np.uint8)
    packed = np.packbits(single.reshape(part.words, part.bits), axis=1, bitorder="little")
    spread[:, : packed.shape[1]] = packed
    return spread.reshape(-1).view("<u8").astype(np.uint64)
