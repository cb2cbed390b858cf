"""Differentiable round, floor, ceil and trunc: several methods with the same interface.

The derivative of rounding is zero almost everywhere. Each method replaces it by the slope s'(x) of a soft staircase
s(x) with s(x + 1) = s(x) + 1 and s(-x) = -s(x). The slope has period 1. It depends on f = x - floor(x) - 1/2, the
signed distance of x from the boundary between its neighbours floor(x) and floor(x) + 1; f is in [-1/2, 1/2).

A method makes two choices: the value of the forward pass in training (exact integers, s(x), or a noisy value), and the
slope of the backward pass. Evaluation always uses torch.round (floor, ceil, trunc) itself, so that codes are exact.
The gradient is slope(x) in both modes.

The other three operations shift the same staircase: soft floor is s(x - 1/2), soft ceil s(x + 1/2). Soft trunc is
sign(x) s(|x| - 1/2) for |x| >= 1/2 and 0 for smaller |x|, so it is continuous at 0. No epsilon is added: 2.9999999 is
rounded by its floating-point representation.

    rounding = Fourier(terms=5, weights="fejer", hard=True)
    integers = rounding(x)          # torch.round(x); d integers / d x = rounding.slope(x)
"""

from typing import Any

from discrete_ae.rounding.base import Op, Rounding, with_slope
from discrete_ae.rounding.custom_gradient import CustomGradient
from discrete_ae.rounding.flat import NoiseDropout, Stochastic, StraightThrough, UniformNoise
from discrete_ae.rounding.fourier import Fourier, FourierWeights
from discrete_ae.rounding.ramp import FiniteDifference, Linear
from discrete_ae.rounding.sigmoid import (
    Sigmoid,
    Softmax,
    noisy_soft_round,
    soft_round,
    soft_round_conditional_mean,
    soft_round_inverse,
)

EXAMPLES: tuple[tuple[type[Rounding], dict[str, Any]], ...] = (
    (StraightThrough, {}),
    (UniformNoise, {"share": 1.0}),
    (NoiseDropout, {"probability": 0.5}),
    (Stochastic, {"share": 1.0}),
    (CustomGradient, {"surrogate": Sigmoid(4.0, normalized=True)}),
    *((Sigmoid, {"sharpness": k, "normalized": normalized}) for normalized in (False, True) for k in (4.0, 12.0)),
    *((Softmax, {"beta": 2.0, "neighbours": neighbours}) for neighbours in (2, 4)),
    *((Linear, {"sharpness": k}) for k in (4.0, 8.0)),
    *((FiniteDifference, {"epsilon": epsilon}) for epsilon in (0.25, 0.1)),
    *((Fourier, {"terms": n, "weights": weights}) for weights in ("dirichlet", "fejer", "lanczos") for n in (2, 5)),
)
"""Every method with typical arguments, for the figure, the benchmarks and the tests."""

__all__ = [
    "EXAMPLES",
    "CustomGradient",
    "FiniteDifference",
    "Fourier",
    "FourierWeights",
    "Linear",
    "NoiseDropout",
    "Op",
    "Rounding",
    "Sigmoid",
    "Softmax",
    "Stochastic",
    "StraightThrough",
    "UniformNoise",
    "noisy_soft_round",
    "soft_round",
    "soft_round_conditional_mean",
    "soft_round_inverse",
    "with_slope",
]
