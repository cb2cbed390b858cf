"""A quantizer of one's own: uniform rounding of logarithmically compressed latents, as µ-law does to samples.

own_quantizer.py trains it beside `ste`; conf/quantizer/companded.yaml is its configuration.
"""

import math

import torch
from torch import Tensor

from discrete_ae.quantizers import Quantized, Quantizer
from discrete_ae.quantizers.base import straight_through


class Companded(Quantizer):
    """Each channel is compressed by c(x) = sign(x) ln(1 + µ|x|) / ln(1 + µ), clipped to [-1, 1], and rounded.

    Small latents get finer steps than large ones. The gradient of rounding is passed straight through, in the
    compressed domain (ITU-T G.711 has the curve, for µ = 255).

    Args:
        num_codebooks: K, one for each channel of the latents.
        levels: L, entries of each codebook.
        mu: µ > 0, how much finer the smallest steps are.
    """

    def __init__(self, num_codebooks: int, levels: int = 256, mu: float = 15.0) -> None:
        super().__init__(dim=num_codebooks, codebook_sizes=[levels] * num_codebooks)
        self.levels, self.mu = levels, mu

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        compressed = latents.sign() * torch.log1p(self.mu * latents.abs()) / math.log1p(self.mu)
        scaled = (compressed.clamp(-1, 1) + 1) / 2 * (self.levels - 1)  # [0, L - 1]
        codes = scaled.detach().nan_to_num().round().long()
        rounded = straight_through(scaled, codes.to(scaled.dtype))
        return Quantized(self._expand(rounded), codes, {})

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        return self._expand(codes.float())

    @property
    def matches_evaluation(self) -> bool:
        """True: training emits the decoded codes."""
        return True

    def _expand(self, rounded: Tensor) -> Tensor:
        compressed = 2 * rounded / (self.levels - 1) - 1
        return compressed.sign() * torch.expm1(compressed.abs() * math.log1p(self.mu)) / self.mu
