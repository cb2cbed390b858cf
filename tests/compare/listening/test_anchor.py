"""The anchors' filter against the mask of BS.1534-3 §5.1, by a Fourier sum that is written out here."""

import numpy as np
import pytest

from discrete_ae.compare.listening.anchor import CUTOFF_HZ, LOW, MID, anchors, low_pass, taps


def response_db(key: str, rate: int, frequencies_hz: np.ndarray) -> np.ndarray:
    impulse = taps(CUTOFF_HZ[key], rate)
    n = np.arange(len(impulse)) - len(impulse) // 2
    sums = np.exp(-2j * np.pi * np.outer(frequencies_hz, n) / rate) @ impulse
    return 20 * np.log10(np.abs(sums) + 1e-12)


@pytest.mark.parametrize(
    ("key", "rate"),
    [(LOW, 10000), (LOW, 16000), (LOW, 22050), (LOW, 48000), (LOW, 192000), (MID, 24000), (MID, 44100), (MID, 96000)],
)
def test_mask(key, rate):
    end = CUTOFF_HZ[key]
    passed = response_db(key, rate, np.linspace(0, end, 400))
    assert np.abs(passed).max() <= 0.1
    assert response_db(key, rate, np.linspace(end + 500, rate / 2, 400)).max() <= -25
    if end + 1000 < rate / 2:
        assert response_db(key, rate, np.linspace(end + 1000, rate / 2, 400)).max() <= -50
    assert len(taps(end, rate)) % 2 == 1
    np.testing.assert_allclose(taps(end, rate), taps(end, rate)[::-1])  # linear phase: no frequency comes later


def test_which_anchors_tell_something():
    assert anchors(8000) == ()
    assert anchors(16000) == (LOW,)
    assert anchors(24000) == (LOW, MID)


def test_tones_stay_where_they_are_or_vanish():
    rate = 16000
    time = np.arange(rate) / rate
    low, high = (np.rint(8000 * np.sin(2 * np.pi * f * time)).astype(np.int16) for f in (1000, 5000))
    filtered = low_pass(np.stack([low, low + high]), 3500.0, rate)
    assert filtered.shape == (2, rate)
    inside = slice(500, -500)
    for channel in filtered:
        # 0.1 dB of 8000 is 93; the steps of 16 bits are 1.
        assert np.abs(channel[inside].astype(int) - low[inside]).max() < 93


def test_overshoot_is_clipped_and_does_not_wrap():
    rate = 16000
    square = np.where(np.sin(2 * np.pi * 300 * np.arange(rate) / rate) >= 0, 2**15 - 1, -(2**15)).astype(np.int16)
    filtered = low_pass(square[None], 3500.0, rate)[0]
    assert filtered.max() == 2**15 - 1  # Gibbs' overshoot of 9 % would lie beyond
    assert (np.sign(filtered[square > 0]) >= 0).mean() > 0.95
