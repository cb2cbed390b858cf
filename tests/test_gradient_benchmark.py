"""benchmarks/gradients.py against losses whose steps and derivatives are known by hand; no network."""

import math

import pytest
import torch
from torch import Tensor

from discrete_ae.rounding import FiniteDifference, Fourier, StraightThrough, UniformNoise
from tests.scripts import load_script

script = load_script("benchmarks/gradients.py")
BOUND, Candidate = script.BOUND, script.Candidate
agreement, compare, reference_gradient = script.agreement, script.compare, script.reference_gradient

HIGHEST = torch.tensor([[3.0], [7.0]])
WEIGHTS = torch.tensor([[1.0, -2.0, 0.5], [3.0, -0.25, -1.0]])
# No coordinate within 0.05 of a boundary or an integer.
U = torch.tensor([[0.2, 1.7, 2.3], [6.8, 0.1, 4.4]])
EVERYWHERE = torch.arange(6)


def linear(q: Tensor) -> Tensor:
    return (WEIGHTS * q).sum(dim=(1, 2))


def quadratic(q: Tensor) -> Tensor:
    return (q - 1.6).square().sum(dim=(1, 2))


def test_on_a_linear_loss_the_reference_is_its_weights_and_straight_through_is_exact():
    assert torch.allclose(reference_gradient(linear, U, EVERYWHERE), WEIGHTS.flatten())
    found = compare(linear, U, HIGHEST, [Candidate("ste", StraightThrough()), Candidate("noise", UniformNoise(), 3)])
    # The derivative of a linear loss is the same everywhere, so noise changes nothing.
    for name in ("ste", "noise", BOUND):
        assert found[name][:3] == pytest.approx((1, 1, 1))


def test_reference_of_a_separable_quadratic_loss():
    # (floor + 1 - 1.6)^2 - (floor - 1.6)^2 = 2 floor - 2.2, with floor = 0, 1, 2 and 6, 0, 4.
    expected = torch.tensor([-2.2, -0.2, 1.8, 9.8, -2.2, 5.8])
    assert torch.allclose(reference_gradient(quadratic, U, EVERYWHERE), expected, atol=1e-5)


def test_estimates_by_hand():
    def estimate(rounding):
        return script.estimated_gradient(quadratic, U, Candidate("", rounding), seed=0)

    # dL/dq = 2 (q - 1.6) at the integers 0, 2, 2, 7, 0, 4.
    at_integers = torch.tensor([[-3.2, 0.8, 0.8], [10.8, -3.2, 4.8]])
    assert torch.allclose(estimate(StraightThrough()), at_integers)
    # The distances from the boundary are 0.3, 0.2, 0.2, 0.3, 0.4, 0.1: slope 1 / (2 * 0.25) within 0.25, 0 beyond.
    inside = torch.tensor([[0.0, 2.0, 2.0], [0.0, 0.0, 2.0]])
    assert torch.allclose(estimate(FiniteDifference(0.25)), at_integers * inside)
    # A soft forward is differentiated at the soft values, which automatic differentiation follows too.
    x = U.double().requires_grad_()
    soft = Fourier(3, "fejer")
    (expected,) = torch.autograd.grad(quadratic(soft.value(x)[None]).sum(), x)
    assert torch.allclose(estimate(Fourier(3, "fejer")).double(), expected, atol=1e-2)


def test_agreement_by_hand():
    # (3, 4, 0) and (4, 3, 5): 24 / (5 sqrt 50); the estimate of 0 is not of the right sign.
    found = agreement(torch.tensor([3.0, 4.0, 0.0]), torch.tensor([4.0, 3.0, 5.0]))
    assert found[:3] == pytest.approx((24 / (5 * math.sqrt(50)), 5 / math.sqrt(50), 2 / 3))
    # Where nothing matters nothing can agree.
    assert all(math.isnan(value) for value in agreement(torch.ones(2), torch.zeros(2)))


def test_bound_of_hard_forwards():
    gradient, reference = torch.tensor([1.0, 1.0, -2.0]), torch.tensor([3.0, -2.0, -4.0])
    # The signs agree at 3 and -4: 5 / sqrt(9 + 4 + 16).
    bound = script.hard_bound(gradient, reference)
    assert bound[:3] == pytest.approx((5 / math.sqrt(29), 5 / math.sqrt(29), 2 / 3))
    slopes = torch.rand(1000, 3, generator=torch.Generator().manual_seed(0))
    assert max(agreement(slope * gradient, reference).cosine for slope in slopes) <= bound.cosine
