"""Rounding with exact integers in the forward pass and any slope in the backward pass."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from discrete_ae.rounding.base import Op, Rounding
from discrete_ae.rounding.flat import StraightThrough
from discrete_ae.schedules import Schedule


class _Function(Rounding):
    """A user's function as the soft round, with its slope by automatic differentiation."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(hard=False)
        self.function = function

    def _soft_round(self, x: Tensor) -> Tensor:
        return self.function(x)

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        return cast(Tensor, torch.func.grad(lambda x: self.function(x).sum())(x))


class CustomGradient(Rounding):
    """Rounding whose forward pass gives exact integers, and whose backward pass uses the slope of a surrogate.

    Args:
        surrogate: the soft round that gives the slope: a Rounding with op="round", or an elementwise differentiable
            function of a tensor. None is the identity, which gives the straight-through estimator.

    Raises:
        ValueError: for a surrogate that is not callable, or a Rounding whose op is not "round".
    """

    def __init__(
        self,
        surrogate: Rounding | Callable[[Tensor], Tensor] | None = None,
        *,
        op: Op = "round",
        hard: bool | Schedule = True,
    ) -> None:
        super().__init__(op=op, hard=hard)
        if surrogate is None:
            surrogate = StraightThrough()
        elif not callable(surrogate):
            raise ValueError(f"surrogate: expected a Rounding or a function of a tensor, got {surrogate!r}")
        elif isinstance(surrogate, Rounding) and surrogate.op != "round":
            raise ValueError(
                f'surrogate: expected a soft round, got op="{surrogate.op}"; give op= to CustomGradient, not to both'
            )
        self.surrogate: Rounding = surrogate if isinstance(surrogate, Rounding) else _Function(surrogate)

    def _soft_round(self, x: Tensor) -> Tensor:
        return self.surrogate._soft_round(x)

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        return self.surrogate._soft_round_slope(x)

    def _soft_trunc(self, x: Tensor) -> Tensor:
        return self.surrogate._soft_trunc(x)

    def _soft_trunc_slope(self, x: Tensor) -> Tensor:
        return self.surrogate._soft_trunc_slope(x)
