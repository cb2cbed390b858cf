"""Clipped ramps: the linear staircase, and the finite difference, which has the same slope."""

import torch
from torch import Tensor

from discrete_ae.checks import finite
from discrete_ae.rounding.base import Op, Rounding, boundary_distance
from discrete_ae.schedules import Schedule


def _at_least_2(name: str, value: float) -> float:
    number = finite(name, value)
    if number < 2:
        raise ValueError(
            f"{name}: expected at least 2 (2 is the identity; below 2 the staircase is not continuous), got {value}"
        )
    return number


def _at_most_half(name: str, value: float) -> float:
    number = finite(name, value)
    if not 0 < number <= 0.5:
        raise ValueError(f"{name}: expected 0 < {name} <= 1/2, got {value!r}")
    return number


class _Ramp(Rounding):
    """The curve floor(x) + 1/2 + clip(k f, -1, 1) / 2; its slope is k/2 within 1/k of a boundary and 0 elsewhere."""

    def _steepness(self) -> float | Tensor:
        """Return k."""
        raise NotImplementedError

    def _soft_round(self, x: Tensor) -> Tensor:
        return x.floor() + 0.5 + 0.5 * (boundary_distance(x) * self._steepness()).clamp(-1, 1)

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        k = self._steepness()
        # 1 where |k f| <= 1, else 0. With |f| <= 1/k instead, the ramp of k = 2 would not reach the integers exactly.
        inside = (2 - torch.ceil((boundary_distance(x) * k).abs())).clamp(0, 1)
        return inside * (k / 2)


class Linear(_Ramp):
    """A ramp of slope k/2 around every boundary, flat elsewhere: floor(x) + 1/2 + clip(k f, -1, 1) / 2.

    Args:
        sharpness: steepness k >= 2; may be a schedule. With k = 2 the curve is the identity. Below 2 it would not be
            continuous.

    Raises:
        ValueError: for a sharpness below 2.
    """

    sharpness: float | Tensor

    def __init__(self, sharpness: float | Schedule = 4.0, *, op: Op = "round", hard: bool | Schedule = False) -> None:
        super().__init__(op=op, hard=hard)
        self.set_number("sharpness", sharpness, _at_least_2)

    def _steepness(self) -> float | Tensor:
        return self.sharpness


class FiniteDifference(_Ramp):
    """Exact integers in the forward pass; the slope is the central difference (r(x + eps) - r(x - eps)) / 2 eps.

    The difference is 1 / 2 eps within eps of a boundary and 0 elsewhere: the slope of Linear with k = 1 / eps.
    eps = 1/2 is the straight-through estimator; with a tiny eps the gradient is 0 almost everywhere.

    Args:
        epsilon: eps, in (0, 1/2]; may be a schedule.

    Raises:
        ValueError: for an epsilon outside this range.
    """

    epsilon: float | Tensor

    def __init__(self, epsilon: float | Schedule = 0.25, *, op: Op = "round", hard: bool | Schedule = True) -> None:
        super().__init__(op=op, hard=hard)
        self.set_number("epsilon", epsilon, _at_most_half)

    def _steepness(self) -> float | Tensor:
        return 1 / self.epsilon
