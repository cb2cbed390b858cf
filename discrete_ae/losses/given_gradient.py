"""A value whose gradient is known in closed form."""

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def with_gradient(value: Tensor, source: Tensor, gradient: Tensor) -> Tensor:
    """Return `value`, a scalar, with `gradient` as its gradient with respect to `source`.

    The gradient is all that is kept for the backward pass, and cannot be differentiated again.
    """
    return _WithGradient.apply(source, value.detach(), gradient.detach())


class _WithGradient(Function):
    @staticmethod
    def forward(ctx: Any, source: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradients[0] * gradient, None, None
