"""Residual quantization with any quantizer: each stage quantizes the residual of the stages before it.

Zeghidour et al. 2021 (SoundStream, arXiv:2107.03312, section III.C). Ours differs in three points:
- In training too, the residual is taken from the exact decoded values of a stage, even if the stage emits a soft or
  noisy value: so every stage is trained on the residuals that it will encode.
- The gradient of the latents is the mean of the stages' gradients. The chain rule would multiply the gradient of a
  stage by 1 - s' of every stage before it, which is 0 for straight-through: only the first stage would train the
  encoder. The sum of the gradients would grow with the number of stages. Stages with projections of their own, such as
  DAC's, let the rest of the channels pass, and are trained by the chain rule (`chain_rule`).
- Dropout (section III.C, quantizer dropout) decodes an item from its first codebooks, and a channel thus from the first
  n of N stages; all stages still quantize it and have their losses. The gradient of the decoded value is then the mean
  over n stages, and that of the losses the mean over all N: every gradient is divided by N at the input of a stage, and
  that of the decoded value multiplied by N / n at its output. Parameters of a stage, such as entries of a Gumbel stage,
  thus get N / n times the gradient of the decoded value, and the full gradient of the losses.
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
"""Losses in bits per frame, which are summed over the stages; of other losses the mean is taken."""


class ResidualQuantizer(Quantizer):
    """Stages of quantizers of one kind, each on the residual of those before; the first n can be decoded alone.

    Args:
        stage: function that returns a new quantizer; called once for each stage.
        num_stages: N; the codebooks are those of all stages.
        num_codebooks: K, of all stages together: `stage` is then called with num_codebooks, K / N or one more or less.
            Stages of fewer codebooks refine only the first channels.
        scale: the residual after k stages is multiplied by scale^k before it is quantized, and the result divided by
            it. For a scalar quantizer of L levels use L, since its residual is about L times smaller than its range.
        soft_bound: whether latents z first pass b tanh(z / b), b = scale / (scale - 1), which are the values that
            stages of `scale` levels can reach. Stages that clamp need it, since what they cut off is lost to all.
        learn_scale: whether the N factors scale^k are learned (RFSQ, Zhu et al. 2025, arXiv:2508.15860).
        chain_rule: whether the gradient follows the chain rule through the residuals, see above.
        dropout: see Quantizer.

    Losses:
        The losses of a stage: their mean over the stages, or their sum for those in RATES. Their gradient for the
        latents is the mean in either case, or with chain_rule the sum.

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
            raise ValueError(f"stage: expected a function that makes one (in YAML, _partial_: true), got {stage!r}")
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
            raise ValueError(f"soft_bound: expected a scale above 1 with it, got {scale!r}")
        self.bound = self.scale / (self.scale - 1) if soft_bound else None
        logs = math.log(scale) * torch.arange(num_stages)
        self.log_scales = nn.Parameter(logs) if true_or_false("learn_scale", learn_scale) else None
        self.chain_rule = true_or_false("chain_rule", chain_rule)

    @property
    def _apart(self) -> bool:
        """Whether the codebooks of a stage are dropped one by one."""
        return self.drops and all(isinstance(stage, ProductQuantizer) and stage.apart for stage in self._stages())

    @property
    def decodable_counts(self) -> tuple[int, ...]:
        """The codebooks of the first stages; with dropout every number, if those of a stage lie side by side."""
        if self._apart:
            return tuple(range(1, self.num_codebooks + 1))
        return tuple(accumulate(stage.num_codebooks for stage in self._stages()))

    @property
    def matches_evaluation(self) -> bool:
        """Whether every stage matches evaluation and no item is decoded from fewer stages."""
        return not self.drops and all(stage.matches_evaluation for stage in self._stages())

    @property
    def needs_start(self) -> bool:
        """Whether any stage waits for latents."""
        return any(stage.needs_start for stage in self._stages())

    @torch.no_grad()
    def start(self, latents: Tensor) -> None:
        """See Quantizer; each stage starts with the residual that those before it leave after their start."""
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
            # Decoded only where it must be: a stage may have updated its codebook since.
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
        """Draw which channels (N, B, D, 1) each of the N stages decodes, of latents (B, D, T); see dropout."""
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
        """Return how many stages a channel has: a number, or where channels differ in it (D, 1)."""
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
        """Return the residual of the first k stages as the next stage is given it."""
        if self.log_scales is not None:
            return residual * self.log_scales[k].exp()
        return residual if self.scale == 1 else residual * self.scale**k

    def _unscaled(self, decoded: Tensor, k: int) -> Tensor:
        """Return what stage k emits on the scale of the latents."""
        if self.log_scales is not None:
            return decoded / self.log_scales[k].exp()
        return decoded if self.scale == 1 else decoded / self.scale**k

    def _stages(self) -> list[Quantizer]:
        return [stage for stage in self.stages if isinstance(stage, Quantizer)]


def _together(losses: list[dict[str, Tensor]], name: str) -> Tensor:
    """Return the mean of a loss over the stages, or the sum of a rate, with the gradient of the sum.

    The part of it that reaches the latents is divided by N at the input of each stage.
    """
    total = torch.stack([loss[name] for loss in losses]).sum()
    return total if name in RATES else total.detach() / len(losses) + (total - total.detach())


def with_gradient_times(x: Tensor, factor: Tensor | float) -> Tensor:
    """Return x with its gradient multiplied by `factor`, a number or a tensor that broadcasts to it."""
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
