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
from discrete_ae.rounding.base import boundary_distance, in_float32

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
    return in_float32(lambda x: sigmoid_staircase(x, k, normalization(k)), x)


def soft_round_inverse(y: Tensor, sharpness: float) -> Tensor:
    """The x with s(x) = y, elementwise; the gradient is 1 / s'(x).

    Where s is too steep for the dtype, all y between two integers lie within rounding error of their boundary's value,
    and x is that boundary or one of the integers.

    Args:
        y: of any floating-point dtype.
        sharpness: k > 0.

    Raises:
        ValueError: as for soft_round.
    """
    k = max(positive("sharpness", sharpness), SMALLEST_SHARPNESS)

    def inverse(y: Tensor) -> Tensor:
        # atanh has its pole at 1, which tanh(k/4) reaches in floating point from k = 36 (float32) or 75 on.
        largest = min(math.tanh(k / 4), 1 - torch.finfo(y.dtype).eps / 2)
        offset = torch.atanh((boundary_distance(y) * (2 * math.tanh(k / 4))).clamp(-largest, largest)) * (2 / k)
        return y.floor() + 0.5 + offset.clamp(-0.5, 0.5)

    return in_float32(inverse, y)


def soft_round_conditional_mean(z: Tensor, sharpness: float) -> Tensor:
    """E[x | s(x) + u = z] for u ~ U(-1/2, 1/2) and locally uniform x: s^-1(z - 1/2) + 1/2.

    The identity on integers, so that it may stand before a decoder also where values are rounded.

    Args:
        z: noisy values, of any floating-point dtype.
        sharpness: k > 0.

    Raises:
        ValueError: as for soft_round.
    """
    return soft_round_inverse(z - 0.5, sharpness) + 0.5


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


def sigmoid_staircase(x: Tensor, sharpness: float | Tensor, scale: float | Tensor) -> Tensor:
    """floor(x) + 1/2 + scale (sigma(k f) - 1/2), for x in float32 or float64."""
    # sigma(k f) = 1/2 + tanh(k f / 2) / 2 does not overflow at any sharpness.
    return x.floor() + 0.5 + torch.tanh(boundary_distance(x) * (sharpness / 2)) * (0.5 * scale)


def sigmoid_staircase_slope(x: Tensor, sharpness: float | Tensor, scale: float | Tensor) -> Tensor:
    """Its derivative, scale k sigma (1 - sigma) = scale k e / (1 + e)^2 with e = exp(-k |f|) <= 1."""
    e = torch.exp(boundary_distance(x).abs() * -sharpness)
    return e / (1 + e).square() * (sharpness * scale)
