"""Named loss terms and their weighted sum, with the same names from the configuration to TensorBoard."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from discrete_ae.checks import finite, not_negative
from discrete_ae.losses.adversarial import Adversary
from discrete_ae.losses.balancer import LossBalancer, with_gradient


class LossValues(NamedTuple):
    """The losses of one batch, scalars."""

    total: Tensor
    """The optimized loss: the weighted sum of the reconstruction, adversarial and quantizer terms."""
    reconstruction: Tensor
    """The weighted sum of the reconstruction terms; without a gradient if a balancer is used."""
    terms: dict[str, Tensor]
    """Unweighted terms by name, without terms of weight 0. With a balancer, only quantizer terms have gradients."""


class WeightedLoss(nn.Module):
    """Weighted sum of named reconstruction terms, adversarial terms, and the quantizer's auxiliary losses.

    Args:
        terms: modules that are called with (reconstruction, target), by name.
        weights: weights of the terms, by the same names; a term of weight 0 is not computed.
        quantizer_weights: weights of the quantizer's auxiliary losses, such as commitment, by name; 1 if not given. A
            loss of weight 0 is neither computed (Quantizer.leave_out) nor logged. A loss of negative weight is
            maximized.
        balancer: builds a balancer from the weights of all terms except the quantizer's. The balancer scales the
            gradients. The values stay weighted sums, so that runs with and without a balancer can be compared.
        adversary: discriminators; their terms are added if `forward` is called with adversarial=True.

    Raises:
        ValueError: for a weight without a term, a term without a weight, a weight that is negative or not finite,
            weights that are all 0, or a term with the name of an adversarial term.
    """

    def __init__(
        self,
        terms: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        quantizer_weights: Mapping[str, float] | None = None,
        balancer: Callable[[Mapping[str, float]], LossBalancer] | None = None,
        adversary: Adversary | None = None,
    ) -> None:
        super().__init__()
        if set(terms) != set(weights):
            raise ValueError(f"weights: expected one for each of {sorted(terms)}, got {sorted(weights)}")
        given = {name: not_negative(f"weights.{name}", weight) for name, weight in weights.items()}
        if not any(given.values()):
            raise ValueError(f"weights: expected one above 0, got {dict(weights)}")
        self.weights = {name: weight for name, weight in given.items() if weight}
        self.terms = nn.ModuleDict({name: terms[name] for name in self.weights})
        self.quantizer_weights = {
            name: finite(f"quantizer_weights.{name}", weight) for name, weight in (quantizer_weights or {}).items()
        }
        self.adversary = adversary
        if clash := set(self.weights) & set(self.adversarial_weights):
            raise ValueError(f"terms: {sorted(clash)} have the names of adversarial terms; rename them")
        self.balancer = balancer(self.weights | self.adversarial_weights) if balancer else None

    @property
    def adversarial_weights(self) -> dict[str, float]:
        """Weights of the adversary's terms by name; {} without an adversary."""
        return dict(self.adversary.weights) if self.adversary else {}

    def forward(
        self,
        reconstruction: Tensor,
        target: Tensor,
        auxiliary: Mapping[str, Tensor],
        *,
        adversarial: bool = False,
    ) -> LossValues:
        """Return the losses of a reconstruction (B, C, N) of target (B, C, N), in float32 even under autocast.

        Args:
            reconstruction: (B, C, N).
            target: (B, C, N).
            auxiliary: the quantizer's losses by name, scalars.
            adversarial: whether to compute the adversary's terms and add them to the total. They are never part of
                `reconstruction`, by which checkpoints are compared. The adversary's networks run under the caller's
                autocast.

        Raises:
            ValueError: if an auxiliary loss has the name of a term, or adversarial is True without an adversary.
        """
        if clash := set(auxiliary) & (set(self.terms) | set(self.adversarial_weights)):
            raise ValueError(f"the quantizer's losses {sorted(clash)} have the names of terms of the loss; rename one")
        if adversarial and self.adversary is None:
            raise ValueError("adversarial: expected a loss with an adversary, got none; choose loss=adversarial")
        reconstruction, target = reconstruction.float(), target.float()
        balancing = self.balancer is not None and torch.is_grad_enabled() and reconstruction.requires_grad
        source = reconstruction.detach().requires_grad_() if balancing else reconstruction
        with torch.autocast(target.device.type, enabled=False):
            terms = {name: term(source, target) for name, term in self.terms.items()}
        opposed = self.adversary.generator_terms(source, target) if adversarial and self.adversary else {}
        reconstructed = _weighted_sum(terms, self.weights)
        total = reconstructed + _weighted_sum(opposed, self.adversarial_weights) if opposed else reconstructed
        named = {**terms, **opposed}
        if balancing and self.balancer is not None:
            # The graph is retained, since adversarial terms share the graph of the discriminators.
            with torch.autocast(target.device.type, enabled=False):
                gradients = {n: torch.autograd.grad(value, source, retain_graph=True)[0] for n, value in named.items()}
            total = with_gradient(total, reconstruction, self.balancer(gradients))
            named, reconstructed = {name: value.detach() for name, value in named.items()}, reconstructed.detach()
        auxiliary = {name: value for name, value in auxiliary.items() if self.quantizer_weights.get(name) != 0}
        for name, value in auxiliary.items():
            total = total + self.quantizer_weights.get(name, 1.0) * value
        return LossValues(total, reconstructed, {**named, **auxiliary})


def _weighted_sum(values: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    return torch.stack([weights[name] * value for name, value in values.items()]).sum()
