"""Logistic steps: the sigmoid, plain and normalized, and the softmax over neighbouring integers."""

import math

import torch
from torch import Tensor

from discrete_ae.checks import positive
from discrete_ae.rounding.base import Op, Rounding, boundary_distance
from discrete_ae.rounding.soft_round import (
    SMALLEST_SHARPNESS,
    normalization,
    sigmoid_staircase,
    sigmoid_staircase_slope,
)
from discrete_ae.schedules import Schedule


class Sigmoid(Rounding):
    """A logistic step at every decision boundary.

    Plain: floor(x) + sigma(k f), which jumps by 2 sigma(-k/2) at the integers and has mean slope tanh(k/4).
    Normalized: floor(x) + 1/2 + tanh(k f / 2) / (2 tanh(k/4)), continuous with mean slope 1; with alpha = k/2 the
    soft round of Agustsson & Theis 2020 (arXiv:2006.09952). It tends to x as k tends to 0.

    Args:
        sharpness: k > 0, the slope at a boundary is k/4 (plain); may be a schedule.
        normalized: whether the jumps at the integers are scaled away.

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
        self.normalized = normalized

    def _curve(self) -> tuple[float | Tensor, float | Tensor]:
        """k and the scale of the steps."""
        if not self.normalized:
            return self.sharpness, 1.0
        k = self.sharpness
        k = k.clamp_min(SMALLEST_SHARPNESS) if isinstance(k, Tensor) else max(k, SMALLEST_SHARPNESS)
        return k, normalization(k)

    def _soft_round(self, x: Tensor) -> Tensor:
        return sigmoid_staircase(x, *self._curve())

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        return sigmoid_staircase_slope(x, *self._curve())


class Softmax(Rounding):
    """Soft assignment to the neighbouring integers by their squared distance d^2 (arXiv:1704.00648).

    With two neighbours the weights of floor(x) and floor(x) + 1 are softmax(-beta d^2), and the curve is the plain
    sigmoid with k = 2 beta. With more, the nearest `neighbours` integers take part and it is a different one.

    Args:
        beta: inverse temperature, above 0; may be a schedule.
        neighbours: how many of the nearest integers take part: an even number, at least 2.

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
        if not isinstance(neighbours, int | float) or not neighbours >= 2 or neighbours % 2:
            raise ValueError(f"neighbours: expected an even number, at least 2, got {neighbours!r}")
        self.neighbours = int(neighbours)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and mean square of the neighbours' offsets from the boundary, towards the nearest one, by their weights.

        The offsets are d = +-(j + 1/2). With a = |f| the exponents -beta (a - d)^2, less that of the nearest neighbour
        at 1/2, are -beta j (j + 1 - 2a) on the side of x and -beta (j + 1) (j + 2a) on the other: two exponentials
        and their powers, none of them above 1.
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
            return sigmoid_staircase(x, 2 * self.beta, 1.0)
        return x.floor() + 0.5 + boundary_distance(x).sign() * self._moments(x)[0]

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        if self.neighbours == 2:
            return sigmoid_staircase_slope(x, 2 * self.beta, 1.0)
        mean, square = self._moments(x)
        return 2 * self.beta * (square - mean * mean)  # d/dx E[m] under softmax(-beta (x - m)^2) is 2 beta Var[m]


def _exp(x: float | Tensor) -> float | Tensor:
    return torch.exp(x) if isinstance(x, Tensor) else math.exp(x)
