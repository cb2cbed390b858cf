"""What every rounding has in common: the operations, the modes, and a gradient that is the slope."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from discrete_ae.schedules import Schedule, Scheduled

Op = Literal["round", "floor", "ceil", "trunc"]

EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "round": torch.round,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "trunc": torch.trunc,
}
PIECE = 2**15  # elements for each thread; PyTorch gives a thread no fewer
SHIFT = {"round": 0.0, "floor": -0.5, "ceil": 0.5}


class WithSlope(torch.autograd.Function):
    """Emits value(x), whatever that is, and backpropagates slope(x) times the gradient (slope None: the flat 1).

    The only tensor saved is x. The backward is made of differentiable operations, so second derivatives exist.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, x: Tensor, value: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor] | None
    ) -> Tensor:
        ctx.slope = slope
        if slope is not None:
            ctx.save_for_backward(x)
        return value(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: D102
        (gradient,) = gradients
        if ctx.slope is not None:
            gradient = gradient * ctx.slope(*ctx.saved_tensors)
        return gradient, None, None


def boundary_distance(x: Tensor) -> Tensor:
    """Distance f from the nearest decision boundary of round, in [-1/2, 1/2]; zero at the half-integers.

    The slopes of this package are even in f, and are written in |f| without comparisons: a compiler would keep the
    comparison's booleans for the backward instead of x, and give up vectorization for them.
    """
    return x - x.floor() - 0.5


def require_floating_point(x: Tensor) -> None:
    """ValueError unless x has a real floating-point dtype."""
    if not x.is_floating_point():
        raise ValueError(f"rounding: expected a floating-point tensor, got {x.dtype}; convert it with .float()")


def elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An elementwise function of x, in the dtype of x; what comes in half precision is computed in float32.

    On a CPU and without a graph to be kept, x is done piece by piece: the intermediate results stay in the cache, where
    whole ones would each be fetched from the system and given back. A compiler fuses them, and does without.

    Raises:
        ValueError: for a tensor that is not floating-point.
    """
    require_floating_point(x)
    if x.dtype in (torch.float16, torch.bfloat16):
        single = function
        function = lambda x: single(x.float()).to(x.dtype)  # noqa: E731
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or x.device.type != "cpu" or not x.is_contiguous():
        return function(x)
    result, piece = torch.empty_like(x), PIECE * torch.get_num_threads()
    for part, target in zip(x.view(-1).split(piece), result.view(-1).split(piece), strict=True):
        target.copy_(function(part))
    return result


class Rounding(Scheduled, ABC):
    """Base of the family. A subclass writes the soft round and its slope; the operations and modes are done here.

    A subclass's numbers may each be a `Schedule` (see discrete_ae.schedules) where its arguments say so.

    Args:
        op: the operation that is imitated: "round" (ties to even, as torch.round), "floor", "ceil" or "trunc".
        hard: whether the training forward emits exact integers (True) or the soft value (False). A schedule that goes
            from 0 to 1 changes from soft to hard at 1/2: soft first, then hard (Guo et al. 2021, arXiv:2104.05168).

    Raises:
        ValueError: for an unknown `op`, and for a tensor that is not floating-point.
    """

    hard: bool | Tensor

    def __init__(self, *, op: Op = "round", hard: bool | Schedule) -> None:
        super().__init__()
        if op not in EXACT:
            raise ValueError(f"op: expected one of {', '.join(EXACT)}, got {op!r}")
        self.op = op
        self.set_flag("hard", hard)

    @abstractmethod
    def _soft_round(self, x: Tensor) -> Tensor:
        """s(x), elementwise, in float32 or float64."""

    @abstractmethod
    def _soft_round_slope(self, x: Tensor) -> Tensor:
        """s'(x), elementwise and finite everywhere."""

    def value(self, x: Tensor) -> Tensor:
        """The soft staircase s(x) of the operation, elementwise, in the dtype of x."""
        return elementwise(self._soft_trunc if self.op == "trunc" else self._shifted(self._soft_round), x)

    def slope(self, x: Tensor) -> Tensor:
        """The derivative s'(x) in closed form, elementwise, finite also at integers and half-integers."""
        return elementwise(self._soft_trunc_slope if self.op == "trunc" else self._shifted(self._soft_round_slope), x)

    def exact(self, x: Tensor) -> Tensor:
        """What evaluation emits: torch.round, floor, ceil or trunc of x."""
        require_floating_point(x)
        return EXACT[self.op](x)

    @property
    def matches_evaluation(self) -> bool:
        """Whether the training forward always gives the integers of evaluation; it follows from the arguments alone."""
        return self.hard is True

    def forward(self, x: Tensor) -> Tensor:
        """Round x elementwise; in training by `hard`, in evaluation exactly. The gradient is slope(x) in both."""
        return WithSlope.apply(x, self._training_value if self.training else self.exact, self.slope)

    def _training_value(self, x: Tensor) -> Tensor:
        if isinstance(self.hard, Tensor):
            return torch.where(self.hard >= 0.5, self._hard_value(x), self._soft_value(x))
        return self._hard_value(x) if self.hard else self._soft_value(x)

    def _hard_value(self, x: Tensor) -> Tensor:
        return self.exact(x)

    def _soft_value(self, x: Tensor) -> Tensor:
        return self.value(x)

    def _shifted(self, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        shift = SHIFT[self.op]
        return (lambda x: function(x + shift)) if shift else function

    def _soft_trunc(self, x: Tensor) -> Tensor:
        beyond = x.abs() - 0.5
        return torch.where(beyond < 0, 0.0, x.sign() * self._soft_round(beyond))

    def _soft_trunc_slope(self, x: Tensor) -> Tensor:
        beyond = x.abs() - 0.5
        return torch.where(beyond < 0, 0.0, self._soft_round_slope(beyond))

    def extra_repr(self) -> str:
        """The arguments, for print(module)."""
        own = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        own = {name: value for name, value in own.items() if name not in ("training", "schedules")}
        return ", ".join(f"{name}={value!r}" for name, value in {**own, **self.schedules}.items())
