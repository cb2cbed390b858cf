"""Activations that keep one tensor for the backward pass: the exponential linear unit and Snake.

Axes: B batch, D channels, T time steps; R rows, the channels of all items.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

PIECE = 2**17  # elements per thread
TINY = 1e-9  # keeps 1 / a finite at 0


class _ELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = nn.functional.elu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        # The slope is 1 where x > 0, and exp(x) = y + 1 elsewhere.
        return torch.ops.aten.elu_backward(gradients[0], 1, 1, 1, True, y)


class ELU(nn.Module):
    """Exponential linear unit (Clevert et al. 2015, arXiv:1511.07289): x where x > 0, exp(x) - 1 elsewhere.

    Only the result is kept for the backward pass, and the next convolution keeps it anyway. torch.nn.ELU also keeps its
    input.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit to a tensor of any shape."""
        return _ELU.apply(x)


def _value(a: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Return Snake of x (R, T) for a (R, 1)."""
    sine = (a * x).sin_()
    return (torch.addcmul(x, sine, sine / (a + TINY)),)


def _gradients(a: Tensor, x: Tensor, above: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of x (R, T) and a (R,), given the gradient `above` of the value.

    With s and c the sine and cosine of a x: dy/dx = 1 + 2 s c, dy/da = (2 s c x - s^2 / a) / a.
    """
    angle, inverse = a * x, 1 / (a + TINY)
    sine = angle.sin()
    through = angle.cos_().mul_(2 * sine).mul_(above)
    bend = sine.square_().mul_(above).mul_(inverse)
    return above + through, inverse[:, 0] * (through * x - bend).sum(dim=1)


def _by_rows(function: Callable[..., tuple[Tensor, ...]], a: Tensor, *tensors: Tensor) -> list[Tensor]:
    """Apply a function to the rows of a (D,) and of tensors (B, D, T), in at least float32; return results by row."""
    a = a.repeat(tensors[0].shape[0])[:, None]  # len() would fix the batch of an exported program
    rows = [tensor.flatten(0, 1) for tensor in tensors]
    rows = [part.float() if part.dtype in (torch.float16, torch.bfloat16) else part for part in rows]
    if torch.compiler.is_compiling() or a.device.type != "cpu":
        return list(function(a, *rows))
    step = max(1, PIECE * torch.get_num_threads() // max(1, rows[0].shape[1]))
    results: list[Tensor] = []
    for first in range(0, len(a), step):
        piece = slice(first, first + step)
        found = function(a[piece], *(part[piece] for part in rows))
        results = results or [part.new_empty((len(a), *part.shape[1:])) for part in found]
        for result, part in zip(results, found, strict=True):
            result[piece] = part
    return results


class _Snake(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor) -> Tensor:
        ctx.save_for_backward(x, a)
        (y,) = _by_rows(_value, a, x)
        # `view` is last: Dynamo 2.11 loses the backward pass if the last operation is a `to` that changes nothing.
        return y.to(x.dtype).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, a = ctx.saved_tensors
        of_x, of_a = _by_rows(_gradients, a, x, *gradients)
        return of_x.view(x.shape).to(x.dtype), of_a.view(len(x), -1).sum(dim=0).to(a.dtype)


class Snake(nn.Module):
    """Snake activation of (B, D, T), x + sin(a x)^2 / a with a learned a for each channel, initially 1.

    Ziyin et al. 2020 (arXiv:2006.08195), equation 2. Only x is kept for the backward pass, which recomputes everything
    else. On a CPU, x is processed in pieces, so that intermediate results stay in the cache; a compiler fuses the
    operations itself. Half precision is computed in float32.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Apply Snake to (B, D, T)."""
        return _Snake.apply(x, self.alpha)
