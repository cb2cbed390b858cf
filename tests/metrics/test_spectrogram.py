"""Levels over time and frequency against signals whose spectrum is known."""

import numpy as np
import pytest

from discrete_ae.metrics import HEIGHT, WIDTH, levels_db
from tests.metrics.sines import RATE, mel_band, sine


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.4, 0.9])
def test_a_sine_of_full_scale_has_0_db_in_its_band(rate, share):
    hz = share * rate / 2
    levels = levels_db(sine(hz, 0.5, rate), rate)[:, 20:-20]  # away from the ends, where windows are half empty
    assert levels.shape == (HEIGHT, WIDTH - 40)
    # A quarter of a bin beside the window's peak, at most: less than 0.1 dB under a Hann window padded to four times.
    assert levels.max(axis=0) == pytest.approx(0, abs=0.1)
    assert np.abs(levels.argmax(axis=0) - mel_band(hz, rate)).max() <= 1


def test_levels_are_decibels_of_full_scale():
    levels = [levels_db(gain * sine(1000), RATE)[:, 160].max() for gain in (1, 0.1, 0.001)]
    assert np.diff(levels) == pytest.approx([-20, -40], abs=0.05)


@pytest.mark.parametrize("seconds", [1 / RATE, 0.01, 100.0])
def test_very_short_and_long_audio_has_a_picture_that_passes_nothing_over(seconds):
    audio = np.zeros(round(seconds * RATE), dtype=np.float32)
    audio[len(audio) // 2] = 1
    levels = levels_db(audio, RATE)
    assert levels.shape == (HEIGHT, WIDTH)
    # A single sample, wherever it lies, is brighter than silence somewhere.
    assert levels.max() > -119
