"""The range coder with integer weights, against exact arithmetic: nothing is rounded."""

import numpy as np
from constriction import stream
from hypothesis import given, settings
from hypothesis import strategies as st

from discrete_ae.codes.range_coder import ONE, Reader, Writer, lift, to_weights

FAMILY = stream.model.Categorical(perfect=False)


def exact_interval(bounds):
    """Range coding in Python's integers: the numbers below 2^bits that stand for symbols [low, low + frequency)."""
    low, width, bits = 0, 2**64 - 1, 64
    for left, frequency in bounds:
        low, width = low + (width >> 24) * left, (width >> 24) * frequency
        if width < 2**32:
            low, width, bits = low << 32, width << 32, bits + 32
    return low, width, bits


def drawn(seed):
    random = np.random.default_rng(seed)
    n, count = random.integers(2, 40), random.integers(1, 60)
    frequencies = random.integers(0, 4, (count, n)) * 10 ** random.integers(0, 9, (count, n))
    frequencies[:, 0] += 1
    return to_weights(np.cumsum(frequencies, 1)), random.integers(0, n, count).astype(np.int32)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_payload_lies_in_the_exact_interval(seed):
    weights, symbols = drawn(seed)
    frequencies = [[int(w) + 1 for w in row] for row in weights]
    assert all(sum(row) == ONE for row in frequencies)
    writer = Writer()
    writer.code(symbols, FAMILY, weights)
    payload = writer.payload()
    low, width, bits = exact_interval(
        (sum(row[:symbol]), row[symbol]) for row, symbol in zip(frequencies, symbols.tolist(), strict=True)
    )
    words = np.frombuffer(payload, "<u4").tolist()
    point = sum(word << (bits - 32 * (i + 1)) for i, word in enumerate(words) if bits >= 32 * (i + 1))
    assert low <= point < low + width
    assert np.array_equal(Reader(payload).code(symbols, FAMILY, weights), symbols)


def test_bytes_of_the_coder_stay_as_they_are():
    # The frequencies are 2^22, 2^23, 2^22: the symbols 1, 0, 2 narrow [0, 1) to 1/4 + 1/2 * [0, 1/4), then to its last
    # quarter, [11/32, 3/8). One word suffices for a number in it.
    weights = np.array([[2**22 - 1, 2**23 - 1, 2**22 - 1]] * 3, np.float32)
    encoder = stream.queue.RangeEncoder()
    encoder.encode(np.array([1, 0, 2], np.int32), FAMILY, weights)
    (word,) = encoder.get_compressed()
    assert 11 / 32 <= int(word) / 2**32 < 3 / 8


@given(st.integers(2, 70000), st.integers(1, 2**30), st.integers(1, 2**30))
def test_lift_is_the_least_that_caps_at_seven_eighths(size, one, two):
    total, largest = max(one, two), min(one, two)
    raised = int(lift(np.int64(largest), np.int64(total), size))
    assert 8 * (largest + raised) <= 7 * (total + size * raised)
    assert raised == 0 or 8 * (largest + raised - 1) > 7 * (total + size * (raised - 1))
