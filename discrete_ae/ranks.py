"""Sums and means over the processes (ranks) of a distributed run; a single process gets its own values.

The process group is looked up at every call, since modules are built before the group. Every rank must make the same
calls in the same order.
"""

from typing import Any

import torch
from torch import Tensor


def num_ranks() -> int:
    """Return the number of processes in the default group, or 1 if there is none."""
    return torch.distributed.get_world_size() if _is_distributed() else 1


def rank() -> int:
    """Return the index of this process in the default group, from 0."""
    return torch.distributed.get_rank() if _is_distributed() else 0


def sum_over_ranks(x: Tensor) -> Tensor:
    """Return the sum of x over the ranks, the same bits on each, without a gradient; shapes must be equal."""
    total = x.detach()
    if num_ranks() > 1:
        total = total.clone()
        torch.distributed.all_reduce(total)
    return total


def mean_over_ranks(x: Tensor) -> Tensor:
    """Return the mean of x over the ranks; its gradient goes to this rank's x, undivided.

    This is correct if gradients are averaged over the ranks, as in DDP. Let L depend on the mean m of x_1 ... x_R. The
    gradient of L with respect to a weight is dL/dm times the mean over the ranks of dx_r/dw: rank r computes dL/dm
    dx_r/dw, and DDP takes the mean. A differentiable collective would give R times as much.
    """
    if num_ranks() == 1:
        return x
    mean = sum_over_ranks(x) / num_ranks()
    return x + (mean - x).detach() if x.requires_grad else mean


def shared_mean_over_ranks(x: Tensor) -> Tensor:
    """Return the mean of x over the ranks; its gradient is the mean of the gradients on all ranks.

    Use this for a mean whose gradient differs between ranks. Every rank must run the backward pass.
    """
    return x if num_ranks() == 1 else _SharedMean.apply(x)


class _SharedMean(torch.autograd.Function):
    """Differentiable mean over ranks; torch.compile (2.11) loses the gradient of torch.distributed.nn's all_reduce."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return sum_over_ranks(x) / num_ranks()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return sum_over_ranks(gradients[0]) / num_ranks()


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
