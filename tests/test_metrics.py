"""Code usage by hand, SI-SDR against its formula, levels against signals whose spectrum is known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from discrete_ae.metrics import HEIGHT, WIDTH, CodeUsage, levels_db, si_sdr_db
from tests.sines import RATE, mel_band, sine


def measured(sizes: tuple[int, ...], *batches: Tensor) -> dict[str, float]:
    usage = CodeUsage(sizes)
    for codes in batches:
        usage.update(codes)
    return {name: value.item() for name, value in usage.compute().items()}


def test_codebooks_of_different_sizes_by_hand() -> None:
    # Codebook 0: entries 0, 0, 1, 3 of 4: shares 1/2, 1/4, 1/4, so 1.5 bits and perplexity 2^1.5. Codebook 1: 1 of 2.
    codes = torch.tensor([[[0, 1], [1, 1]], [[3, 0], [1, 1]]])
    found = measured((4, 2), codes)
    assert found["usage"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found["perplexity"] == pytest.approx((2**1.5 + 1) / 2)
    assert found["entropy_bits"] == pytest.approx(1.5 + 0)


@pytest.mark.parametrize("size", [2, 5, 256, 1000])
def test_uniform_codes_have_the_size_as_perplexity(size: int) -> None:
    codes = torch.arange(size).repeat(3)[None, None, :]
    found = measured((size,), codes)
    assert found["usage"] == 1
    assert found["perplexity"] == size
    assert found["entropy_bits"] == pytest.approx(math.log2(size), rel=1e-7)


def test_before_any_update_all_is_zero() -> None:
    usage = CodeUsage((4, 8))
    usage.update(torch.zeros((0, 2, 0), dtype=torch.int64))
    assert {value.item() for value in usage.compute().values()} == {0}


def test_codes_are_counted_over_all_batches_not_in_each() -> None:
    # Each batch has one code of two: usage 1/2 and perplexity 1 as a mean of batches, 1 and 2 over the whole.
    found = measured((2,), torch.zeros((1, 1, 8), dtype=torch.int64), torch.ones((1, 1, 8), dtype=torch.int64))
    assert found == {"usage": 1, "perplexity": 2, "entropy_bits": 1}
    # A small batch counts by its frames: shares 3/4 and 1/4.
    found = measured((2,), torch.zeros((1, 1, 6), dtype=torch.int64), torch.ones((1, 1, 2), dtype=torch.int64))
    assert found["entropy_bits"] == pytest.approx(0.75 * math.log2(4 / 3) + 0.25 * 2)


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


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_equals_the_formula_for_every_channel() -> None:
    target = noise(3, 2, 1000)
    reconstruction = target + 0.3 * noise(3, 2, 1000, seed=1)
    expected = [
        expected_db(found, wanted)
        for found, wanted in zip(
            reconstruction.flatten(0, 1).double().numpy(), target.flatten(0, 1).double().numpy(), strict=True
        )
    ]
    assert si_sdr_db(reconstruction, target).tolist() == pytest.approx(expected, abs=1e-3)


def test_orthogonal_noise_of_a_tenth_is_twenty_decibels() -> None:
    target = torch.tensor([[[1.0, 1.0, 1.0, 1.0]]])
    orthogonal = torch.tensor([[[0.1, -0.1, 0.1, -0.1]]])
    assert si_sdr_db(target + orthogonal, target).tolist() == pytest.approx([20], abs=1e-4)
    # Loudness is no distortion, down to the level of the last bit of 16.
    for scale in (3e-5, 2.0, -5.0):
        assert si_sdr_db(scale * (target + orthogonal), target).tolist() == pytest.approx([20], abs=1e-3)
        assert si_sdr_db(target + orthogonal, scale * target).tolist() == pytest.approx([20], abs=1e-3)


def test_silent_channels_of_the_target_are_left_out() -> None:
    target = noise(2, 2, 500)
    target[0, 1] = 0
    reconstruction = target + 0.5 * noise(2, 2, 500, seed=1)
    found = si_sdr_db(reconstruction, target)
    alone = [si_sdr_db(reconstruction[b : b + 1, c : c + 1], target[b : b + 1, c : c + 1]) for b, c in [(0, 0), (1, 0)]]
    assert found.shape == (3,)
    assert torch.equal(found[:2], torch.cat(alone))
    assert si_sdr_db(reconstruction, torch.zeros_like(target)).shape == (0,)


def test_silent_reconstruction_is_the_worst_and_a_perfect_one_the_best() -> None:
    target = noise(1, 1, 500)
    assert si_sdr_db(torch.zeros_like(target), target).tolist() == pytest.approx([-100])
    assert si_sdr_db(target.clone(), target).item() > 90
    # Nothing in common with the target: the even part against the odd.
    assert si_sdr_db(torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[1.0, 1.0]]])).tolist() == pytest.approx([-100])


def test_half_precision_is_measured_in_float32() -> None:
    target = noise(1, 1, 500).bfloat16()
    reconstruction = (target + 0.3 * noise(1, 1, 500, seed=1)).bfloat16()
    found = si_sdr_db(reconstruction, target)
    assert found.dtype == torch.float32
    assert torch.equal(found, si_sdr_db(reconstruction.float(), target.float()))


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
