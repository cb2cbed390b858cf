"""Roundings with slope 1: straight-through, and random ones for training."""

import torch
from torch import Tensor

from discrete_ae.checks import in_unit_interval
from discrete_ae.rounding.base import EXACT, SHIFT, Op, Rounding, elementwise, uniform_like
from discrete_ae.schedules import Schedule

_TINY = 1e-30  # added to a divisor that may be 0


class _Flat(Rounding):
    """Base class of the roundings with s(x) = x and slope 1."""

    is_flat = True

    def _soft_round(self, x: Tensor) -> Tensor:
        return x

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)

    # The soft trunc of the base class is flat for |x| < 1/2. Here it is x itself, so that its slope is 1 everywhere.
    _soft_trunc = _soft_round
    _soft_trunc_slope = _soft_round_slope

    def _soft(self, x: Tensor) -> Tensor:
        """Return the soft value of the operation: x, shifted for floor and ceil."""
        shift = SHIFT.get(self.op, 0.0)
        return x + shift if shift else x


class StraightThrough(_Flat):
    """Straight-through estimator (Bengio et al. 2013, arXiv:1308.3432): exact integers with slope 1.

    The autograd function reads x once and saves nothing, unlike x + (round(x) - x).detach().
    """

    def __init__(self, *, op: Op = "round", hard: bool | Schedule = True) -> None:
        super().__init__(op=op, hard=hard)


class UniformNoise(_Flat):
    """Additive noise x + share u, u ~ U(-1/2, 1/2), in training (Ballé et al. 2017, arXiv:1611.01704); slope 1.

    Args:
        share: fraction of the full noise, in [0, 1]; may be a schedule.

    Raises:
        ValueError: for a share outside [0, 1].
    """

    share: float | Tensor

    def __init__(self, share: float | Schedule = 1.0, *, op: Op = "round", hard: bool | Schedule = False) -> None:
        super().__init__(op=op, hard=hard)
        self.set_number("share", share, in_unit_interval)

    def _soft_value(self, x: Tensor) -> Tensor:
        return elementwise(self._noisy, x)

    def _noisy(self, x: Tensor) -> Tensor:
        return self._soft(x) + uniform_like(x).sub_(0.5).mul_(self.share)


class NoiseDropout(_Flat):
    """Noise in place of rounding for a random part of the elements in training (Parker et al. 2024, arXiv:2411.19842).

    This is section 3 of the paper, in units of the step. With `probability`, an element becomes x + u with
    u ~ U(-1/2, 1/2); otherwise it becomes the exact integer. The slope is 1. The decoder sees the integers of
    evaluation, and the encoder learns from the values between them. Floor, ceil and trunc add the noise to their soft
    values, x - 1/2, x + 1/2 and x. With hard=True, all elements become integers.

    Each element is drawn separately. Two other implementations with the same name differ:
        - stable-audio-tools draws once for a whole item, and emits x itself, without noise, for a quarter of the items;
        - vector-quantize-pytorch (1.32, `noise_dropout` of FSQ) adds noise to values that are already rounded, and
          clamps the sum to its range [-1, 1]. The noise is U(-1/2, 1/2) on this scale, whatever the number of levels
          L. It therefore spans (L - 1) / 2 steps.

    Args:
        probability: probability that an element is noisy, in [0, 1]; may be a schedule.

    Raises:
        ValueError: for a probability outside [0, 1].
    """

    probability: float | Tensor

    def __init__(self, probability: float | Schedule = 0.5, *, op: Op = "round", hard: bool | Schedule = False) -> None:
        super().__init__(op=op, hard=hard)
        self.set_number("probability", probability, in_unit_interval)

    def _soft_value(self, x: Tensor) -> Tensor:
        return elementwise(self._noisy_or_exact, x)

    def _noisy_or_exact(self, x: Tensor) -> Tensor:
        drawn, exact = uniform_like(x), self.exact(x)
        # Where drawn < p, drawn / p is uniform in [0, 1). The same draw can thus select the element and be its noise.
        noise = (drawn / (self.probability + _TINY)).sub_(0.5)
        to_noisy = (self._soft(x) - exact).nan_to_num_(0.0).add_(noise)  # inf - inf counts as 0
        # torch.where takes much longer for a random condition.
        return exact + to_noisy.mul_(drawn < self.probability)


class Stochastic(_Flat):
    """Stochastic rounding in training: floor(x) + Bernoulli(x - floor(x)), unbiased (E = x); slope 1.

    It is computed as round(x + share u), u ~ U(-1/2, 1/2); share 0 is the exact operation. The other operations add
    the same noise, as in floor(x + share u). Their means at share 1 are x - 1/2 (floor), x + 1/2 (ceil) and
    sign(x) max(|x| - 1/2, 0) (trunc). hard=False emits the soft value.

    Args:
        share: fraction of the full noise, in [0, 1]; may be a schedule.

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
        return elementwise(self._random, x)

    def _random(self, x: Tensor) -> Tensor:
        if self.op == "trunc":  # floor(|x| + share u), at least 0, with the sign of x
            return self._moved(x.abs(), "floor").clamp_min_(0).copysign_(x)
        return self._moved(x, self.op)

    def _moved(self, x: Tensor, op: str) -> Tensor:
        """Return op(x + share u).

        The noise is added to the distance of x from the nearest integer. This distance is exact. If the noise were
        added to x itself, it would be rounded away far from 0.
        """
        nearest = x.round()
        distance = (x - nearest).nan_to_num_(0.0)  # inf - inf counts as 0
        return nearest + EXACT[op](distance.add_(uniform_like(x).sub_(0.5).mul_(self.share)))
