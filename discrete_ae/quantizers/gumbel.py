"""Gumbel-softmax quantizer: a categorical choice among learned vectors, relaxed in training.

The score of an entry e for the channels z is -precision |z - e|^2. Training mixes the entries with the weights
softmax((scores + g) / tau), with Gumbel noise g (Jang et al. 2017, arXiv:1611.01144; Maddison et al. 2017,
arXiv:1611.00712). Evaluation takes the arg max without noise, which is the nearest entry.

These scores, distances with a learned precision, are those of stochastic quantization (Takida et al. 2022,
arXiv:2205.07547); its variational losses are left out. The output is then near the input from the first step on. With
scores from a linear map, as in vq-wav2vec, our trials stayed below -30 dB SI-SDR.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_ae.checks import positive, true_or_false, whole_number
from discrete_ae.quantizers.base import Quantized, straight_through
from discrete_ae.quantizers.entropy import entropy_bits
from discrete_ae.quantizers.product import ProductQuantizer
from discrete_ae.ranks import mean_over_ranks
from discrete_ae.schedules import Schedule


class GumbelSoftmaxQuantizer(ProductQuantizer):
    """Categorical quantizer with the Gumbel-softmax relaxation.

    Args:
        codebook_size: number of entries in each codebook.
        num_codebooks: number of codebooks, K; the quantizer has D = K codebook_dim channels.
        codebook_dim: number of channels of one codebook.
        temperature: temperature of the relaxation, tau > 0; may be a schedule.
        hard: whether training gives one entry (straight-through) or the soft mixture. A schedule from 0 to 1 switches
            from soft to hard at 1/2.
        precision: initial value, above 0, of the learned factor of the squared distance.
        kl_to_uniform: whether to compute the loss `kl`.
        reinmax: whether the hard choice has the gradient of ReinMax (Liu et al. 2023, arXiv:2304.08612, algorithm 2),
            which is accurate to second order. It requires hard=True.
        dropout: see Quantizer.

    Losses:
        kl: divergence in nats of softmax(scores) from the uniform distribution, mean over frames and codebooks (Ramesh
            et al. 2021, arXiv:2102.12092). It keeps the choice of a frame from becoming too certain.
        code_entropy: entropy in bits per frame of the mean of softmax(scores) over the batch of all ranks, summed over
            codebooks.

    Raises:
        ValueError: for a number outside these ranges.
    """

    temperature: float | Tensor
    hard: bool | Tensor

    def __init__(
        self,
        codebook_size: int,
        num_codebooks: int,
        codebook_dim: int,
        temperature: float | Schedule = 1.0,
        hard: bool | Schedule = True,
        precision: float = 4.0,
        kl_to_uniform: bool = False,
        reinmax: bool = False,
        dropout: float | Schedule = 0.0,
    ) -> None:
        super().__init__(codebook_size, num_codebooks, whole_number("codebook_dim", codebook_dim, 1), dropout)
        self.set_number("temperature", temperature, positive)
        self.set_flag("hard", hard)
        self.kl_to_uniform = true_or_false("kl_to_uniform", kl_to_uniform)
        self.reinmax = true_or_false("reinmax", reinmax)
        if reinmax and hard is not True:
            raise ValueError(
                f"reinmax: expected hard=true with reinmax=true, got hard={hard!r}; ReinMax is for hard choices"
            )
        shape = (self.num_codebooks, self.codebook_sizes[0], self.channels)
        self.codebooks = nn.Parameter(torch.randn(shape) / math.sqrt(codebook_dim))
        self.log_precision = nn.Parameter(torch.full((self.num_codebooks,), math.log(positive("precision", precision))))

    def logits(self, latents: Tensor) -> Tensor:
        """Return scores (B, K, T, S) of the S entries for latents (B, D, T), up to a constant per frame."""
        # -|z - e|^2 = 2 z e - |e|^2 - |z|^2; the last term is the same for every entry and left out.
        precision = self.log_precision.exp()[:, None, None]
        products = torch.einsum("bkdt,ksd->bkts", self.split(latents), 2 * precision * self.codebooks)
        return products - (precision * self.codebooks.square()).sum(dim=-1)[:, None]

    def quantize_all(self, latents: Tensor) -> Quantized:
        """See ProductQuantizer."""
        logits = self.logits(latents)
        codes = logits.argmax(dim=-1)
        # In evaluation the mixture gives the gradient; the base class replaces its value by dequantize(codes).
        choice = self._draw(logits) if self.training else torch.softmax(logits / self.temperature, dim=-1)
        mixed = torch.einsum("bkts,ksd->bkdt", choice, self.codebooks)
        losses = self._losses(logits) if self.training and logits.numel() else {}
        return Quantized(mixed.flatten(1, 2), codes, losses)

    def _losses(self, logits: Tensor) -> dict[str, Tensor]:
        losses = {}
        if "code_entropy" not in self.left_out:
            shares = mean_over_ranks(torch.softmax(logits, dim=-1).mean(dim=(0, 2)))
            losses["code_entropy"] = entropy_bits(shares)
        if self.kl_to_uniform and "kl" not in self.left_out:
            losses["kl"] = _kl_to_uniform(logits)
        return losses

    def _draw(self, logits: Tensor) -> Tensor:
        """Draw weights (B, K, T, codebook_size) of the entries by Gumbel noise, soft or one-hot."""
        if self.reinmax:
            return _reinmax(logits, self.temperature)
        soft = F.gumbel_softmax(logits, tau=cast(float, self.temperature), dim=-1)
        if self.hard is False:
            return soft
        chosen = torch.zeros_like(soft).scatter_(-1, soft.argmax(dim=-1, keepdim=True), 1.0)
        straight_through = chosen + (soft - soft.detach())
        if isinstance(self.hard, Tensor):
            return torch.where(self.hard >= 0.5, straight_through, soft)
        return straight_through

    def dequantize_some(self, codes: Tensor) -> Tensor:
        """See ProductQuantizer."""
        k = torch.arange(codes.shape[1], device=codes.device)[:, None]
        return self.codebooks[k, codes].permute(0, 1, 3, 2).flatten(1, 2)


def _reinmax(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Draw one-hot choices of softmax(logits) with the gradient of ReinMax.

    Let p be the probabilities, D the choice and q = (D + softmax(logits / temperature)) / 2. The gradient is that of
    2 q - p / 2, with q computed as the softmax of the logits plus constants.
    """
    p = torch.softmax(logits, dim=-1)
    chosen = F.gumbel_softmax(logits.detach(), dim=-1).argmax(dim=-1, keepdim=True)
    choice = torch.zeros_like(p).scatter_(-1, chosen, 1.0)
    q = (choice + torch.softmax(logits.detach() / temperature, dim=-1)) / 2
    moved = torch.softmax((q.log() - logits).detach() + logits, dim=-1)
    return straight_through(2 * moved - p / 2, choice)


def _kl_to_uniform(logits: Tensor) -> Tensor:
    """Return the mean of log(size) - entropy over all distributions softmax(logits)."""
    logs = torch.log_softmax(logits, dim=-1)
    return (logs.exp() * logs).sum(dim=-1).mean() + math.log(logits.shape[-1])
