"""Packed codes against Python's own integers of any length."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discrete_ae.codes.packing import BITS, RADIX
from tests.codes.made import drawn

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 300), st.lists(st.integers(2, 70000), min_size=1, max_size=4))


def number(symbols, bits):
    """The little-endian bytes of symbols of so many bits, one after the other, the first lowest."""
    value = sum(int(symbol) << (bits * i) for i, symbol in enumerate(symbols))
    return value.to_bytes(-(-len(symbols) * bits // 8), "little")


@pytest.mark.parametrize("size", [2, 3, 256, 257, 65536, 2**32 + 1, 2**63 - 1])
def test_bits_are_one_long_number(size):
    codes = drawn((size,), 2, 13)
    codes[0, 0, 0], codes[1, 0, -1] = size - 1, size - 1
    assert BITS.pack(codes, (size,)) == number(codes[:, 0].ravel(), math.ceil(math.log2(size)))


def test_radix_is_one_long_number_of_digits():
    # 5^3 is just below 2^7: three digits a word. The last of 25 symbols is left over, in 3 bits.
    codes = drawn((5,), 1, 25)
    digits = codes[0, 0].tolist()
    words = [sum(d * 5**i for i, d in enumerate(digits[start : start + 3])) for start in range(0, 24, 3)]
    assert RADIX.pack(codes, (5,)) == number(words, 7) + number(digits[24:], 3)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 2**32))
def test_round_trip(shape, seed):
    streams, frames, sizes = shape
    codes = drawn(sizes, streams, frames, seed)
    for packing in (BITS, RADIX):
        packed = packing.pack(codes, sizes)
        assert len(packed) == packing.num_bytes(streams, frames, sizes)
        assert np.array_equal(packing.unpack(packed, streams, frames, sizes), codes)


def test_radix_comes_close_to_the_logarithm():
    def excess(size):
        return RADIX.num_bytes(1, 100_000, [size]) * 8 / (100_000 * math.log2(size)) - 1

    assert max(map(excess, (3, 5, 6, 7, 9, 11, 25, 27, 81, 125, 343, 625, 729, 1000, 1024, 4375))) < 0.01
    # Just above a power of two, and where no power is just below one, words of 64 bits end too early: 240 loses 1.2 %.
    assert max(map(excess, range(2, 1025))) < 0.018


def test_what_pack_cannot_have_made_is_refused():
    packed = BITS.pack(np.array([[[2, 1, 2]]]), (3,))
    assert packed == bytes([0b10_01_10])
    for damaged, message in (
        (packed + b"\0", "expected 1 bytes, got 2"),
        (b"", "expected 1 bytes, got 0"),
        (bytes([0b01_10_01_10]), "zeros in the unused bits"),
        (bytes([0b11_01_10]), "expected codes below 3, got 3 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            BITS.unpack(damaged, 1, 3, (3,))
    # Nothing is allocated for a claim that the bytes contradict.
    with pytest.raises(ValueError, match="payload: expected"):
        RADIX.unpack(b"abc", 2**40, 2**40, (3,))
