"""The base class of all roundings: the four operations, the two modes, and the slope as gradient."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, cast

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
PIECE = 2**15  # elements per thread, the smallest share that PyTorch gives a thread
SHIFT = {"round": 0.0, "floor": -0.5, "ceil": 0.5}


Slope = Callable[[Tensor], Tensor] | Tensor | None
"""The derivative of a rounding: a function of x, a constant that broadcasts with x, or 1."""


class _WithSlope(torch.autograd.Function):
    """A function of x with a given slope. Only x is saved; the backward pass can be differentiated again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, value: Callable[[Tensor], Tensor], slope: Slope) -> Tensor:
        return value(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.slope = inputs
        if callable(ctx.slope):
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _times(gradients[0], ctx), None, None


class _WithTangent(_WithSlope):
    """_WithSlope with forward-mode derivatives; a separate class, since torch.compile cannot trace a jvp."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return _times(tangents[0], ctx)


def _times(x: Tensor, ctx: Any) -> Tensor:
    if ctx.slope is None:
        return x.clone()
    return x * (ctx.slope(*ctx.saved_tensors) if callable(ctx.slope) else ctx.slope)


def with_slope(x: Tensor, value: Callable[[Tensor], Tensor], slope: Slope) -> Tensor:
    """Return value(x), with `slope` as its derivative in both modes of differentiation."""
    function = _WithSlope if torch.compiler.is_compiling() else _WithTangent
    return cast(Tensor, function.apply(x, value, slope))


def boundary_distance(x: Tensor) -> Tensor:
    """Return the signed distance f = x - floor(x) - 1/2 from the boundary n + 1/2 between n = floor(x) and n + 1.

    The distance is in [-1/2, 1/2); floating-point rounding may make it 1/2. Slopes are functions of |f|, written
    without comparisons such as |f| < c. With a comparison, a compiler would save booleans instead of x for the backward
    pass, and could not vectorize the code.
    """
    return x - x.floor() - 0.5


def require_floating_point(x: Tensor) -> None:
    """Raise a ValueError unless x has a real floating-point dtype."""
    if not x.is_floating_point():
        raise ValueError(f"rounding: expected a floating-point tensor, got {x.dtype}; convert it with .float()")


def elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply an elementwise function to x, in the dtype of x; half precision is computed in float32.

    On a CPU, without gradients, x is processed in pieces: intermediate results are small and stay in the cache. A
    compiled function needs no pieces, since the compiler fuses the operations.

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


@torch.library.custom_op("discrete_ae::uniform", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def _uniform(x: Tensor) -> Tensor:
    return torch.rand_like(x)


_uniform.register_fake(torch.empty_like)


def uniform_like(x: Tensor) -> Tensor:
    """Draw a number from U[0, 1) for each element of x.

    On a CPU, inductor (torch 2.11) computes four Philox numbers for each element, one element after the other, and uses
    only one of the four. This takes four times as long as torch's generator. Compiled code therefore calls a custom
    operation, which inductor does not change.
    """
    return _uniform(x.detach()) if torch.compiler.is_compiling() and x.device.type == "cpu" else torch.rand_like(x)


class Rounding(Scheduled, ABC):
    """Base class of the roundings. A subclass writes the soft round s(x) and its slope.

    An argument of a subclass may be a `Schedule` (see discrete_ae.schedules) if its description says so.

    Args:
        op: the operation to approximate: "round" (ties to even, as torch.round), "floor", "ceil" or "trunc".
        hard: whether the forward pass in training gives exact integers (True) or the soft value (False). A schedule
            from 0 to 1 switches from soft to hard at 1/2 (Guo et al. 2021, arXiv:2104.05168).

    Raises:
        ValueError: for an unknown `op`, and for a tensor that is not floating-point.
    """

    hard: bool | Tensor
    is_flat = False
    """True if the slope is 1 everywhere."""

    def __init__(self, *, op: Op = "round", hard: bool | Schedule) -> None:
        super().__init__()
        if op not in EXACT:
            raise ValueError(f"op: expected one of {', '.join(EXACT)}, got {op!r}")
        self.op = op
        self.set_flag("hard", hard)

    @abstractmethod
    def _soft_round(self, x: Tensor) -> Tensor:
        """Return s(x), elementwise, for x in float32 or float64."""

    @abstractmethod
    def _soft_round_slope(self, x: Tensor) -> Tensor:
        """Return s'(x), elementwise, for x in float32 or float64; finite everywhere."""

    def value(self, x: Tensor) -> Tensor:
        """Return the soft staircase of the operation, elementwise, in the dtype of x."""
        return elementwise(self._soft_trunc if self.op == "trunc" else self._shifted(self._soft_round), x)

    def slope(self, x: Tensor) -> Tensor:
        """Return the derivative of `value` in closed form, elementwise, finite also at integers and half-integers."""
        return elementwise(self._soft_trunc_slope if self.op == "trunc" else self._shifted(self._soft_round_slope), x)

    def exact(self, x: Tensor) -> Tensor:
        """Return torch.round, floor, ceil or trunc of x, as in evaluation."""
        require_floating_point(x)
        return EXACT[self.op](x)

    @property
    def matches_evaluation(self) -> bool:
        """True if training always gives the same integers as evaluation; depends on the arguments alone."""
        return self.hard is True

    def forward(self, x: Tensor) -> Tensor:
        """Round x elementwise: according to `hard` in training, exactly in evaluation. The gradient is slope(x)."""
        return with_slope(x, self.emitted, None if self.is_flat else self.slope)

    def emitted(self, x: Tensor) -> Tensor:
        """Return the value of `forward`, without its gradient."""
        return self._training_value(x) if self.training else self.exact(x)

    def _training_value(self, x: Tensor) -> Tensor:
        if isinstance(self.hard, Tensor) and (torch.compiler.is_compiling() or self.hard.device.type != "cpu"):
            # Reading the number would wait for the GPU.
            return torch.where(self.hard >= 0.5, self._hard_value(x), self._soft_value(x))
        return self._hard_value(x) if self.hard >= 0.5 else self._soft_value(x)

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
        """Return the arguments, for print(module)."""
        own = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        own = {name: value for name, value in own.items() if name not in ("training", "schedules")}
        return ", ".join(f"{name}={value!r}" for name, value in {**own, **self.schedules}.items())
