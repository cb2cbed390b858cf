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
from functools import partial
from typing import Any

import torch
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
        num_codebooks: K, of all stages together: `stage` is then called with num_codebooks = K / N.
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
        ValueError: for a number outside its range, stages that do not share the codebooks equally, or a stage that is
            not a quantizer with codes.
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
            if whole_number("num_codebooks", num_codebooks, 1) % num_stages:
                raise ValueError(f"num_codebooks: expected a multiple of {num_stages} stages, got {num_codebooks}")
            stage = partial(stage, num_codebooks=num_codebooks // num_stages)
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
    def _unit(self) -> int:
        """Number of codebooks that are decoded together: one, or those of a stage."""
        stages = self._stages()
        apart = self.drops and all(isinstance(stage, ProductQuantizer) and stage.apart for stage in stages)
        return 1 if apart else stages[0].num_codebooks

    @property
    def decodable_counts(self) -> tuple[int, ...]:
        """Multiples of the codebooks of a stage; with dropout every number, if those of a stage lie side by side."""
        return tuple(range(self._unit, self.num_codebooks + 1, self._unit))

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
            given = self._scaled(residual, k)
            stage.start(given)
            with in_evaluation(stage):
                codes = stage.quantize(given).codes
            residual = residual - self._unscaled(stage.dequantize(codes), k)

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        num_stages = len(self.stages)
        there = self._there(latents) if self.training and self.drops else None
        residual = bounded = self._bounded(latents)
        total = torch.zeros_like(latents)
        codes, losses = [], []
        for k, stage in enumerate(self._stages()):
            given = residual if self.chain_rule else with_gradient_times(residual, 1 / num_stages)
            out = stage(self._scaled(given, k))
            decoded = self._unscaled(out.latents, k)
            # Decoded only where it must be: a stage may have updated its codebook since.
            if stage.training and not stage.matches_evaluation:
                known = stage.dequantize(out.codes) if out.exact is None else out.exact
                exact = straight_through(decoded, self._unscaled(known, k).detach())
            else:
                exact = decoded
            residual = residual - (exact if self.chain_rule else exact.detach())
            if there is not None:
                times = 1.0 if self.chain_rule else num_stages / there.sum(dim=0).clamp_min(1)
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
        stages = self._stages()
        for k, own in enumerate(codes.split(stages[0].num_codebooks, dim=1)):
            total = total + self._unscaled(stages[k].dequantize(own), k)
        return total

    def _there(self, latents: Tensor) -> Tensor:
        """Draw which channels (N, B, D, 1) each of the N stages decodes, of latents (B, D, T); see dropout."""
        units_of_stage = self._stages()[0].num_codebooks // self._unit
        firsts = units_of_stage * torch.arange(len(self.stages), device=latents.device)
        kept = self.kept(latents, self.num_codebooks // self._unit) - firsts[:, None, None, None]
        return torch.arange(self.dim, device=latents.device)[:, None] < self.dim // units_of_stage * kept

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
