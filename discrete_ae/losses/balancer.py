"""The balancer of EnCodec: the weights of losses are shares of the gradient, not of the total loss.

Défossez et al. 2022 (arXiv:2210.13438, section 3.4, "Balancer"). The gradient g_i of each term with respect to the
reconstruction is divided by the moving average of its norm and multiplied by total_norm weight_i / sum of the weights.
The weight of a term is then its share of the update, independent of the term's scale and of changes in training.

Axes: B batch, C audio channels, N samples.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from discrete_ae.checks import in_unit_interval, positive
from discrete_ae.ranks import mean_over_ranks

_TINY = 1e-12  # minimum norm to divide by: a gradient of 0 stays 0


class LossBalancer(nn.Module):
    """Scaling of the terms' gradients to shares given by their weights; the averages are part of the state dict.

    Args:
        weights: weights of the terms by name, each above 0.
        total_norm: norm of an item's summed gradient, mean over the batch, if the gradients of all terms have the same
            direction.
        ema_decay: decay of the moving averages, below 1; the averages are corrected for their start at 0.

    Raises:
        ValueError: for a number outside its range.
    """

    def __init__(self, weights: Mapping[str, float], total_norm: float = 1.0, ema_decay: float = 0.999) -> None:
        super().__init__()
        if in_unit_interval("ema_decay", ema_decay) == 1:
            raise ValueError("ema_decay: expected a share below 1, got 1; use 0 for no averaging")
        self.weights = {name: positive(f"weights.{name}", weight) for name, weight in weights.items()}
        self.total_norm = positive("total_norm", total_norm)
        self.ema_decay = ema_decay
        for name in self.weights:  # moving average of the norms, and of ones, to correct for the start at 0
            self.register_buffer(f"norm_of_{name}", torch.zeros(2))

    def forward(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """Update the averages with the norms of gradients (B, C, N), and return their balanced sum (B, C, N).

        Terms that are not used yet may be missing from `gradients`; the other terms then share all of total_norm.

        Raises:
            ValueError: for a name without a weight.
        """
        if unknown := set(gradients) - set(self.weights):
            raise ValueError(f"gradients: expected some of {sorted(self.weights)}, got {sorted(unknown)} as well")
        averages = self._average(gradients)
        whole = sum(self.weights[name] for name in gradients)
        factors = {name: self.total_norm * self.weights[name] / whole / averages[name] for name in gradients}
        return torch.stack([factors[name] * gradient for name, gradient in gradients.items()]).sum(dim=0)

    @torch.no_grad()
    def _average(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Update the moving averages of the norms and return them."""
        norms = torch.stack([gradient.flatten(1).norm(dim=1).mean() for gradient in gradients.values()])
        averages = {}
        for name, norm in zip(gradients, mean_over_ranks(norms), strict=True):
            sums = self.get_buffer(f"norm_of_{name}")
            sums.lerp_(torch.stack([norm, torch.ones_like(norm)]).to(sums), 1 - self.ema_decay)
            averages[name] = (sums[0] / sums[1]).clamp_min(_TINY)
        return averages


def with_gradient(value: Tensor, source: Tensor, gradient: Tensor) -> Tensor:
    """Return `value`, a scalar, with `gradient` as its gradient with respect to `source`.

    Only the gradient is kept for the backward pass. The result cannot be differentiated twice.
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
