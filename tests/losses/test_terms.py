"""What every loss term does alike."""

import math

import pytest
import torch
from torch import Tensor, nn

from discrete_ae.losses import (
    ComplexSTFT,
    CompressedSTFT,
    LogSNR,
    MultiResolutionSTFT,
    MultiScaleMel,
    NegativeSISDR,
    WaveformL1,
)

RATE, WINDOWS, MELS = 16000, (2048, 512, 128), (80, 40, 10)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def mel() -> MultiScaleMel:
    return MultiScaleMel(RATE, WINDOWS, MELS)


DISTANCES = {
    "l1": WaveformL1,
    "snr": LogSNR,
    "mel": mel,
    "stft": MultiResolutionSTFT,
    "complex": ComplexSTFT,
    "compressed": CompressedSTFT,
}
TERMS = {**DISTANCES, "si_sdr": NegativeSISDR}  # minus 100 dB for a perfect copy
every_term = pytest.mark.parametrize("term", [pytest.param(make, id=name) for name, make in TERMS.items()])
every_distance = pytest.mark.parametrize("term", [pytest.param(make, id=name) for name, make in DISTANCES.items()])


def test_log_distances_see_a_factor_as_its_logarithm() -> None:
    # Ten times the magnitude everywhere is 1 in log10, and ln 10 with a convergence of 9 in the STFT loss.
    target = noise(1, 1, 4000)
    assert mel()(10 * target, target).item() == pytest.approx(1, rel=1e-4)
    assert MultiResolutionSTFT()(10 * target, target).item() == pytest.approx(9 + math.log(10), rel=1e-4)


@every_distance
@pytest.mark.parametrize("num_samples", [1, 2, 3200])
def test_perfect_copy_has_no_loss_and_another_has_one(term: type[nn.Module], num_samples: int) -> None:
    loss, target = term(), noise(2, 1, num_samples)
    assert loss(target.clone(), target) == 0
    assert loss(2 * target + 0.1, target) > 0.001


@every_term
@pytest.mark.parametrize("silent", ["reconstruction", "target", "both"])
@pytest.mark.parametrize("num_samples", [1, 3200])
def test_silence_has_finite_loss_and_gradient(term: type[nn.Module], silent: str, num_samples: int) -> None:
    reconstruction, target = noise(2, 1, num_samples), noise(2, 1, num_samples, seed=1)
    if silent != "target":
        reconstruction.zero_()
    if silent != "reconstruction":
        target.zero_()
    reconstruction.requires_grad_()
    loss = term()(reconstruction, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(reconstruction.grad).all()


@every_term
def test_gradient_points_to_the_target(term: type[nn.Module]) -> None:
    target = noise(1, 1, 3200)
    reconstruction = (target + 0.02 * noise(1, 1, 3200, seed=1)).requires_grad_()
    loss = term()
    before = loss(reconstruction, target)
    (gradient,) = torch.autograd.grad(before, reconstruction)
    step = 1e-3 * reconstruction.detach().norm() * gradient / gradient.norm()
    assert loss(reconstruction.detach() - step, target) < before
