"""Differentiable round, floor, ceil and trunc: one picture for every method.

The derivative of rounding is zero almost everywhere, so each method replaces it by the slope s'(x) of a soft
staircase s(x) with s(x + 1) = s(x) + 1 and s(-x) = -s(x). That slope is a periodic kernel of the distance to the
nearest decision boundary, f = x - floor(x) - 1/2 in [-1/2, 1/2). A method is a choice in two places: what the
training forward emits (exact integers, s(x), or noise) and which slope the backward uses. Evaluation always emits
torch.round (floor, ceil, trunc) itself, so that codes are exact; the gradient is slope(x) in both modes.

The other three operations are the same staircase shifted: soft floor is s(x - 1/2), soft ceil s(x + 1/2), soft
trunc sign(x) s(|x| - 1/2) for |x| >= 1/2 and 0 in between, continuous at 0 where a literal shift would jump.
Values such as 2.9999999 floor as their float representation says; there is no hidden epsilon.

    rounding = Fourier(terms=5, weights="fejer", hard=True)
    integers = rounding(x)          # torch.round(x); d integers / d x = rounding.slope(x)
"""

from discrete_ae.rounding.base import Op, Rounding
from discrete_ae.rounding.custom_gradient import CustomGradient
from discrete_ae.rounding.flat import Stochastic, StraightThrough, UniformNoise
from discrete_ae.rounding.fourier import Fourier, FourierWeights
from discrete_ae.rounding.ramp import FiniteDifference, Linear
from discrete_ae.rounding.sigmoid import Sigmoid, Softmax
from discrete_ae.rounding.soft_round import (
    noisy_soft_round,
    soft_round,
    soft_round_conditional_mean,
    soft_round_inverse,
)

__all__ = [
    "CustomGradient",
    "FiniteDifference",
    "Fourier",
    "FourierWeights",
    "Linear",
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
]
