"""Residual quantization with any quantizer: each stage quantizes the residual of the stages before it.

Zeghidour et al. 2021 (SoundStream, arXiv:2107.03312, section III.C). This implementation differs in three points:
- In training too, the residual is computed from the exact decoded values of a stage, even if the stage returns soft or
  noisy values. Every stage is thus trained on the residuals that it will encode.
- The gradient of the latents is the mean of the stages' gradients; their sum would grow with the number of stages. The
  chain rule would multiply the gradient of a stage by 1 - s' of every earlier stage. For straight-through stages this
  factor is 0, so only the first stage would train the encoder. Stages with their own projections, such as DAC's, leave
  the other channels in the residual. They can be trained by the chain rule (`chain_rule`).
- Dropout (section III.C, quantizer dropout) decodes an item from its first codebooks. Each channel is thus decoded from
  the first n of N stages. All stages still quantize the item and compute their losses. The gradient of the decoded
  value is then the mean over n stages, and the gradient of the losses is the mean over all N. To achieve this, every
  gradient is divided by N at the input of a stage, and the gradient of the decoded value is multiplied by N / n at its
  output. Parameters of a stage, such as entries of a Gumbel stage, thus get N / n times the gradient of the decoded
  value, and the full gradient of the losses.
"""

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_ae.checks import positive, true_or_false, whole_number
from discrete_ae.quantizers.base import Quantized, Quantizer, in_evaluation, straight_through
from discrete_ae.quantizers.product import ProductQuantizer
from discrete_ae.schedules import Schedule

RATES = frozenset({"code_entropy"})
"""Names of the losses in bits per frame, which are summed over the stages; other losses are averaged."""


class ResidualQuantizer(Quantizer):
    """Stages of one kind of quantizer; each quantizes the residual of the previous stages. The first n decode alone.

    Args:
        stage: function that returns a new quantizer; called once for each stage.
        num_stages: number of stages, N; the quantizer has the codebooks of all stages.
        num_codebooks: number of codebooks of all stages together, K, or None for as many as `stage` makes by default.
            Otherwise `stage` is called with num_codebooks = K / N, rounded down or up. Stages with fewer codebooks
            refine only the first channels.
        scale: factor between stages. The residual after k stages is multiplied by scale^k before quantization, and the
            result is divided by scale^k. For a scalar quantizer of L levels use L, since its residual is about L times
            smaller than its range.
        soft_bound: whether to pass latents z through b tanh(z / b) first, with b = scale / (scale - 1), the largest
            value that stages of `scale` levels can reach. Use this for stages that clamp, since later stages cannot
            restore the part of a value that a stage has cut off.
        learn_scale: whether the N factors scale^k are learned (RFSQ, Zhu et al. 2025, arXiv:2508.15860); for stages
            that clamp to [-1, 1].
        chain_rule: whether the gradient follows the chain rule through the residuals, see the module.
        dropout: see Quantizer.

    Losses:
        Each loss is the mean over the stages, or the sum for the losses in RATES. In both cases, the gradient of the
        latents is the mean over the stages, or the sum with chain_rule.

    Raises:
        ValueError: for a number outside its range, fewer codebooks than stages, or a stage that is not a quantizer with
            codes.
    """

    def __init__(
        self,
        stage: Callable[..., Quantizer],
        num_stages: int,
        scale: float = 1.0,
        num_codebooks: int | None = None,
        soft_bound: bool = False,
        learn_scale: bool = False,
        chain_rule: bool = False,
        dropout: float | Schedule = 0.0,
    ) -> None:
        num_stages = whole_number("num_stages", num_stages, 1)
        if isinstance(stage, Quantizer) or not callable(stage):
            raise ValueError(f"stage: expected a function that makes a stage (_partial_: true in YAML), got {stage!r}")
        if num_codebooks is not None:
            each, more = divmod(whole_number("num_codebooks", num_codebooks, 1), num_stages)
            if not each:
                raise ValueError(f"num_codebooks: expected at least num_stages, {num_stages}, got {num_codebooks}")
            stages = [stage(num_codebooks=each + (k < more)) for k in range(num_stages)]
        else:
            stages = [stage() for _ in range(num_stages)]
        if not all(isinstance(made, Quantizer) and made.num_codebooks for made in stages):
            raise ValueError(f"stage: expected a quantizer that has codes, got {type(stages[0]).__name__}")
        sizes = [size for made in stages for size in made.codebook_sizes]
        super().__init__(stages[0].dim, sizes, dropout)
        self.stages = nn.ModuleList(stages)
        self.scale = positive("scale", scale)
        if true_or_false("soft_bound", soft_bound) and self.scale <= 1:
            raise ValueError(f"soft_bound: expected a scale above 1 with soft_bound=true, got {scale!r}")
        self.bound = self.scale / (self.scale - 1) if soft_bound else None
        logs = math.log(scale) * torch.arange(num_stages)
        self.log_scales = nn.Parameter(logs) if true_or_false("learn_scale", learn_scale) else None
        self.chain_rule = true_or_false("chain_rule", chain_rule)

    @property
    def _apart(self) -> bool:
        """True if the codebooks of a stage are dropped one by one."""
        return self.drops and all(isinstance(stage, ProductQuantizer) and stage.apart for stage in self._stages())

    @property
    def decodable_counts(self) -> tuple[int, ...]:
        """Counts of the codebooks of the first stages, or all counts if codebooks are dropped one by one."""
        if self._apart:
            return tuple(range(1, self.num_codebooks + 1))
        return tuple(accumulate(stage.num_codebooks for stage in self._stages()))

    @property
    def matches_evaluation(self) -> bool:
        """True if every stage matches evaluation and no item is decoded from fewer stages."""
        return not self.drops and all(stage.matches_evaluation for stage in self._stages())

    @property
    def needs_start(self) -> bool:
        """True if any stage must still be started."""
        return any(stage.needs_start for stage in self._stages())

    @torch.no_grad()
    def start(self, latents: Tensor) -> None:
        """See Quantizer; each stage starts from the residual of the stages before it, after their start."""
        residual = self._bounded(latents)
        for k, stage in enumerate(self._stages()):
            given = self._scaled(residual[:, : stage.dim], k).contiguous()
            stage.start(given)
            with in_evaluation(stage):
                codes = stage.quantize(given).codes
            residual = residual - self._padded(self._unscaled(stage.dequantize(codes), k))

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        there = self._there(latents) if self.training and self.drops else None
        depth = self._depth(latents)
        residual = bounded = self._bounded(latents)
        total = torch.zeros_like(latents)
        codes, losses = [], []
        for k, stage in enumerate(self._stages()):
            given = residual if self.chain_rule else with_gradient_times(residual, 1 / depth)
            out = stage(self._scaled(given[:, : stage.dim], k))
            decoded = self._unscaled(out.latents, k)
            # Decoded again only if necessary; `out.exact` was decoded before an update of the stage's codebook.
            if stage.training and not stage.matches_evaluation:
                known = stage.dequantize(out.codes) if out.exact is None else out.exact
                exact = self._padded(straight_through(decoded, self._unscaled(known, k).detach()))
            else:
                exact = self._padded(decoded)
            residual = residual - (exact if self.chain_rule else exact.detach())
            decoded = self._padded(decoded)
            if there is not None:
                times = 1.0 if self.chain_rule else depth / there.sum(dim=0).clamp_min(1)
                decoded = torch.where(there[k], with_gradient_times(decoded, times), 0.0)
            total = total + decoded
            codes.append(out.codes)
            losses.append(out.losses)
        together = {name: _together(losses, name) for name in losses[0]}
        whole = None if self.matches_evaluation else (bounded - residual).detach()
        return Quantized(total, torch.cat(codes, dim=1), together, whole)

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        total = codes.new_zeros((codes.shape[0], self.dim, codes.shape[2]), dtype=torch.float32)
        first = 0
        for k, stage in enumerate(self._stages()):
            own = codes[:, first : first + stage.num_codebooks]
            if own.shape[1]:
                total = total + self._padded(self._unscaled(stage.dequantize(own), k))
            first += stage.num_codebooks
        return total

    def _there(self, latents: Tensor) -> Tensor:
        """Draw which channels of latents (B, D, T) each of the N stages decodes; return a mask (N, B, D, 1)."""
        stages = self._stages()
        channels = torch.arange(self.dim, device=latents.device)[:, None]
        if self._apart:
            kept = self.kept(latents, self.num_codebooks)
            firsts = [0, *accumulate(stage.num_codebooks for stage in stages)]
            width = stages[0].dim // stages[0].num_codebooks
            there = [
                channels < width * (kept - first).clamp_max(s.num_codebooks)
                for s, first in zip(stages, firsts, strict=False)
            ]
            return torch.stack(there)
        kept = self.kept(latents, len(stages))
        return torch.stack([(k < kept) & (channels < stage.dim) for k, stage in enumerate(stages)])

    def _depth(self, latents: Tensor) -> float | Tensor:
        """Return the number of stages of each channel, (D, 1), or a single number if it is the same for all."""
        dims = [stage.dim for stage in self._stages()]
        if min(dims) == self.dim:
            return float(len(dims))
        channels = torch.arange(self.dim, device=latents.device)[:, None]
        return torch.stack([channels < dim for dim in dims]).sum(dim=0)

    def _padded(self, latents: Tensor) -> Tensor:
        """Return latents (B, d, T) of a stage as (B, D, T), with 0 in the channels that it does not have."""
        return latents if latents.shape[1] == self.dim else F.pad(latents, (0, 0, 0, self.dim - latents.shape[1]))

    def _bounded(self, latents: Tensor) -> Tensor:
        return latents if self.bound is None else self.bound * torch.tanh(latents / self.bound)

    def _scaled(self, residual: Tensor, k: int) -> Tensor:
        """Return the residual of the first k stages, scaled for the next stage."""
        if self.log_scales is not None:
            scale = self.log_scales[k].exp()
            # Beyond [-1, 1], a stage that clamps emits the same value at any scale (LSQ, arXiv:1902.08153).
            inside = (residual * scale).detach().abs() <= 1
            return residual * torch.where(inside, scale, scale.detach())
        return residual if self.scale == 1 else residual * self.scale**k

    def _unscaled(self, decoded: Tensor, k: int) -> Tensor:
        """Return the output of stage k on the scale of the latents."""
        if self.log_scales is not None:
            return decoded / self.log_scales[k].exp()
        return decoded if self.scale == 1 else decoded / self.scale**k

    def _stages(self) -> list[Quantizer]:
        return [stage for stage in self.stages if isinstance(stage, Quantizer)]


def _together(losses: list[dict[str, Tensor]], name: str) -> Tensor:
    """Return the mean of a loss over the stages, or the sum of a rate, with the gradient of the sum.

    The part of the gradient that reaches the latents is divided by N at the input of each stage.
    """
    total = torch.stack([loss[name] for loss in losses]).sum()
    return total if name in RATES else total.detach() / len(losses) + (total - total.detach())


def with_gradient_times(x: Tensor, factor: Tensor | float) -> Tensor:
    """Return x with its gradient multiplied by `factor`, a number or a tensor that broadcasts to x."""
    return _WithGradientTimes.apply(x, factor)


class _WithGradientTimes(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, factor: Tensor | float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None
