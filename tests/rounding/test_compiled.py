"""Roundings under torch.compile (inductor, CPU): one graph, within 1e-4 of uncompiled float64.

The float64 results are themselves tested against numpy, in test_rounding.py.
"""

import math

import pytest
import torch
from torch import Tensor

from discrete_ae.rounding import (
    EXAMPLES,
    CustomGradient,
    Fourier,
    NoiseDropout,
    Sigmoid,
    Stochastic,
    UniformNoise,
    noisy_soft_round,
    soft_round,
    soft_round_inverse,
)

pytestmark = [
    pytest.mark.slow,
    # torch's own: how dynamo makes the context of an autograd function, and what inductor imports.
    pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not be instantiated"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script.* is deprecated:DeprecationWarning"),
]

# The last example of each method and kind: what is compiled for another number is the same.
KINDS = {(cls, *(arguments.get(name) for name in ("normalized", "neighbours", "weights"))): (cls, arguments)
         for cls, arguments in EXAMPLES}  # fmt: skip
HARD = [cls(**arguments, hard=True) for cls, arguments in KINDS.values()]
HARD = [rounding for rounding in HARD if rounding.matches_evaluation]
HARD += [Sigmoid(4.0, op=op, hard=True) for op in ("floor", "trunc")]
SOFT_FOURIER = [Fourier(20), *[Fourier(5, weights) for weights in ("dirichlet", "fejer", "lanczos")]]


def points() -> Tensor:
    """A grid off the ramps' kinks, integers and half-integers, and these 1e-7 and one float aside."""
    at = torch.arange(-8, 9, dtype=torch.float32) / 2
    aside = [at, at + 1e-7, at - 1e-7, at.nextafter(at + 1), at.nextafter(at - 1)]
    return torch.cat([torch.linspace(-3.3713, 3.4117, 500), *aside])


def value_and_gradient(function, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = function(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


@pytest.mark.parametrize("roundings", [HARD, SOFT_FOURIER], ids=["hard", "Fourier"])
def test_values_and_gradients(roundings):
    torch.compiler.reset()
    x = points()

    def each_its_row(rows: Tensor) -> Tensor:  # one compilation for all of them saves minutes
        return torch.stack([rounding(row) for rounding, row in zip(roundings, rows.unbind(), strict=True)])

    rows = torch.compile(each_its_row, fullgraph=True)
    for rounding, value, gradient in zip(
        roundings, *value_and_gradient(rows, x.repeat(len(roundings), 1)), strict=True
    ):
        if rounding.hard:
            assert torch.equal(value, rounding.exact(x)), rounding
        else:
            assert (value - rounding.value(x.double())).abs().max() <= 1e-4, rounding
        slope = rounding.slope(x.double())
        assert (gradient - slope).abs().max() <= 1e-4 * slope.abs().max(), rounding


def test_what_draws_noise_and_the_functions():
    torch.compiler.reset()
    x = points()

    def parts(rows: Tensor) -> Tensor:
        a, b, c, d, e, f = rows.unbind()
        noise, stochastic, dropout = UniformNoise(), Stochastic(), NoiseDropout()
        functions = [soft_round(c, 6.0), soft_round_inverse(d, 6.0), noisy_soft_round(e, 6.0)]
        return torch.stack([noise(a), stochastic(b), *functions, dropout(f)])

    values, gradients = value_and_gradient(torch.compile(parts, fullgraph=True), x.repeat(6, 1))
    slope = Sigmoid(6.0, normalized=True).slope(x.double())
    soft = soft_round(x.double(), 6.0)
    assert (values[0] - x).abs().max() <= 0.5 + 1e-6
    assert ((values[1] == x.floor()) | (values[1] == x.floor() + 1)).all()
    assert (values[2] - soft).abs().max() < 1e-5
    assert (values[4] - soft).abs().max() <= 0.5 + 1e-5
    noisy = values[5] != x.round()
    assert 0.3 < noisy.float().mean() < 0.7
    assert ((values[5] - x).abs() <= 0.5 + 1e-6).all()
    for row in (0, 1, 5):
        assert torch.equal(gradients[row], torch.ones_like(x))
    for gradient in (gradients[2], gradients[4]):
        torch.testing.assert_close(gradient.double(), slope, rtol=1e-4, atol=1e-5)
    # 1/s' <= 4 cosh(k/4)^2 tanh(k/4) / k = 3.3 stretches round-off.
    inverse, its_gradient = value_and_gradient(lambda x: soft_round_inverse(x, 6.0), x.double())
    assert (values[3] - inverse).abs().max() < 1e-5
    torch.testing.assert_close(gradients[3].double(), its_gradient, rtol=1e-3, atol=1e-4)


def test_a_surrogate_of_ones_own_gives_the_same():
    torch.compiler.reset()
    rounding = CustomGradient(lambda x: x - torch.sin(2 * math.pi * x) / (2 * math.pi))
    x = points()
    value, gradient = value_and_gradient(torch.compile(rounding, fullgraph=True), x)
    eager_value, eager_gradient = value_and_gradient(rounding, x)
    assert torch.equal(value, eager_value)
    assert torch.equal(value, x.round())
    torch.testing.assert_close(gradient, eager_gradient, rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient.double(), 1 - torch.cos(2 * math.pi * x.double()), rtol=0, atol=2e-4)
