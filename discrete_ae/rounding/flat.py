"""Roundings with slope 1: straight-through, and the two that add noise in training."""

from collections.abc import Callable

import torch
from torch import Tensor

from discrete_ae.checks import in_unit_interval
from discrete_ae.rounding.base import Op, Rounding, WithSlope, elementwise
from discrete_ae.schedules import Schedule


class _Flat(Rounding):
    """Base of the roundings with s(x) = x and slope 1."""

    def _soft_round(self, x: Tensor) -> Tensor:
        return x

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)

    # The base class would shift s by 1/2 towards 0 on either side of it, which makes a flat part for |x| < 1/2. Here
    # the soft trunc is x itself, so that its slope is 1 everywhere.
    _soft_trunc = _soft_round
    _soft_trunc_slope = _soft_round_slope

    def _elementwise(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Apply a function to the soft value, which is x but for the shift of floor and ceil."""
        return elementwise(function if self.op == "trunc" else self._shifted(function), x)

    def forward(self, x: Tensor) -> Tensor:
        """Round x elementwise; the gradient is passed on unchanged."""
        return WithSlope.apply(x, self._training_value if self.training else self.exact, None)


class StraightThrough(_Flat):
    """Straight-through estimator: exact integers forward, slope 1 backward (Bengio et al. 2013, arXiv:1308.3432).

    An autograd function rather than x + (round(x) - x).detach(): it reads x once and saves nothing.
    """

    def __init__(self, *, op: Op = "round", hard: bool | Schedule = True) -> None:
        super().__init__(op=op, hard=hard)


class UniformNoise(_Flat):
    """Additive noise x + share u, u ~ U(-1/2, 1/2), in training (Ballé et al. 2017, arXiv:1611.01704); slope 1.

    Args:
        share: of the full noise, in [0, 1]; may be a schedule.

    Raises:
        ValueError: for a share outside [0, 1].
    """

    share: float | Tensor

    def __init__(self, share: float | Schedule = 1.0, *, op: Op = "round", hard: bool | Schedule = False) -> None:
        super().__init__(op=op, hard=hard)
        self.set_number("share", share, in_unit_interval)

    def _soft_value(self, x: Tensor) -> Tensor:
        return self._elementwise(lambda x: x + torch.rand_like(x).sub_(0.5).mul_(self.share), x)


class Stochastic(_Flat):
    """Stochastic rounding in training: floor(x) + Bernoulli(x - floor(x)), unbiased (E = x); slope 1.

    This is round(x + u), u ~ U(-1/2, 1/2), or round(x + share u) for a share of the noise. The other operations round
    their soft value stochastically: x - 1/2 (floor), x + 1/2 (ceil), x (trunc). hard=False emits the soft value.

    Args:
        share: of the full noise, in [0, 1]; may be a schedule.

    Raises:
        ValueError: for a share outside [0, 1].
    """

    share: float | Tensor

    def __init__(self, share: float | Schedule = 1.0, *, op: Op = "round", hard: bool | Schedule = True) -> None:
        super().__init__(op=op, hard=hard)
        self.set_number("share", share, in_unit_interval)

    @property
    def matches_evaluation(self) -> bool:
        """False: the integers of training are random."""
        return False

    def _hard_value(self, x: Tensor) -> Tensor:
        return self._elementwise(self._neighbour, x)

    def _neighbour(self, soft: Tensor) -> Tensor:
        below = soft.floor()
        # Comparing with the fraction, rather than rounding x + u, is exact far from 0 too.
        return below + (torch.rand_like(soft).sub_(0.5).mul_(self.share).add_(0.5) < soft - below)
