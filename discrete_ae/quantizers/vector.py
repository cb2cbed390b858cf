"""Vector quantizers of the field: thin adapters over vector-quantize-pytorch, where they are kept.

An adapter gives each the contract of `Quantizer`: K codebooks side by side, losses by name with the weights left to
conf/loss, latents that are exactly decode(codes) in evaluation (some of the library's decoders differ in the last bit),
and a straight-through gradient there. The library's own dropout of quantizers, which emits codes of -1, is not used.

Axes: B batch, D latent channels, T frames, K codebooks, d channels of one codebook.
"""

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from discrete_ae.checks import in_unit_interval, whole_number
from discrete_ae.quantizers.base import Quantized, Quantizer

if TYPE_CHECKING:
    from types import ModuleType


def _library() -> "ModuleType":
    """Imported where it is needed: it takes a second, and no other quantizer uses it."""
    import vector_quantize_pytorch

    return vector_quantize_pytorch


class _Adapter(Quantizer):
    """K codebooks of the library, side by side, each of `codebook_dim` channels."""

    def __init__(self, codebook_size: int, num_codebooks: int, codebook_dim: int) -> None:
        codebook_size = whole_number("codebook_size", codebook_size, 2)
        num_codebooks = whole_number("num_codebooks", num_codebooks, 1)
        codebook_dim = whole_number("codebook_dim", codebook_dim, 1)
        super().__init__(dim=num_codebooks * codebook_dim, codebook_sizes=[codebook_size] * num_codebooks)
        self.codebook_dim = codebook_dim

    @abstractmethod
    def _apply_library(self, latents: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Latents (B, T, D) to quantized (B, T, D), codes (B, T, K) and losses; T >= 1."""

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        if not latents.numel():  # a mean over nothing would be nan
            return Quantized(latents, latents.new_zeros((len(latents), self.num_codebooks, 0), dtype=torch.int64), {})
        quantized, codes, losses = self._apply_library(latents.transpose(1, 2))
        quantized, codes = quantized.transpose(1, 2), codes.transpose(1, 2).long()
        if not self.training:
            quantized = latents + (quantized - latents).detach()  # the library's evaluation has no gradient
        return Quantized(quantized, codes, losses if self.training else {})


class VectorQuantizer(_Adapter):
    """Vector quantization (van den Oord et al. 2017, arXiv:1711.00937), codebooks learned by gradient.

    Args:
        codebook_size: entries of each codebook.
        num_codebooks: K; the quantizer has D = K codebook_dim channels.
        codebook_dim: d, channels of one codebook.
        rotation_trick: gradient by rotating it from the entry to the latents (Fifty et al. 2024, arXiv:2410.06424)
            rather than straight through.
        ema_decay: None for codebooks learned by gradient; a share in [0, 1) for codebooks that follow the moving
            average of the latents, which a training forward then changes (arXiv:1711.00937, appendix A.1).
        dead_code_threshold: entries chosen less often than this in a step, by their moving average, are replaced by
            latents; 0 replaces none.

    Losses:
        commitment: mean squared distance from latents to their entries; its gradient moves both.

    Raises:
        ValueError: for a number outside its range.
    """

    def __init__(
        self,
        codebook_size: int,
        num_codebooks: int,
        codebook_dim: int,
        rotation_trick: bool = True,
        ema_decay: float | None = None,
        dead_code_threshold: int = 0,
    ) -> None:
        super().__init__(codebook_size, num_codebooks, codebook_dim)
        if ema_decay is not None and not in_unit_interval("ema_decay", ema_decay) < 1:
            raise ValueError(f"ema_decay: expected a share below 1, got {ema_decay!r}")
        self.inner = _library().VectorQuantize(
            self.dim,
            codebook_size,
            codebook_dim,
            heads=num_codebooks,
            separate_codebook_per_head=True,
            rotation_trick=rotation_trick,
            ema_update=ema_decay is not None,
            learnable_codebook=ema_decay is None,
            decay=0.99 if ema_decay is None else ema_decay,
            threshold_ema_dead_code=whole_number("dead_code_threshold", dead_code_threshold, 0),
        )
        # The library's own first entries lie within 0.1 of the origin, where most of them are never the nearest.
        entries = torch.randn(num_codebooks, codebook_size, codebook_dim) / math.sqrt(codebook_dim)
        codebook = self.inner._codebook
        codebook.embed.data.copy_(entries)
        codebook.embed_avg.data.copy_(entries)

    def _apply_library(self, latents: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        quantized, codes, _, losses = self.inner(latents, return_loss_breakdown=True)
        return quantized, codes.view(*latents.shape[:2], self.num_codebooks), {"commitment": losses.commitment}

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        k = torch.arange(codes.shape[1], device=codes.device)[:, None]
        return self.inner._codebook.embed[k, codes].transpose(2, 3).flatten(1, 2)


class SimVectorQuantizer(_Adapter):
    """Vector quantization whose codebook is a learned linear map of fixed random entries (Zhu et al. 2024, SimVQ,
    arXiv:2411.02038): a step moves all entries, so that none is left behind.

    Args:
        codebook_size: entries of each codebook.
        num_codebooks: K; the quantizer has D = K codebook_dim channels.
        codebook_dim: d, channels of one codebook.
        rotation_trick: see VectorQuantizer.

    Losses:
        commitment: mean squared distance from latents to their entries, 1 of it moving the entries and 1/4 the latents
            (its value is 5/4 of the distance).

    Raises:
        ValueError: for a number outside its range.
    """

    def __init__(self, codebook_size: int, num_codebooks: int, codebook_dim: int, rotation_trick: bool = True) -> None:
        super().__init__(codebook_size, num_codebooks, codebook_dim)
        sim_vq = _library().SimVQ
        made = [sim_vq(codebook_dim, codebook_size, rotation_trick=rotation_trick) for _ in range(num_codebooks)]
        self.inner = nn.ModuleList(made)

    def _apply_library(self, latents: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        parts = latents.split(self.codebook_dim, dim=-1)
        outs = [inner(part.contiguous()) for inner, part in zip(self.inner, parts, strict=True)]
        quantized, codes, losses = zip(*outs, strict=True)
        return torch.cat(quantized, dim=-1), torch.stack(codes, dim=-1), {"commitment": torch.stack(losses).mean()}

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        codebooks = [inner.codebook for inner in self.inner]
        parts = [cast(Tensor, entries)[code] for entries, code in zip(codebooks, codes.unbind(1), strict=True)]
        return torch.cat(parts, dim=-1).transpose(1, 2)


class LookupFreeQuantizer(_Adapter):
    """Signs as codes: lookup-free quantization (Yu et al. 2023, LFQ, arXiv:2310.05737), or on the sphere (Zhao et al.
    2024, BSQ, arXiv:2406.07548). A codebook of 2^d entries has d channels.

    Args:
        codebook_size: entries of each codebook, a power of 2.
        num_codebooks: K; the quantizer has D = K log2(codebook_size) channels.
        spherical: whether the channels of a codebook are first scaled to length 1 (BSQ).
        inverse_temperature: of the soft assignment whose entropy is taken.
        diversity: weight of the codebook's entropy against that of single frames.
        commitment: factor of the loss of that name; 1 makes codebooks of plain LFQ collapse in the default run.

    Losses:
        entropy: entropy of a frame's soft assignment less `diversity` times that of their mean, in nats: low where
            frames choose clearly and all entries are chosen.
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
            if not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: expected a finite number of at least 0, got {value!r}")
        super().__init__(codebook_size, num_codebooks, codebook_size.bit_length() - 1)
        self.inverse_temperature = inverse_temperature
        self.diversity = diversity
        self.commitment = commitment
        self.inner = _library().LFQ(
            codebook_size=codebook_size,
            num_codebooks=num_codebooks,
            keep_num_codebooks_dim=True,
            spherical=spherical,
            commitment_loss_weight=1.0,  # any above 0: it is computed, and weighted in conf/loss
        )

    def _apply_library(self, latents: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        out, losses = self.inner(latents, inv_temperature=self.inverse_temperature, return_loss_breakdown=True)
        entropy = losses.per_sample_entropy - self.diversity * losses.batch_entropy
        return out.quantized, out.indices, {"entropy": entropy, "commitment": self.commitment * losses.commitment}

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        return self.inner.indices_to_codes(codes.transpose(1, 2)).transpose(1, 2)
