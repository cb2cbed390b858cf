"""Pack codes into bytes without a model: the symbols of each codebook in words of as few bits as possible.

`BITS` has one symbol per word. `RADIX` joins several symbols in a word, as the digits of a number in base `size`, if
that takes fewer bits. With 5 entries, for example, 3 symbols share 7 bits. This makes 2.33 bits per symbol instead of
3, close to log2(5) = 2.32. Words of up to 64 bits come within 1 % of the logarithm for most sizes, and within 2 % for
all.

The full words of a codebook are packed without gaps, the first in the lowest bits, so that their bytes form one
little-endian number. The last symbols, if they do not fill a word, form a shorter word. The full words and the shorter
word each begin on a whole byte; unused bits at their ends are 0.

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
    """Words of a codebook with the same number of symbols."""

    words: int
    joined: int
    """Symbols per word."""
    bits: int
    """Bits per word."""

    @property
    def num_bytes(self) -> int:
        return -(-self.words * self.bits // 8)


@dataclass(frozen=True)
class Packing:
    """Packing of symbols in words; see `BITS` and `RADIX`. Codebooks have up to 2^63 entries."""

    joins: bool
    """True if symbols may share a word."""

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
        """Return the codes (S, K, T) from the bytes of `pack`, in the smallest unsigned type.

        Raises:
            ValueError: the payload has the wrong size, or cannot come from `pack`.
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
                    raise ValueError(f"payload: expected codes below {size}, got {size} or more")
                stop = start + part.words * part.joined
                codes[k, start:stop] = (digits % np.uint64(size)).ravel()
                start, at = stop, at + part.num_bytes
        return codes.reshape(len(codebook_sizes), num_streams, num_frames).transpose(1, 0, 2)

    def _parts(self, symbols: int, size: int) -> Iterator[_Part]:
        """Yield the full words, then the shorter word of the remaining symbols."""
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
    """Return the weights of the digits of a word, the lowest first."""
    return np.array([size**i for i in range(joined)], np.uint64)


@cache
def _best_joined(size: int) -> int:
    """Return the number of symbols per word that takes the fewest bits per symbol; of several, the smallest."""
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
        raise ValueError("payload: expected zeros in the unused bits")
    spread = np.zeros((part.words, 8), np.uint8)
    packed = np.packbits(single.reshape(part.words, part.bits), axis=1, bitorder="little")
    spread[:, : packed.shape[1]] = packed
    return spread.reshape(-1).view("<u8").astype(np.uint64)
