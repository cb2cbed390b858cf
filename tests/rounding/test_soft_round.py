"""The soft round as functions, against numpy, its own inverse, and numerical integration."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from discrete_ae.rounding import (
    Sigmoid,
    noisy_soft_round,
    soft_round,
    soft_round_conditional_mean,
    soft_round_inverse,
)
from tests.refusals import assert_refused

SHARPNESSES = [0.01, 1.0, 4.0, 12.0, 30.0]
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
every_sharpness = pytest.mark.parametrize("k", SHARPNESSES)
FUNCTIONS = [soft_round, soft_round_inverse, soft_round_conditional_mean, noisy_soft_round]
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)


def formula(x: np.ndarray, k: float) -> np.ndarray:
    """Equation 10 of Agustsson & Theis 2020, alpha = k / 2."""
    m = np.floor(x) + 0.5
    return m + np.tanh(k / 2 * (x - m)) / (2 * np.tanh(k / 4))


def points(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.cat([torch.linspace(-3.37, 3.41, 401, dtype=dtype), torch.arange(-6, 7, dtype=dtype) / 2])


def gradient_of(function, x: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


# Soft round -----------------------------------------------------------------------------------------------------------


@every_sharpness
def test_soft_round_is_the_formula_and_the_normalized_sigmoid(k):
    x, sigmoid = points(), Sigmoid(k, normalized=True)
    np.testing.assert_allclose(soft_round(x, k).numpy(), formula(x.numpy(), k), rtol=0, atol=1e-12)
    for dtype in DTYPES:
        x = points().to(dtype)
        assert torch.equal(soft_round(x, k), sigmoid.value(x))
        for function in (soft_round, noisy_soft_round):
            gradient = gradient_of(lambda x, function=function: function(x, k), x)
            assert gradient.dtype == dtype
            torch.testing.assert_close(gradient, sigmoid.slope(x), rtol=1e-4 if dtype.itemsize > 2 else 1e-2, atol=1e-5)


def test_integers_and_half_integers_stay():
    # tanh(k/4) / tanh(k/4) = 1 at an integer, tanh(0) = 0 at a half-integer; rounding of the quotient in the last bit
    for k in (*SHARPNESSES, 100.0, 1e4, 1e30):
        for dtype, atol in ((torch.float64, 1e-14), (torch.float32, 1e-6)):
            x = torch.arange(-8, 9, dtype=dtype) / 2
            torch.testing.assert_close(soft_round(x, k), x, rtol=0, atol=atol)
            torch.testing.assert_close(soft_round_conditional_mean(x[::2], k), x[::2], rtol=0, atol=atol)
    for dtype in (torch.bfloat16, torch.float16):  # which have no halves from 128 and 1024 on
        n = torch.arange(-2048, 2049, dtype=torch.float32).to(dtype)
        assert torch.equal(soft_round(n, 4.0), n)
        assert torch.equal(soft_round_conditional_mean(n, 4.0), n)


@both_precisions
def test_a_large_sharpness_rounds_and_a_small_one_is_the_identity(dtype):
    x = points(dtype)
    off = (x * 2) % 1 != 0
    for k in (1e4, 1e30):
        assert ((soft_round(x, k) >= x.floor()) & (soft_round(x, k) <= x.floor() + 1)).all()
        assert torch.equal(soft_round(x, k)[off], x[off].round())
        for function in (soft_round_inverse, soft_round_conditional_mean):
            assert ((function(x, k) - x).abs() <= 1).all()
    for k in (1e-3, 1e-7, 1e-300):  # without 0/0
        for function in FUNCTIONS[:3]:
            torch.testing.assert_close(function(x, k), x, rtol=0, atol=1e-6)
        # tanh(a f)/(2 tanh(a/2)) = f (1 + O(k^2)), and k^2 <= 1e-6
        torch.testing.assert_close(Sigmoid(k, normalized=True).slope(x), torch.ones_like(x), rtol=0, atol=1e-6)


# Inverse --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "k", "atol"),
    # Round-off eps of s is stretched by 1 / s' <= 4 cosh(k/4)^2 tanh(k/4) / k: 1, 2, 33 (k = 12), 2e5 (k = 30).
    [
        *[(torch.float64, k, 1e-9) for k in SHARPNESSES],
        *[(torch.float32, k, atol) for k, atol in ((0.01, 2e-6), (1.0, 2e-6), (4.0, 4e-6), (12.0, 3e-4))],
    ],
)
def test_inverse_undoes_soft_round_and_the_other_way_round(dtype, k, atol):
    x = points(dtype)
    torch.testing.assert_close(soft_round_inverse(soft_round(x, k), k), x, rtol=0, atol=atol)
    torch.testing.assert_close(
        soft_round(soft_round_inverse(x, k), k), x, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-6
    )


@both_precisions
def test_inverse_of_an_integer_is_the_integer(dtype):
    n, eps = torch.arange(-3, 4, dtype=dtype), torch.finfo(dtype).eps
    for k in (*SHARPNESSES, 60.0, 100.0, 1000.0, 1e4):  # s(n) = n whatever k is
        atol = min(8 * eps * 4 * math.cosh(min(k, 80) / 4) ** 2 / k, 1e-3)
        torch.testing.assert_close(soft_round_inverse(n, k), n, rtol=0, atol=atol + 8 * eps)


@every_sharpness
def test_gradient_of_the_inverse_is_one_over_the_slope(k):
    x = torch.linspace(-1.87, 1.93, 21, dtype=torch.float64)
    y, slope = soft_round(x, k), Sigmoid(k, normalized=True).slope(x)
    keep = slope > 1e-3  # steep curves are flat at their ends: what float64 resolves
    gradient = gradient_of(lambda y: soft_round_inverse(y, k), y)
    torch.testing.assert_close((gradient * slope)[keep], torch.ones_like(slope[keep]))
    if k <= 4:
        assert torch.autograd.gradcheck(lambda y: soft_round_inverse(y, k), y.requires_grad_())
        assert torch.autograd.gradgradcheck(lambda y: soft_round_inverse(y, k), y)


@both_precisions
def test_gradient_of_the_inverse_at_the_integers_and_everywhere(dtype):
    for k in (0.01, 0.5, 1.0, 3.0, 6.0, 8.0, 12.0, 16.0):
        # s'(n) = (k/4) (1 - tanh(k/4)^2) / tanh(k/4), and 1 - tanh^2 = 1 / cosh^2.
        expected = 4 * math.cosh(k / 4) ** 2 * math.tanh(k / 4) / k
        n = torch.arange(-3, 4, dtype=dtype)
        gradient = gradient_of(lambda n, k=k: soft_round_inverse(n, k), n)
        torch.testing.assert_close(gradient, torch.full_like(n, expected), rtol=1e-2, atol=0)
    for k in (1.0, 12.0, 100.0):
        assert gradient_of(lambda y, k=k: soft_round_inverse(y, k), points(dtype)).isfinite().all()


# Noise ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0.01, 2.0, 6.0, 12.0])
def test_conditional_mean_against_numerical_integration(k):
    # x uniform over a wide interval, u ~ U(-1/2, 1/2): given s(x) + u = z, x is uniform over |s(x) - z| <= 1/2. The
    # sum over midpoints misses each end of that set by less than a spacing.
    spacing = 1e-5
    x = np.arange(-4, 5, spacing) + spacing / 2
    curve = formula(x, k)
    for z in (-1.3, -0.5, 0.0, 0.2, 0.77, 1.5, 2.0):
        mean = x[np.abs(curve - z) <= 0.5].mean()
        ours = soft_round_conditional_mean(torch.tensor([z], dtype=torch.float64), k).item()
        assert ours == pytest.approx(mean, abs=2 * spacing)


def test_noisy_soft_round_is_uniform_around_the_soft_round():
    count = 40_000
    torch.default_generator.manual_seed(0)
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5
    for value in (0.3, -1.5, 2.0):
        x = torch.full((count,), value, dtype=torch.float64)
        noise = (noisy_soft_round(x, 8.0) - soft_round(x, 8.0)).sort().values
        assert noise.abs().max() <= 0.5 + 1e-12
        # Kolmogorov-Smirnov: a true uniform sample exceeds 2.5 / sqrt(n) once in 100,000 seeds.
        assert (noise - uniform).abs().max() <= 2.5 / math.sqrt(count)


@every_function
def test_dtypes_empty_tensors_inf_and_nan(function):
    for dtype in DTYPES:
        assert function(points().to(dtype), 4.0).dtype == dtype
        assert not function(torch.tensor([math.inf, -math.inf, math.nan], dtype=dtype), 4.0).isfinite().any()
    assert function(torch.zeros(0, 3), 4.0).shape == (0, 3)


@every_function
def test_wrong_arguments_are_refused(function):
    wrong = {"sharpness": (0, -1.0, math.nan, math.inf, "steep", None)}
    assert_refused(functools.partial(function, torch.zeros(2)), wrong)
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with pytest.raises(ValueError, match=f"floating-point.*{dtype}"):
            function(torch.ones(2, dtype=dtype), 4.0)
