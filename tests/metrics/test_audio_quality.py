"""SI-SDR against its formula."""

import math

import numpy as np
import pytest
import torch

from discrete_ae.metrics import si_sdr_db


def expected_db(found: np.ndarray, target: np.ndarray) -> float:
    """Le Roux et al. 2019, equation 5."""
    scaled = (found @ target) / (target @ target) * target
    return 10 * math.log10((scaled @ scaled) / ((scaled - found) @ (scaled - found)))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
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
