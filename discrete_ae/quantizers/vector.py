"""Vector quantizers of the literature: K codebooks side by side, each for channels of its own.

Their arithmetic is that of vector-quantize-pytorch, with which the tests compare them, except that training emits the
entries exactly.

Axes: B batch, D latent channels, T frames, K codebooks, S entries of each, d channels of one codebook.
"""

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_ae.checks import in_unit_interval, not_negative, whole_number
from discrete_ae.quantizers.base import Quantized, straight_through
from discrete_ae.quantizers.codebooks import (
    SideBySide,
    count_and_sum,
    look_up,
    means,
    nearest,
    replacements,
    rotated,
    snapshot,
)
from discrete_ae.quantizers.entropy import entropy_bits
from discrete_ae.ranks import mean_over_ranks


class _NearestEntry(SideBySide):
    """Base of quantizers whose code is that of the nearest entry, by Euclidean distance."""

    def __init__(self, codebook_size: int, num_codebooks: int, codebook_dim: int, rotation_trick: bool) -> None:
        super().__init__(codebook_size, num_codebooks, codebook_dim)
        self.rotation_trick = rotation_trick

    @property
    def matches_evaluation(self) -> bool:
        """True: training emits the entries."""
        return True

    @abstractmethod
    def entries(self) -> Tensor:
        """Return the codebooks (K, S, d)."""

    @abstractmethod
    def _commitment(self, latents: Tensor, chosen: Tensor) -> Tensor:
        """Return the loss `commitment` of latents and the entries that they chose, both (B, K, d, T)."""

    def _learn(self, entries: Tensor, vectors: Tensor, codes: Tensor) -> None:
        """Update the codebooks (K, S, d) without a gradient, by vectors (K, B T, d) and their codes (K, B T)."""

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        split, entries = self._split(latents), self.entries()
        vectors = split.detach().permute(1, 0, 3, 2).flatten(1, 2)
        codes = nearest(vectors, entries.detach())
        by_item = codes.unflatten(1, (latents.shape[0], latents.shape[2])).transpose(0, 1)
        if not self.training or not latents.numel():  # the mean of no frames would be NaN
            return Quantized(latents, by_item, {})
        chosen = self._by_item(look_up(entries, codes), latents.shape[0])
        losses = {} if "commitment" in self.left_out else {"commitment": self._commitment(split, chosen)}
        emitted = chosen.detach()
        emitted = rotated(split, emitted, dim=2) if self.rotation_trick else straight_through(split, emitted)
        self._learn(entries, vectors, codes)
        return Quantized(emitted.flatten(1, 2), by_item, losses)

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        return self._by_item(look_up(self.entries(), codes.transpose(0, 1).flatten(1)), len(codes)).flatten(1, 2)

    def _by_item(self, vectors: Tensor, batch_size: int) -> Tensor:
        """(K, B T, d) to (B, K, d, T)."""
        return vectors.unflatten(1, (batch_size, -1)).permute(1, 0, 3, 2).contiguous()


class VectorQuantizer(_NearestEntry):
    """Vector quantization (van den Oord et al. 2017, arXiv:1711.00937), codebooks learned by gradient or averaging.

    Args:
        codebook_size: entries of each codebook.
        num_codebooks: K; the quantizer has D = K codebook_dim channels.
        codebook_dim: d, channels of one codebook.
        rotation_trick: whether the gradient of an entry is rotated to the latents (Fifty et al. 2024, arXiv:2410.06424)
            rather than passed straight through.
        ema_decay: None for codebooks learned by gradient; a decay in [0, 1) for codebooks that are moving averages of
            the latents, updated in every training forward (arXiv:1711.00937, appendix A.1).
        dead_code_threshold: entries chosen less often than this per step, by a moving average, are replaced by latents;
            0 replaces none. The averages start at 0, so the first steps fill the codebooks with latents.

    Losses:
        commitment: mean squared distance from latents to their entries. Its gradient moves both, or the latents alone
            if the codebooks are moving averages.

    Raises:
        ValueError: for a number outside its range.
    """

    codebooks: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        codebook_size: int,
        num_codebooks: int,
        codebook_dim: int,
        rotation_trick: bool = True,
        ema_decay: float | None = None,
        dead_code_threshold: float = 0.0,
    ) -> None:
        super().__init__(codebook_size, num_codebooks, codebook_dim, rotation_trick)
        if ema_decay is not None and not in_unit_interval("ema_decay", ema_decay) < 1:
            raise ValueError(f"ema_decay: expected a number below 1, got {ema_decay!r}")
        self.ema_decay = ema_decay
        self.dead_code_threshold = not_negative("dead_code_threshold", dead_code_threshold)
        shape = (num_codebooks, codebook_size, codebook_dim)
        entries = torch.randn(shape) / math.sqrt(codebook_dim)
        counts = torch.zeros(shape[:2]) if dead_code_threshold else torch.ones(shape[:2])
        if ema_decay is None:
            self.codebooks = nn.Parameter(entries)
        else:
            self.register_buffer("codebooks", entries)
            self.register_buffer("sums", entries * counts[..., None])
        if self._moves:
            self.register_buffer("counts", counts)

    @property
    def _moves(self) -> bool:
        """Whether a training forward overwrites the codebooks."""
        return self.ema_decay is not None or self.dead_code_threshold > 0

    def entries(self) -> Tensor:
        """Return the codebooks (K, S, d); in training a copy if they are overwritten before the backward."""
        return snapshot(self.codebooks) if self.training and self._moves else self.codebooks

    def _commitment(self, latents: Tensor, chosen: Tensor) -> Tensor:
        return F.mse_loss(latents, chosen)

    @torch.no_grad()
    def _learn(self, entries: Tensor, vectors: Tensor, codes: Tensor) -> None:
        if not self._moves:
            return
        new_counts, new_sums = count_and_sum(vectors, codes, self.codebook_sizes[0])
        new_share = 1 - (0.99 if self.ema_decay is None else self.ema_decay)
        counts, codebooks = snapshot(self.counts).lerp(new_counts, new_share), entries
        if self.ema_decay is not None:
            sums = snapshot(self.sums).lerp(new_sums, new_share)
            codebooks = means(counts, sums)
        if self.dead_code_threshold:
            values, replaced = replacements(vectors, counts < self.dead_code_threshold)
            counts = counts.masked_fill(replaced, self.dead_code_threshold)
            codebooks = torch.where(replaced[..., None], values, codebooks)
            if self.ema_decay is not None:
                sums = torch.where(replaced[..., None], values * self.dead_code_threshold, sums)
        self.counts.copy_(counts)
        self.codebooks.copy_(codebooks)
        if self.ema_decay is not None:
            self.sums.copy_(sums)


class SimVectorQuantizer(_NearestEntry):
    """SimVQ (Zhu et al. 2024, arXiv:2411.02038): the codebook is a learned linear map of fixed random vectors.

    A training step therefore moves all entries, also those that were not chosen.

    Args:
        codebook_size: entries of each codebook.
        num_codebooks: K; the quantizer has D = K codebook_dim channels.
        codebook_dim: d, channels of one codebook.
        rotation_trick: see VectorQuantizer.

    Losses:
        commitment: mean squared distance from latents to their entries, counted once with a gradient for the entries
            alone, and with the weight 1/4 for the latents alone: its value is 5/4 of the distance.

    Raises:
        ValueError: for a number outside its range.
    """

    fixed: Tensor

    def __init__(self, codebook_size: int, num_codebooks: int, codebook_dim: int, rotation_trick: bool = True) -> None:
        super().__init__(codebook_size, num_codebooks, codebook_dim, rotation_trick)
        spread = 1 / math.sqrt(codebook_dim)
        self.register_buffer("fixed", torch.randn(num_codebooks, codebook_size, codebook_dim) * spread)
        # The initialization of nn.Linear.
        self.maps = nn.Parameter(torch.empty(num_codebooks, codebook_dim, codebook_dim).uniform_(-spread, spread))

    def entries(self) -> Tensor:
        """Return the codebooks (K, S, d)."""
        return self.fixed @ self.maps.mT

    def _commitment(self, latents: Tensor, chosen: Tensor) -> Tensor:
        return F.mse_loss(latents.detach(), chosen) + F.mse_loss(latents, chosen.detach()) / 4


class LookupFreeQuantizer(SideBySide):
    """LFQ (Yu et al. 2023, arXiv:2310.05737) or, on the sphere, BSQ (Zhao et al. 2024, arXiv:2406.07548).

    The code of a codebook is the signs of its d channels, of 2^d entries.

    Args:
        codebook_size: entries of each codebook, a power of 2.
        num_codebooks: K; the quantizer has D = K log2(codebook_size) channels.
        spherical: whether the channels of a codebook are first scaled to length 1 (BSQ).
        inverse_temperature: of the soft assignment in the loss `entropy`.
        diversity: weight in the loss `entropy` of the mean assignment's entropy, against that of single frames.
        commitment: factor of the loss `commitment`; with 1, codebooks of plain LFQ collapse in the default run.

    Losses:
        entropy: mean entropy of the frames' soft assignments, less `diversity` times the entropy of their mean, in
            nats: low if every frame is assigned clearly and all entries are used.
        commitment: `commitment` times the mean squared distance from latents to their signs.

    Raises:
        ValueError: for a number outside its range, or a codebook_size that is no power of 2.
    """

    def __init__(
        self,
        codebook_size: int,
        num_codebooks: int,
        spherical: bool = False,
        inverse_temperature: float = 100.0,
        diversity: float = 1.0,
        commitment: float = 0.25,
    ) -> None:
        codebook_size = whole_number("codebook_size", codebook_size, 2)
        if codebook_size & (codebook_size - 1):
            raise ValueError(f"codebook_size: expected a power of 2, got {codebook_size}")
        factors = {"inverse_temperature": inverse_temperature, "diversity": diversity, "commitment": commitment}
        for name, value in factors.items():
            not_negative(name, value)
        super().__init__(codebook_size, num_codebooks, codebook_size.bit_length() - 1)
        self.spherical = spherical
        self.inverse_temperature = inverse_temperature
        self.diversity = diversity
        self.commitment = commitment
        self.magnitude = 1 / math.sqrt(self.codebook_dim) if spherical else 1.0

    @property
    def matches_evaluation(self) -> bool:
        """True: training emits the signs."""
        return True

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        split = self._split(latents)
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

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        return self._signs(codes[:, :, None] & self._place_values(codes) != 0).flatten(1, 2)

    def _place_values(self, like: Tensor) -> Tensor:
        """Return the value (d, 1) int64 of each bit of a code; the first channel is the most significant."""
        return 2 ** torch.arange(self.codebook_dim - 1, -1, -1, device=like.device)[:, None]

    def _signs(self, bits: Tensor) -> Tensor:
        return (2.0 * bits - 1) * self.magnitude

    def _entropy(self, latents: Tensor) -> Tensor:
        """Return the loss `entropy` of latents (B, K, d, T), mean over codebooks.

        The soft assignment is softmax(2 inverse_temperature z e) over all 2^d vectors e of d signs. It is the product
        of the assignments of the first half of the channels and of the second, which have 2^(d/2) entries each.
        """
        vectors = 2 * self.inverse_temperature * latents.permute(1, 0, 3, 2).flatten(1, 2)
        half = (self.codebook_dim + 1) // 2
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
