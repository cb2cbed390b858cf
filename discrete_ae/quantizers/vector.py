"""Vector quantizers of the literature: K codebooks side by side, each for its own channels.

The arithmetic is that of vector-quantize-pytorch, with which the tests compare. There are two differences: training
emits the entries exactly, and moving averages and k-means do not change an entry that no vector chose.

Axes: B batch, D latent channels, T frames, K codebooks, S entries of each, d channels of one entry, c of one codebook.
"""

import math
from abc import abstractmethod
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_ae.checks import in_unit_interval, not_negative, whole_number
from discrete_ae.quantizers.base import Quantized
from discrete_ae.quantizers.codebooks import (
    count_and_sum,
    k_means,
    look_up,
    means,
    nearest,
    replacements,
    snapshot,
)
from discrete_ae.quantizers.gradients import GRADIENTS, MOVES_ENTRIES, Gradient
from discrete_ae.quantizers.product import ProductQuantizer
from discrete_ae.schedules import Schedule


class _NearestEntry(ProductQuantizer):
    """Base class of quantizers whose code is the index of the nearest entry."""

    def __init__(
        self,
        codebook_size: int,
        num_codebooks: int,
        channels: int,
        gradient: Gradient,
        dropout: float | Schedule,
    ) -> None:
        super().__init__(codebook_size, num_codebooks, channels, dropout)
        if gradient not in GRADIENTS:
            raise ValueError(f"gradient: expected one of {', '.join(get_args(Gradient))}, got {gradient!r}")
        self.gradient = gradient

    @property
    def matches_evaluation(self) -> bool:
        """True if training emits the entries of all codebooks."""
        return self.gradient not in MOVES_ENTRIES and not self.drops

    @abstractmethod
    def entries(self) -> Tensor:
        """Return the codebooks (K, S, d)."""

    @abstractmethod
    def _commitment(self, vectors: Tensor, chosen: Tensor) -> Tensor:
        """Return the loss `commitment` of vectors and their chosen entries, both (B, K, d, T)."""

    def _learn(self, entries: Tensor, vectors: Tensor, codes: Tensor) -> None:
        """Update the codebooks without a gradient, from entries (K, S, d), vectors (K, B T, d) and codes (K, B T)."""

    def _search(self, vectors: Tensor, entries: Tensor) -> Tensor:
        """Return the codes (K, B T) of the entries (K, S, d) nearest to vectors (K, B T, d)."""
        return nearest(vectors, entries)

    def _inward(self, split: Tensor) -> Tensor:
        """Return the vectors (B, K, d, T) of latents (B, K, c, T)."""
        return split

    def _outward(self, chosen: Tensor) -> Tensor:
        """Return the latents (B, n, c, T) of entries (B, n, d, T) of the first n codebooks."""
        return chosen

    def quantize_all(self, latents: Tensor) -> Quantized:
        """See ProductQuantizer."""
        inner = self._inward(self.split(latents))
        vectors = _by_codebook(inner.detach())
        entries = self.entries()
        codes = self._search(vectors, entries.detach())
        by_item = codes.unflatten(1, (latents.shape[0], latents.shape[2])).transpose(0, 1)
        if not self.training or not latents.numel():  # the mean of no frames would be NaN
            return Quantized(self._outward(inner).flatten(1, 2), by_item, {})
        chosen = _by_item(look_up(entries, codes), latents.shape[0])
        losses = {}
        if self.gradient not in MOVES_ENTRIES and "commitment" not in self.left_out:
            losses["commitment"] = self._commitment(inner, chosen)
        emitted = self._outward(GRADIENTS[self.gradient](inner, chosen))
        exact = None if self.matches_evaluation else self._outward(chosen).detach().flatten(1, 2)
        self._learn(entries, vectors, codes)
        return Quantized(emitted.flatten(1, 2), by_item, losses, exact)

    def dequantize_some(self, codes: Tensor) -> Tensor:
        """See ProductQuantizer."""
        chosen = look_up(self.entries()[: codes.shape[1]], codes.transpose(0, 1).flatten(1))
        return self._outward(_by_item(chosen, len(codes))).flatten(1, 2)


def _by_codebook(vectors: Tensor) -> Tensor:
    """Reshape (B, K, d, T) to (K, B T, d)."""
    return vectors.permute(1, 0, 3, 2).flatten(1, 2)


def _by_item(vectors: Tensor, batch_size: int) -> Tensor:
    """Reshape (K, B T, d) to (B, K, d, T)."""
    return vectors.unflatten(1, (batch_size, -1)).permute(1, 0, 3, 2).contiguous()


class VectorQuantizer(_NearestEntry):
    """Vector quantization (van den Oord et al. 2017, arXiv:1711.00937); codebooks learn by gradient or averaging.

    Args:
        codebook_size: number of entries in each codebook.
        num_codebooks: number of codebooks, K; the quantizer has D = K codebook_dim channels.
        codebook_dim: number of channels of one codebook, d.
        gradient: name of a gradient in discrete_ae.quantizers.gradients; "diveq" and "nsvq" train the codebooks too, so
            they need no loss.
        ema_decay: None for codebooks learned by gradient; a decay in [0, 1) for codebooks that are moving averages of
            the latents, updated in every forward pass in training (arXiv:1711.00937, appendix A.1).
        dead_code_threshold: minimum number of choices per step, as a moving average. Entries chosen less often are
            replaced by latents; 0 replaces none. Without k_means_steps the averages start at 0, so the first steps fill
            the codebooks with latents.
        k_means_steps: number of rounds of k-means that make the initial codebooks from the latents of the first forward
            pass in training (SoundStream, arXiv:2107.03312, section III.C); 0 for random codebooks.
        dropout: see Quantizer.

    Losses:
        commitment: mean squared distance from latents to their entries. Its gradient moves both, or the latents alone
            if the codebooks are moving averages. Not computed with "diveq" and "nsvq".

    Raises:
        ValueError: for a number outside its range, an unknown gradient, or moving averages with a gradient that trains
            the codebooks.
    """

    codebooks: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        codebook_size: int,
        num_codebooks: int,
        codebook_dim: int,
        gradient: Gradient = "rotation",
        ema_decay: float | None = None,
        dead_code_threshold: float = 0.0,
        k_means_steps: int = 0,
        dropout: float | Schedule = 0.0,
    ) -> None:
        codebook_dim = whole_number("codebook_dim", codebook_dim, 1)
        super().__init__(codebook_size, num_codebooks, codebook_dim, gradient, dropout)
        if ema_decay is not None and not in_unit_interval("ema_decay", ema_decay) < 1:
            raise ValueError(f"ema_decay: expected a number below 1, got {ema_decay!r}")
        if ema_decay is not None and gradient in MOVES_ENTRIES:
            raise ValueError(f"ema_decay: expected null with gradient={gradient}, which trains the codebooks")
        self.ema_decay = ema_decay
        self.dead_code_threshold = not_negative("dead_code_threshold", dead_code_threshold)
        self.k_means_steps = whole_number("k_means_steps", k_means_steps, 0)
        shape = (self.num_codebooks, self.codebook_sizes[0], codebook_dim)
        entries = torch.randn(shape) / math.sqrt(codebook_dim)
        counts = torch.zeros(shape[:2]) if dead_code_threshold or k_means_steps else torch.ones(shape[:2])
        if ema_decay is None:
            self.codebooks = nn.Parameter(entries)
        else:
            self.register_buffer("codebooks", entries)
            self.register_buffer("sums", entries * counts[..., None])
        if self._moves or k_means_steps:
            self.register_buffer("counts", counts)
        self._started = not k_means_steps
        self.register_load_state_dict_post_hook(_resumed)

    @property
    def _moves(self) -> bool:
        """True if a forward pass in training overwrites the codebooks."""
        return self.ema_decay is not None or self.dead_code_threshold > 0

    @property
    def overwrites_parameters(self) -> bool:
        """True if dead entries are replaced in codebooks that learn by gradient."""
        return self.ema_decay is None and self.dead_code_threshold > 0

    def entries(self) -> Tensor:
        """Return the codebooks (K, S, d); in training a copy if they are overwritten before the backward pass."""
        overwritten = self._moves or self.needs_start
        return snapshot(self.codebooks) if self.training and overwritten else self.codebooks

    def _commitment(self, vectors: Tensor, chosen: Tensor) -> Tensor:
        return F.mse_loss(vectors, chosen)

    @property
    def needs_start(self) -> bool:
        """True until k-means has made the codebooks."""
        return not self._started

    @torch.no_grad()
    def start(self, latents: Tensor) -> None:
        """See Quantizer."""
        if not self.k_means_steps:
            return
        entries, counts = k_means(_by_codebook(self.split(latents)), self.codebooks, self.k_means_steps)
        self.codebooks.copy_(entries)
        self.counts.copy_(counts)
        if self.ema_decay is not None:
            self.sums.copy_(entries * counts[..., None])
        self._started = True

    @torch.no_grad()
    def _learn(self, entries: Tensor, vectors: Tensor, codes: Tensor) -> None:
        if not self._moves:
            return
        new_counts, new_sums = count_and_sum(vectors, codes, self.codebook_sizes[0])
        new_share = 1 - (0.99 if self.ema_decay is None else self.ema_decay)
        counts, codebooks = snapshot(self.counts).lerp(new_counts, new_share), entries
        if self.ema_decay is not None:
            sums = snapshot(self.sums).lerp(new_sums, new_share)
            # An entry that no vector chose keeps its value; otherwise, smoothing the counts would slowly move it to 0.
            codebooks = torch.where(new_counts[..., None] > 0, means(counts, sums), entries)
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

    A training step therefore moves all entries, even those that no vector chose. The authors begin with a random map
    of more than a hundred channels; of a few channels it would be badly conditioned, so the identity is used here.

    Args:
        codebook_size: number of entries in each codebook.
        num_codebooks: number of codebooks, K; the quantizer has D = K codebook_dim channels.
        codebook_dim: number of channels of one codebook, d.
        gradient: see VectorQuantizer.
        dropout: see Quantizer.

    Losses:
        commitment: 5/4 of the mean squared distance from latents to their entries. The whole distance has a gradient
            for the entries alone; the added quarter has a gradient for the latents alone. Not computed with "diveq" and
            "nsvq".

    Raises:
        ValueError: for a number outside its range.
    """

    fixed: Tensor

    def __init__(
        self,
        codebook_size: int,
        num_codebooks: int,
        codebook_dim: int,
        gradient: Gradient = "rotation",
        dropout: float | Schedule = 0.0,
    ) -> None:
        codebook_dim = whole_number("codebook_dim", codebook_dim, 1)
        super().__init__(codebook_size, num_codebooks, codebook_dim, gradient, dropout)
        spread = 1 / math.sqrt(codebook_dim)
        self.register_buffer("fixed", torch.randn(self.num_codebooks, self.codebook_sizes[0], codebook_dim) * spread)
        self.maps = nn.Parameter(torch.zeros(self.num_codebooks, codebook_dim, codebook_dim))
        self.maps.data.diagonal(dim1=-2, dim2=-1).fill_(1)

    def entries(self) -> Tensor:
        """Return the codebooks (K, S, d)."""
        return self.fixed @ self.maps.mT

    def _commitment(self, vectors: Tensor, chosen: Tensor) -> Tensor:
        return _one_way_each(vectors, chosen)


class FactorizedVectorQuantizer(_NearestEntry):
    """The codebook of DAC (Kumar et al. 2023, arXiv:2306.06546), from ViT-VQGAN (Yu et al. 2021, arXiv:2110.04627).

    Latents are projected to a few channels. The entry with the largest cosine similarity is chosen and projected back.
    Each codebook has its own projection, so every stage of a residual quantizer codes different channels.

    DAC's projections have weight normalization, which changes how fast they learn, not the functions they can
    represent. DAC initializes both projections independently, and entries as normal vectors. Here the projection back
    is the transpose of an orthonormal projection, because a stage of a residual quantizer would otherwise add noise to
    the channels that it does not code; and entries have a mean square length of 1, as in VectorQuantizer.

    Args:
        codebook_size: number of entries in each codebook.
        num_codebooks: number of codebooks, K; the quantizer has D = K c channels.
        codebook_dim: number of channels of an entry, d.
        channels: number of latent channels of one codebook, c.
        gradient: gradient from entries to projected latents, see VectorQuantizer.
        dropout: see Quantizer.

    Losses:
        commitment: mean squared distance from projected latents to their entries, weighted as in SimVectorQuantizer.
            Not computed with "diveq" and "nsvq".

    Raises:
        ValueError: for a number outside its range, or an unknown gradient.
    """

    def __init__(
        self,
        codebook_size: int,
        num_codebooks: int,
        codebook_dim: int,
        channels: int,
        gradient: Gradient = "straight_through",
        dropout: float | Schedule = 0.0,
    ) -> None:
        codebook_dim = whole_number("codebook_dim", codebook_dim, 1)
        super().__init__(codebook_size, num_codebooks, whole_number("channels", channels, 1), gradient, dropout)
        k, c = self.num_codebooks, self.channels
        self.codebooks = nn.Parameter(torch.randn(k, self.codebook_sizes[0], codebook_dim) / math.sqrt(codebook_dim))
        projections = torch.empty(k, codebook_dim, c)
        if not projections.is_meta:  # its decomposition would need memory there, or a compiler
            for projection in projections:
                nn.init.orthogonal_(projection)
        self.inward = nn.Parameter(F.pad(projections, (0, 1)))  # the last column is the bias
        self.outward = nn.Parameter(F.pad(projections.mT, (0, 1)))

    def entries(self) -> Tensor:
        """Return the codebooks (K, S, d)."""
        return self.codebooks

    def _search(self, vectors: Tensor, entries: Tensor) -> Tensor:
        return nearest(F.normalize(vectors, dim=-1), F.normalize(entries, dim=-1))

    def _inward(self, split: Tensor) -> Tensor:
        return _affine(self.inward, split)

    def _outward(self, chosen: Tensor) -> Tensor:
        return _affine(self.outward[: chosen.shape[1]], chosen)

    def _commitment(self, vectors: Tensor, chosen: Tensor) -> Tensor:
        return _one_way_each(vectors, chosen)


def _affine(weights: Tensor, vectors: Tensor) -> Tensor:
    """Return W v + b for vectors v (B, K, d, T) and weights (K, c, d + 1), whose last column is b."""
    return weights[..., :-1] @ vectors + weights[..., -1:]


def _one_way_each(vectors: Tensor, chosen: Tensor) -> Tensor:
    """Return the squared distance with a gradient for `chosen` plus a quarter of it with a gradient for `vectors`."""
    return F.mse_loss(vectors.detach(), chosen) + F.mse_loss(vectors, chosen.detach()) / 4


def _resumed(module: nn.Module, incompatible: Any) -> None:
    """Mark the codebooks of a loaded checkpoint as started if any entry was ever chosen."""
    if isinstance(module, VectorQuantizer) and module.k_means_steps:
        module._started = bool(module.counts.any())
