"""Lookup-free quantization: the signs of the channels are the code.

Axes: B batch, D latent channels, T frames, K codebooks, d channels of one codebook.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_ae.checks import not_negative, true_or_false, whole_number
from discrete_ae.quantizers.base import Quantized, straight_through
from discrete_ae.quantizers.entropy import entropy_bits
from discrete_ae.quantizers.product import ProductQuantizer
from discrete_ae.ranks import mean_over_ranks
from discrete_ae.schedules import Schedule


class LookupFreeQuantizer(ProductQuantizer):
    """LFQ (Yu et al. 2023, arXiv:2310.05737) or, on the sphere, BSQ (Zhao et al. 2024, arXiv:2406.07548).

    The code of a codebook is the signs of its d channels, one of 2^d entries.

    Args:
        codebook_size: number of entries in each codebook, a power of 2.
        num_codebooks: number of codebooks, K; the quantizer has D = K log2(codebook_size) channels.
        spherical: whether to scale the channels of a codebook to length 1 first (BSQ).
        inverse_temperature: inverse temperature of the soft assignment in the loss `entropy`.
        diversity: weight of the mean assignment's entropy in the loss `entropy`, relative to the entropy of single
            frames.
        commitment: factor of the loss `commitment`; with 1, codebooks of plain LFQ collapse in the default run.
        dropout: see Quantizer.

    Losses:
        entropy: mean entropy of the frames' soft assignments minus `diversity` times the entropy of their mean, in
            nats. It is low if every frame is assigned clearly and all entries are used.
        commitment: `commitment` times the mean squared distance from latents to their signs.

    Raises:
        ValueError: for a number outside its range, or a codebook_size that is not a power of 2.
    """

    def __init__(
        self,
        codebook_size: int,
        num_codebooks: int,
        spherical: bool = False,
        inverse_temperature: float = 100.0,
        diversity: float = 1.0,
        commitment: float = 0.25,
        dropout: float | Schedule = 0.0,
    ) -> None:
        codebook_size = whole_number("codebook_size", codebook_size, 2)
        if codebook_size & (codebook_size - 1):
            raise ValueError(f"codebook_size: expected a power of 2, got {codebook_size}")
        factors = {"inverse_temperature": inverse_temperature, "diversity": diversity, "commitment": commitment}
        for name, value in factors.items():
            not_negative(name, value)
        super().__init__(codebook_size, num_codebooks, codebook_size.bit_length() - 1, dropout)
        self.spherical = true_or_false("spherical", spherical)
        self.inverse_temperature = inverse_temperature
        self.diversity = diversity
        self.commitment = commitment
        self.magnitude = 1 / math.sqrt(self.channels) if spherical else 1.0

    @property
    def matches_evaluation(self) -> bool:
        """True if no codebooks are dropped: training emits the signs."""
        return not self.drops

    def quantize_all(self, latents: Tensor) -> Quantized:
        """See ProductQuantizer."""
        split = self.split(latents)
        bits = split.detach() > 0
        codes = (bits * self._place_values(latents)).sum(dim=2)
        if not self.training or not latents.numel():  # the mean of no frames would be NaN
            return Quantized(latents, codes, {})
        bounded = F.normalize(split, dim=2) if self.spherical else split
        signs = self._signs(bits)
        losses = {}
        if "entropy" not in self.left_out:
            losses["entropy"] = self._entropy(bounded)
        if "commitment" not in self.left_out:
            losses["commitment"] = self.commitment * F.mse_loss(bounded, signs)
        return Quantized(straight_through(bounded, signs).flatten(1, 2), codes, losses)

    def dequantize_some(self, codes: Tensor) -> Tensor:
        """See ProductQuantizer."""
        return self._signs(codes[:, :, None] & self._place_values(codes) != 0).flatten(1, 2)

    def _place_values(self, like: Tensor) -> Tensor:
        """Return the value (d, 1) int64 of each bit of a code; the first channel is the most significant."""
        return 2 ** torch.arange(self.channels - 1, -1, -1, device=like.device)[:, None]

    def _signs(self, bits: Tensor) -> Tensor:
        return (2.0 * bits - 1) * self.magnitude

    def _entropy(self, latents: Tensor) -> Tensor:
        """Return the loss `entropy` of latents (B, K, d, T), mean over codebooks.

        The soft assignment is softmax(2 inverse_temperature z e) over all 2^d vectors e of d signs. It factorizes into
        the assignments of the first and the second half of the channels, with 2^(d/2) entries each.
        """
        vectors = 2 * self.inverse_temperature * latents.permute(1, 0, 3, 2).flatten(1, 2)
        half = (self.channels + 1) // 2
        logs = [F.log_softmax(part @ self._all_signs(part), dim=-1) for part in vectors.tensor_split([half], dim=-1)]
        first, last = (log.exp() for log in logs)
        of_frames = -(first * logs[0]).sum(dim=-1).mean() - (last * logs[1]).sum(dim=-1).mean()
        shares = mean_over_ranks(first.mT @ last / vectors.shape[1])
        of_mean = math.log(2) * entropy_bits(shares.flatten(1)) / self.num_codebooks
        return of_frames - self.diversity * of_mean

    def _all_signs(self, part: Tensor) -> Tensor:
        """Return all vectors of n signs as the columns of (n, 2^n), for vectors `part` (..., n)."""
        places = torch.arange(part.shape[-1], device=part.device)[:, None]
        return self._signs((torch.arange(2 ** part.shape[-1], device=part.device) >> places) & 1)
