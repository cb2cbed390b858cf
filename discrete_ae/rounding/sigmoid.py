"""Logistic steps: the sigmoid, plain and normalized, the softmax over neighbouring integers, and the soft round.

The soft round of Agustsson & Theis 2020 (arXiv:2006.09952) is the curve of Sigmoid(k, normalized=True). The functions
of this module compute the curve and its inverse. In the paper's notation,
s_alpha(x) = m + tanh(alpha (x - m)) / (2 tanh(alpha / 2)) with m = floor(x) + 1/2 and alpha = k / 2.

A receiver that knows the dither u gets the noisy value z = s(x) + u. It decodes the conditional mean of x given z,
s^-1(z - 1/2) + 1/2. For integers z this mean is z itself, since s^-1(n - 1/2) = n - 1/2.
"""

import math

import torch
from torch import Tensor

from discrete_ae.checks import positive, true_or_false, whole_number
from discrete_ae.rounding.base import Op, Rounding, boundary_distance, elementwise, uniform_like, with_slope
from discrete_ae.schedules import Schedule

# Below this k the curve differs from x by less than one part in 1e13, and k f would underflow.
_SMALLEST_SHARPNESS = 1e-6


def _normalization(sharpness: float | Tensor) -> float | Tensor:
    """Return 1 / tanh(k/4), the scale that makes the sigmoid continuous at the integers."""
    if isinstance(sharpness, Tensor):
        return 1 / torch.tanh(sharpness / 4)
    return 1 / math.tanh(sharpness / 4)


def _staircase(x: Tensor, sharpness: float | Tensor, scale: float | Tensor) -> Tensor:
    """Return floor(x) + 1/2 + scale (sigma(k f) - 1/2), for x in float32 or float64."""
    distance = boundary_distance(x)
    if isinstance(sharpness, Tensor) or sharpness < 1:
        # tanh gives the same value at several times the cost, and is exact even for small k, where sigma is near 1/2.
        step = torch.tanh(distance * (sharpness / 2)) * 0.5
    else:
        step = torch.sigmoid(distance * sharpness) - 0.5
    return x.floor() + 0.5 + step * scale


def _staircase_slope(x: Tensor, sharpness: float | Tensor, scale: float | Tensor) -> Tensor:
    """Return the derivative of the staircase, scale k sigma (1 - sigma)."""
    step = torch.sigmoid(boundary_distance(x) * sharpness)
    return step * (1 - step) * (sharpness * scale)


class Sigmoid(Rounding):
    """A logistic step at every decision boundary.

    Plain: floor(x) + sigma(k f), which jumps by 2 sigma(-k/2) at the integers and has mean slope tanh(k/4).
    Normalized: floor(x) + 1/2 + tanh(k f / 2) / (2 tanh(k/4)), continuous with mean slope 1. It is the soft round of
    Agustsson & Theis 2020 (arXiv:2006.09952) with alpha = k/2, and tends to x as k tends to 0.

    Args:
        sharpness: k > 0; may be a schedule. The slope of the plain curve at a boundary is k/4.
        normalized: whether to scale the steps so that the curve is continuous at the integers.

    Raises:
        ValueError: for a sharpness that is not a finite number above 0.
    """

    sharpness: float | Tensor

    def __init__(
        self,
        sharpness: float | Schedule = 4.0,
        normalized: bool = False,
        *,
        op: Op = "round",
        hard: bool | Schedule = False,
    ) -> None:
        super().__init__(op=op, hard=hard)
        self.set_number("sharpness", sharpness, positive)
        self.normalized = true_or_false("normalized", normalized)

    def _curve(self) -> tuple[float | Tensor, float | Tensor]:
        """Return k and the scale of the steps."""
        if not self.normalized:
            return self.sharpness, 1.0
        k = self.sharpness
        k = k.clamp_min(_SMALLEST_SHARPNESS) if isinstance(k, Tensor) else max(k, _SMALLEST_SHARPNESS)
        return k, _normalization(k)

    def _soft_round(self, x: Tensor) -> Tensor:
        return _staircase(x, *self._curve())

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        return _staircase_slope(x, *self._curve())


class Softmax(Rounding):
    """Mean of the nearest integers, weighted by softmax(-beta d^2) of their distances d (arXiv:1704.00648).

    With two neighbours, floor(x) and floor(x) + 1, the curve is the plain sigmoid with k = 2 beta.

    Args:
        beta: inverse temperature, above 0; may be a schedule.
        neighbours: number of nearest integers, even and at least 2.

    Raises:
        ValueError: for a beta or a number of neighbours outside these ranges.
    """

    beta: float | Tensor

    def __init__(
        self,
        beta: float | Schedule = 2.0,
        neighbours: int = 2,
        *,
        op: Op = "round",
        hard: bool | Schedule = False,
    ) -> None:
        super().__init__(op=op, hard=hard)
        self.set_number("beta", beta, positive)
        self.neighbours = whole_number("neighbours", neighbours, 2)
        if self.neighbours % 2:
            raise ValueError(f"neighbours: expected an even number, at least 2, got {neighbours!r}")

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted mean and mean square of the neighbours' offsets from the boundary.

        Offsets are d = +-(j + 1/2), positive on the side of x. Let a = |f|. The exponents are -beta (a - d)^2. After
        subtracting the exponent of the nearest neighbour, at d = 1/2, they are -beta j (j + 1 - 2a) on the side of x
        and -beta (j + 1) (j + 2a) on the other side. The weights are thus powers of two exponentials times constants,
        and none is above 1.
        """
        distance = boundary_distance(x).abs()
        other, beyond = torch.exp(distance * (-2 * self.beta)), torch.exp((1 - distance) * (-2 * self.beta))
        total, mean, square = 1 + other, 0.5 * (1 - other), 0.25 * (1 + other)
        for j in range(1, self.neighbours // 2):
            this_side = beyond**j * _exp(-self.beta * (j * (j - 1)))
            other_side = other ** (j + 1) * _exp(-self.beta * (j * (j + 1)))
            total = total + this_side + other_side
            mean = mean + (this_side - other_side) * (j + 0.5)
            square = square + (this_side + other_side) * (j + 0.5) ** 2
        return mean / total, square / total

    def _soft_round(self, x: Tensor) -> Tensor:
        if self.neighbours == 2:
            return _staircase(x, 2 * self.beta, 1.0)
        return x.floor() + 0.5 + boundary_distance(x).sign() * self._moments(x)[0]

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        if self.neighbours == 2:
            return _staircase_slope(x, 2 * self.beta, 1.0)
        mean, square = self._moments(x)
        return 2 * self.beta * (square - mean * mean)  # d/dx E[m] under softmax(-beta (x - m)^2) is 2 beta Var[m]


def _exp(x: float | Tensor) -> float | Tensor:
    return torch.exp(x) if isinstance(x, Tensor) else math.exp(x)


def soft_round(x: Tensor, sharpness: float) -> Tensor:
    """Return the soft round s(x), elementwise; s(n) = n and s(n + 1/2) = n + 1/2 for integers n.

    Args:
        x: tensor of any floating-point dtype.
        sharpness: k > 0; s tends to x as k tends to 0, and to round(x) as k grows.

    Raises:
        ValueError: for a sharpness that is not a finite number above 0, or a tensor that is not floating-point.
    """
    k = _checked(sharpness)
    return elementwise(lambda x: _staircase(x, k, _normalization(k)), x)


def soft_round_inverse(y: Tensor, sharpness: float) -> Tensor:
    """Return the x with s(x) = y, elementwise; the gradient is 1 / s'(x).

    Args:
        y: tensor of any floating-point dtype.
        sharpness: k > 0.

    Raises:
        ValueError: as for soft_round.
    """
    k = _checked(sharpness)
    return elementwise(lambda y: _inverse(y, k), y)


def soft_round_conditional_mean(z: Tensor, sharpness: float) -> Tensor:
    """Return E[x | s(x) + u = z] for u ~ U(-1/2, 1/2) and locally uniform x: s^-1(z - 1/2) + 1/2.

    Integers are returned unchanged, so a decoder may apply this function to rounded values, too.

    Args:
        z: noisy values, of any floating-point dtype.
        sharpness: k > 0.

    Raises:
        ValueError: as for soft_round.
    """
    k = _checked(sharpness)
    return elementwise(lambda z: _inverse(z - 0.5, k) + 0.5, z)


def noisy_soft_round(x: Tensor, sharpness: float) -> Tensor:
    """Return s(x) + u, u ~ U(-1/2, 1/2): soft rounding followed by dithered quantization, with the derivative s'(x).

    Args:
        x: tensor of any floating-point dtype.
        sharpness: k > 0.

    Raises:
        ValueError: as for soft_round.
    """
    return soft_round(x, sharpness) + uniform_like(x) - 0.5


def _checked(sharpness: float) -> float:
    return max(positive("sharpness", sharpness), _SMALLEST_SHARPNESS)


def _inverse(y: Tensor, k: float) -> Tensor:
    return with_slope(
        y, lambda y: _inverse_value(y, k), lambda y: 1 / _staircase_slope(_inverse(y, k), k, _normalization(k))
    )


def _inverse_value(y: Tensor, k: float) -> Tensor:
    """Return floor(y) + 1/2 + (2/k) atanh(t), t = 2 f tanh(k/4), by atanh(t) = (log(1 + t) - log(1 - t)) / 2."""
    distance = boundary_distance(y)
    doubled = 2 * distance.abs()
    t = doubled * math.tanh(k / 4)
    # In float32, tanh(k/4) is 1 for k >= 36. The form 1 - t = (1 - 2|f|) + 2|f| (1 - tanh(k/4)) keeps full precision,
    # since the logarithm of its last factor, 2 / (1 + exp(k/2)), is computed in closed form.
    log_rest = math.log(2) - (k / 2 + math.log1p(math.exp(-k / 2)))
    steep = torch.logaddexp(torch.log1p(-doubled), torch.log(doubled) + log_rest)
    log_below = torch.where(t < 0.5, torch.log1p(-t), steep)
    return y.floor() + 0.5 + distance.sign() * (torch.log1p(t) - log_below) / k
