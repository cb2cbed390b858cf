"""Code usage by hand, SI-SDR against its formula, levels against signals whose spectrum is known."""

import math

import numpy as np
import pytest
import torch

from discrete_ae.metrics import HEIGHT, WIDTH, CodeUsage, levels_db, si_sdr_db
from tests.losses.noise import noise
from tests.sines import RATE, mel_band, sine


@pytest.mark.parametrize(
    ("sizes", "batches", "usage", "perplexity", "entropy_bits"),
    [
        # Codebook 0: entries 0, 0, 1, 3 of 4: shares 1/2, 1/4, 1/4, so 1.5 bits, perplexity 2^1.5. Codebook 1: 1 of 2.
        ((4, 2), [[[[0, 1], [1, 1]], [[3, 0], [1, 1]]]], (3 / 4 + 1 / 2) / 2, (2**1.5 + 1) / 2, 1.5),
        ((1000,), [[[[*range(1000)] * 3]]], 1, 1000, math.log2(1000)),
        # Each batch has one code of two: usage 1/2 and perplexity 1 as a mean of batches, 1 and 2 over the whole.
        ((2,), [[[[0] * 8]], [[[1] * 8]]], 1, 2, 1),
        # A small batch counts by its frames: shares 3/4 and 1/4.
        ((2,), [[[[0] * 6]], [[[1] * 2]]], 1, 4 / 3**0.75, 2 - 0.75 * math.log2(3)),
        ((4, 8), [np.zeros((0, 2, 0), np.int64)], 0, 0, 0),
    ],
)
def test_codes_are_counted_by_hand(sizes, batches, usage, perplexity, entropy_bits) -> None:
    counted = CodeUsage(sizes)
    for codes in batches:
        counted.update(torch.as_tensor(codes))
    found = {name: value.item() for name, value in counted.compute().items()}
    assert found == pytest.approx({"usage": usage, "perplexity": perplexity, "entropy_bits": entropy_bits}, rel=1e-6)


def test_many_counts_keep_their_precision() -> None:
    # 2^24 + 1 is the first whole number that float32 cannot hold.
    usage = CodeUsage((2,))
    usage.counts += torch.tensor([[2**24, 0]])
    usage.update(torch.tensor([[[0, 1]]]))
    assert usage.counts.tolist() == [[2**24 + 1, 1]]
    share = 1 / (2**24 + 2)
    expected = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    assert usage.compute()["entropy_bits"].item() == pytest.approx(expected, rel=1e-3)


def expected_db(found: np.ndarray, target: np.ndarray) -> float:
    """Le Roux et al. 2019, equation 5."""
    scaled = (found @ target) / (target @ target) * target
    return 10 * math.log10((scaled @ scaled) / ((scaled - found) @ (scaled - found)))


def test_si_sdr_equals_the_formula_for_every_audible_channel_at_any_level() -> None:
    target = noise(3, 2, 1000)
    target[0, 1] = 0
    reconstruction = target + 0.03 * noise(3, 2, 1000, seed=1)
    pairs = zip(*(audio.flatten(0, 1).double().numpy() for audio in (reconstruction, target)), strict=True)
    expected = [expected_db(found, wanted) for found, wanted in pairs if wanted.any()]
    # Loudness is no distortion, down to the level of the last bit of 16.
    for gain, level in ((1, 1), (3e-4, 1), (-5, 1), (1, 3e-4), (1, -5)):
        assert si_sdr_db(gain * reconstruction, level * target).tolist() == pytest.approx(expected, abs=1e-3)
    assert si_sdr_db(reconstruction, torch.zeros_like(target)).shape == (0,)
    halves = reconstruction.bfloat16(), target.bfloat16()
    assert torch.equal(si_sdr_db(*halves), si_sdr_db(*(half.float() for half in halves)))


def test_silent_reconstruction_is_the_worst_and_a_perfect_one_the_best() -> None:
    target = noise(1, 1, 500)
    assert si_sdr_db(torch.zeros_like(target), target).tolist() == pytest.approx([-100])
    assert si_sdr_db(target.clone(), target).item() > 90
    # Nothing in common with the target: the even part against the odd.
    assert si_sdr_db(torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[1.0, 1.0]]])).tolist() == pytest.approx([-100])


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.9])
def test_a_sine_has_the_decibels_of_its_peak_in_its_band(rate, share):
    hz = share * rate / 2
    levels = levels_db(0.1 * sine(hz, 0.5, rate), rate)[:, 20:-20]  # away from the ends, where windows are half empty
    assert levels.shape == (HEIGHT, WIDTH - 40)
    # A quarter of a bin beside the window's peak, at most: less than 0.1 dB under a Hann window padded to four times.
    assert levels.max(axis=0) == pytest.approx(-20, abs=0.1)
    assert np.abs(levels.argmax(axis=0) - mel_band(hz, rate)).max() <= 1


@pytest.mark.parametrize("seconds", [1 / RATE, 0.01, 40.0])
def test_very_short_and_long_audio_has_a_picture_that_passes_nothing_over(seconds):
    audio = np.zeros(round(seconds * RATE), dtype=np.float32)
    audio[len(audio) // 2] = 1
    levels = levels_db(audio, RATE)
    assert levels.shape == (HEIGHT, WIDTH)
    # A single sample, wherever it lies, is brighter than silence somewhere.
    assert levels.max() > -119
