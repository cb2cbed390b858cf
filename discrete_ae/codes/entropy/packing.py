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

import numpy as np
import numpy.typing as npt

from discrete_ae.codes.arrays import Codes, codes_dtype

Words = npt.NDArray[np.uint64]

WORD_BITS = 64
_CHUNK = 1 << 16  # words at a time; a multiple of 8, so that chunks begin on whole bytes


@dataclass(frozen=True)
class Packing:
    """Symbols to words; see `BITS` and `RADIX`. Codebooks have up to 2^63 entries."""

    joins: bool
    """Whether symbols may share a word."""

    def num_bytes(self, num_streams: int, num_frames: int, codebook_sizes: Sequence[int]) -> int:
        """Exact size of the packed codes."""
        return sum(
            _num_bytes(words, _bits(size, joined))
            for size in codebook_sizes
            for words, joined in self._parts(num_streams * num_frames, size)
        )

    def pack(self, codes: Codes, codebook_sizes: Sequence[int]) -> bytes:
        """(S, K, T) codes, 0 <= codes[:, k] < codebook_sizes[k], to bytes."""
        packed = []
        for k, size in enumerate(codebook_sizes):
            symbols, start = codes[:, k].ravel(), 0
            for words, joined in self._parts(len(symbols), size):
                part = symbols[start : start + words * joined].reshape(words, joined)
                packed += [
                    _to_bytes(_join(part[i : i + _CHUNK], size), _bits(size, joined)) for i in range(0, words, _CHUNK)
                ]
                start += words * joined
        return b"".join(packed)

    def unpack(self, payload: bytes, num_streams: int, num_frames: int, codebook_sizes: Sequence[int]) -> Codes:
        """Bytes of `pack` to codes (S, K, T) in the smallest unsigned type.

        Raises:
            ValueError: the payload has another size than such codes, or is not what `pack` makes of any.
        """
        expected = self.num_bytes(num_streams, num_frames, codebook_sizes)
        if len(payload) != expected:
            raise ValueError(f"payload: expected {expected} bytes, got {len(payload)}")
        codes = np.empty((len(codebook_sizes), num_streams * num_frames), codes_dtype(codebook_sizes))
        rest = memoryview(payload)
        for k, size in enumerate(codebook_sizes):
            start = 0
            for words, joined in self._parts(codes.shape[1], size):
                bits = _bits(size, joined)
                for i in range(0, words, _CHUNK):
                    count = min(_CHUNK, words - i)
                    taken = _num_bytes(count, bits)
                    part, rest = rest[:taken], rest[taken:]
                    digits = _digits(_from_bytes(part, count, bits), size, joined)
                    codes[k, start : start + count * joined] = digits.ravel()
                    start += count * joined
        return codes.reshape(len(codebook_sizes), num_streams, num_frames).transpose(1, 0, 2)

    def _parts(self, symbols: int, size: int) -> Iterator[tuple[int, int]]:
        """Number of words and symbols in each: whole words, then the one of what is left."""
        joined = _best_joined(size) if self.joins else 1
        if symbols >= joined:
            yield symbols // joined, joined
        if symbols % joined:
            yield 1, symbols % joined


BITS = Packing(joins=False)
RADIX = Packing(joins=True)


def _bits(size: int, joined: int) -> int:
    return (size**joined - 1).bit_length()


@cache
def _best_joined(size: int) -> int:
    """How many symbols share a word: of what fits, the fewest with the least bits for each."""
    most = max(1, int(WORD_BITS / math.log2(size)))
    fitting = [joined for joined in range(1, most + 1) if _bits(size, joined) <= WORD_BITS]
    return min(fitting, key=lambda joined: _bits(size, joined) / joined)


def _num_bytes(words: int, bits: int) -> int:
    return -(-words * bits // 8)


def _join(digits: Codes, size: int) -> Words:
    """(N, joined) to (N,): the first is the lowest digit."""
    words = digits[:, -1].astype(np.uint64)
    for i in reversed(range(digits.shape[1] - 1)):
        words = words * np.uint64(size) + digits[:, i].astype(np.uint64)
    return words


def _digits(words: Words, size: int, joined: int) -> Words:
    digits = np.empty((len(words), joined), np.uint64)
    for i in range(joined):
        words, digits[:, i] = np.divmod(words, np.uint64(size))
    if words.any():
        raise ValueError(f"payload: has a code of at least {size} in a codebook of {size} entries")
    return digits


def _to_bytes(words: Words, bits: int) -> bytes:
    spread = words.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : -(-bits // 8)]
    single = np.unpackbits(spread, axis=1, count=bits, bitorder="little")
    return np.packbits(single, bitorder="little").tobytes()


def _from_bytes(content: memoryview, words: int, bits: int) -> Words:
    single = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
    if single[words * bits :].any():
        raise ValueError("payload: expected zeros in the bits left over")
    spread = np.zeros((words, 8), np.uint8)
    spread[:, : -(-bits // 8)] = np.packbits(single[: words * bits].reshape(words, bits), axis=1, bitorder="little")
    return spread.reshape(-1).view("<u8").astype(np.uint64)
