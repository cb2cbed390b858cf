"""Gumbel-softmax quantizer: a categorical choice among learned vectors, relaxed while training.

Each codebook scores its entries by a linear map of its channels; training draws softmax((logits + g) / tau) with
Gumbel noise g (Jang et al. 2017, arXiv:1611.01144; Maddison et al. 2017, arXiv:1611.00712), evaluation takes the
arg max without noise. The scores and the emitted vectors have weights of their own, as in vq-wav2vec
(arXiv:1910.05453).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_ae.quantizers.base import Quantized, Quantizer, whole_number


class GumbelSoftmaxQuantizer(Quantizer):
    """Categorical quantizer with the Gumbel-softmax relaxation.

    Args:
        codebook_size: entries of each codebook.
        num_codebooks: K; the quantizer has D = K codebook_dim channels.
        codebook_dim: channels of one codebook.
        temperature: tau > 0 of the relaxation.
        hard: whether the training forward emits one entry (straight-through) or the soft mixture.

    Raises:
        ValueError: for a number outside these ranges.
    """

    def __init__(
        self,
        codebook_size: int,
        num_codebooks: int,
        codebook_dim: int,
        temperature: float = 1.0,
        hard: bool = True,
    ) -> None:
        codebook_size = whole_number("codebook_size", codebook_size, 2)
        num_codebooks = whole_number("num_codebooks", num_codebooks, 1)
        codebook_dim = whole_number("codebook_dim", codebook_dim, 1)
        if not (isinstance(temperature, int | float) and math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature: expected a finite number above 0, got {temperature}")
        super().__init__(dim=num_codebooks * codebook_dim, codebook_sizes=[codebook_size] * num_codebooks)
        self.temperature = temperature
        self.hard = hard
        shape = (num_codebooks, codebook_size, codebook_dim)
        self.scores = nn.Parameter(torch.randn(shape) / math.sqrt(codebook_dim))
        self.codebooks = nn.Parameter(torch.randn(shape) / math.sqrt(codebook_dim))

    def logits(self, latents: Tensor) -> Tensor:
        """Scores (B, K, T, codebook_size) of the entries for latents (B, D, T)."""
        by_codebook = latents.unflatten(1, (self.num_codebooks, -1))
        return torch.einsum("bkdt,ksd->bkts", by_codebook, self.scores)

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        logits = self.logits(latents)
        codes = logits.argmax(dim=-1)
        if self.training:
            choice = F.gumbel_softmax(logits, tau=self.temperature, hard=self.hard, dim=-1)
        else:
            choice = torch.softmax(logits / self.temperature, dim=-1)  # its value is replaced by dequantize(codes)
        mixed = torch.einsum("bkts,ksd->bkdt", choice, self.codebooks)
        return Quantized(mixed.flatten(1, 2), codes, {})

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        k = torch.arange(self.num_codebooks, device=codes.device)[:, None]
        return self.codebooks[k, codes].permute(0, 1, 3, 2).flatten(1, 2)
