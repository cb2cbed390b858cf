"""Named loss terms and their weighted sum: one vocabulary from the configuration to TensorBoard."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class LossValues(NamedTuple):
    """The losses of one batch, scalars."""

    total: Tensor
    """What is optimized: the reconstruction part plus the weighted auxiliary losses of the quantizer."""
    reconstruction: Tensor
    """The weighted sum of the terms."""
    terms: dict[str, Tensor]
    """Each term unweighted, reconstruction terms and the quantizer's auxiliary losses."""


class WeightedLoss(nn.Module):
    """Weighted sum of named reconstruction terms and of the quantizer's auxiliary losses.

    Args:
        terms: modules of (reconstruction, target), by name.
        weights: of the terms, by the same names; a term of weight 0 is not computed.
        quantizer_weights: of the quantizer's auxiliary losses by name, such as commitment; 1 where it is not named.

    Raises:
        ValueError: for a weight without a term, a term without a weight, a negative weight, or all weights 0.
    """

    def __init__(
        self,
        terms: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        quantizer_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if set(terms) != set(weights):
            raise ValueError(f"weights: expected one for each of {sorted(terms)}, got {sorted(weights)}")
        if any(weight < 0 for weight in weights.values()) or not any(weights.values()):
            raise ValueError(f"weights: expected none below 0 and one above, got {dict(weights)}")
        self.weights = {name: float(weight) for name, weight in weights.items() if weight}
        self.terms = nn.ModuleDict({name: terms[name] for name in self.weights})
        self.quantizer_weights = dict(quantizer_weights or {})

    def forward(self, reconstruction: Tensor, target: Tensor, auxiliary: Mapping[str, Tensor]) -> LossValues:
        """Losses of a reconstruction (B, C, N) of target (B, C, N), in float32 whatever autocast says.

        Raises:
            ValueError: if the quantizer names an auxiliary loss as a term is named.
        """
        if clash := set(auxiliary) & set(self.terms):
            raise ValueError(
                f"the quantizer's losses {sorted(clash)} have the names of reconstruction terms; rename one"
            )
        with torch.autocast(target.device.type, enabled=False):
            terms = {name: term(reconstruction.float(), target.float()) for name, term in self.terms.items()}
        weighted = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
        total = weighted
        for name, value in auxiliary.items():
            total = total + self.quantizer_weights.get(name, 1.0) * value
        return LossValues(total, weighted, {**terms, **auxiliary})
