"""The soft round of Agustsson & Theis 2020 (arXiv:2006.09952) with its inverse, as functions.

In their letters s_alpha(x) = m + tanh(alpha (x - m)) / (2 tanh(alpha / 2)) with m = floor(x) + 1/2; here the sharpness
is k = 2 alpha, as for the other sigmoids of this package. It is the curve of Sigmoid(k, normalized=True).

For noisy values: a receiver that shares the dither u gets z = s(x) + u and decodes the conditional mean of x given z,
s^-1(z - 1/2) + 1/2. On integers that correction is the identity: s^-1(n - 1/2) = n - 1/2.
"""

import math

import torch
from torch import Tensor

from discrete_ae.checks import positive
from discrete_ae.rounding.base import WithSlope, boundary_distance, elementwise

# Below this k the curve differs from x by less than one part in 1e13, and k f would underflow.
SMALLEST_SHARPNESS = 1e-6


def normalization(sharpness: float | Tensor) -> float | Tensor:
    """Factor 1 / tanh(k/4) that scales the jumps of the sigmoid at the integers away."""
    if isinstance(sharpness, Tensor):
        return 1 / torch.tanh(sharpness / 4)
    return 1 / math.tanh(sharpness / 4)


def soft_round(x: Tensor, sharpness: float) -> Tensor:
    """s(x), elementwise: continuous, s(n) = n and s(n + 1/2) = n + 1/2 for integers n.

    Args:
        x: of any floating-point dtype.
        sharpness: k > 0; s tends to x as k tends to 0, to round(x) as it grows.

    Raises:
        ValueError: for a sharpness that is not a finite number above 0, or a tensor that is not floating-point.
    """
    k = max(positive("sharpness", sharpness), SMALLEST_SHARPNESS)
    return elementwise(lambda x: sigmoid_staircase(x, k, normalization(k)), x)


def soft_round_inverse(y: Tensor, sharpness: float) -> Tensor:
    """The x with s(x) = y, elementwise; the gradient is 1 / s'(x).

    Args:
        y: of any floating-point dtype.
        sharpness: k > 0.

    Raises:
        ValueError: as for soft_round.
    """
    k = max(positive("sharpness", sharpness), SMALLEST_SHARPNESS)

    return elementwise(lambda y: _inverse(y, k), y)


def soft_round_conditional_mean(z: Tensor, sharpness: float) -> Tensor:
    """E[x | s(x) + u = z] for u ~ U(-1/2, 1/2) and locally uniform x: s^-1(z - 1/2) + 1/2.

    The identity on integers, so that it may stand before a decoder also where values are rounded.

    Args:
        z: noisy values, of any floating-point dtype.
        sharpness: k > 0.

    Raises:
        ValueError: as for soft_round.
    """
    k = max(positive("sharpness", sharpness), SMALLEST_SHARPNESS)
    return elementwise(lambda z: _inverse(z - 0.5, k) + 0.5, z)


def noisy_soft_round(x: Tensor, sharpness: float) -> Tensor:
    """s(x) + u, u ~ U(-1/2, 1/2): soft rounding, then the channel of dithered quantization.

    The noise is that of a dither which the receiver knows, so the derivative is s'(x).

    Args:
        x: of any floating-point dtype.
        sharpness: k > 0.

    Raises:
        ValueError: as for soft_round.
    """
    return soft_round(x, sharpness) + torch.rand_like(x) - 0.5


def _inverse(y: Tensor, k: float) -> Tensor:
    return WithSlope.apply(
        y, lambda y: _inverse_value(y, k), lambda y: 1 / sigmoid_staircase_slope(_inverse(y, k), k, normalization(k))
    )


def _inverse_value(y: Tensor, k: float) -> Tensor:
    """floor(y) + 1/2 + (2/k) atanh(t), t = 2 f tanh(k/4), with atanh(t) = (log(1 + t) - log(1 - t)) / 2 for t >= 0."""
    distance = boundary_distance(y)
    doubled = 2 * distance.abs()
    t = doubled * math.tanh(k / 4)
    # tanh(k/4) is 1 in floating point from k = 36 (float32) on. 1 - t = (1 - 2|f|) + 2|f| (1 - tanh(k/4)) loses
    # nothing: the last factor is 2 / (1 + exp(k/2)), taken as its logarithm.
    log_rest = math.log(2) - (k / 2 + math.log1p(math.exp(-k / 2)))
    steep = torch.logaddexp(torch.log1p(-doubled), torch.log(doubled) + log_rest)
    log_below = torch.where(t < 0.5, torch.log1p(-t), steep)
    return y.floor() + 0.5 + distance.sign() * (torch.log1p(t) - log_below) / k


def sigmoid_staircase(x: Tensor, sharpness: float | Tensor, scale: float | Tensor) -> Tensor:
    """floor(x) + 1/2 + scale (sigma(k f) - 1/2), for x in float32 or float64."""
    distance = boundary_distance(x)
    if isinstance(sharpness, Tensor) or sharpness < 1:
        # The same by tanh, exact where k is small and sigma hardly leaves 1/2, but at several times the price.
        step = torch.tanh(distance * (sharpness / 2)) * 0.5
    else:
        step = torch.sigmoid(distance * sharpness) - 0.5
    return x.floor() + 0.5 + step * scale


def sigmoid_staircase_slope(x: Tensor, sharpness: float | Tensor, scale: float | Tensor) -> Tensor:
    """Its derivative, scale k sigma (1 - sigma)."""
    step = torch.sigmoid(boundary_distance(x) * sharpness)
    return step * (1 - step) * (sharpness * scale)
