"""Residual quantization of any quantizer: each stage codes what the stages before it left over.

Zeghidour et al. 2021 (SoundStream, arXiv:2107.03312, section III.C). Ours differs in three points:
- What is left over is counted from the exact, decoded values in training too, so that every stage learns on what it
  will be given when codes are made; a stage whose training forward is soft or noisy still hands on a soft value.
- The gradient of the latents is the mean of the stages' gradients. The literal chain rule multiplies that of a stage by
  1 - s' of every stage before it, 0 for straight-through: no stage but the first would reach the encoder. A plain sum
  would grow with the number of stages.
- Dropout of stages (section III.C, quantizer dropout) leaves codes and losses whole; it only cuts what is decoded. The
  gradient that comes back from an item decoded by n of N stages is the mean over those n. To keep the gradient of the
  stages' own losses the mean over all N, it is multiplied by N / n behind a stage and divided by N before it, so that
  a parameter within, such as an entry of a Gumbel stage, gets the N / n of it; losses come to parameters undivided.
"""

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor, nn

from discrete_ae.checks import in_unit_interval, positive, whole_number
from discrete_ae.quantizers.base import Quantized, Quantizer
from discrete_ae.schedules import Schedule

RATES = frozenset({"code_entropy"})
"""Losses in bits per frame: those of the stages add up, where of any other the mean is taken."""


class ResidualQuantizer(Quantizer):
    """Stages of one quantizer, each on the residual of those before; the first ones decode by themselves.

    Args:
        stage: makes the quantizer of one stage; called once for each.
        num_stages: of the sum; a stage of K' codebooks contributes K'.
        scale: the residual after k stages is multiplied by scale^k before it is quantized, its result divided by it;
            L for a scalar quantizer of L levels, whose residual is about that much smaller than its range.
        dropout: share of the items in training that are decoded from the first n stages, n uniform from 1 to all of
            them; may be a schedule.

    Losses:
        Those of a stage, by the same names: their mean over the stages, or their sum if it is one of RATES. The
        gradient that reaches the latents is the mean either way.

    Raises:
        ValueError: for a number outside its range, or a stage that is no quantizer with codes.
    """

    dropout: float | Tensor

    def __init__(
        self, stage: Callable[[], Quantizer], num_stages: int, scale: float = 1.0, dropout: float | Schedule = 0.0
    ) -> None:
        num_stages = whole_number("num_stages", num_stages, 1)
        if isinstance(stage, Quantizer) or not callable(stage):
            raise ValueError(f"stage: expected what makes a quantizer (in YAML, _partial_: true), got {stage!r}")
        stages = [stage() for _ in range(num_stages)]
        if not all(isinstance(made, Quantizer) and made.num_codebooks for made in stages):
            raise ValueError(f"stage: expected a quantizer that has codes, got {type(stages[0]).__name__}")
        sizes = [size for made in stages for size in made.codebook_sizes]
        super().__init__(dim=stages[0].dim, codebook_sizes=sizes)
        self.stages = nn.ModuleList(stages)
        self.scale = positive("scale", scale)
        self.set_number("dropout", dropout, in_unit_interval)

    @property
    def decodable_counts(self) -> tuple[int, ...]:
        """Codebooks of the first stage, of the first two, and so on."""
        return tuple(accumulate(stage.num_codebooks for stage in self._stages()))

    @property
    def matches_evaluation(self) -> bool:
        """Whether that of every stage does, and no item is decoded from fewer stages."""
        return not self._drops_stages and all(stage.matches_evaluation for stage in self._stages())

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        kept = self._kept_stages(latents)
        residual, total = latents, torch.zeros_like(latents)
        codes, losses = [], []
        for k, stage in enumerate(self._stages()):
            factor = self.scale**k
            out = stage(_with_gradient_times(residual * factor, 1 / len(self.stages)))
            decoded = _with_gradient_times(out.latents / factor, len(self.stages) / kept)
            total = total + torch.where(k < kept, decoded, 0.0)
            # The latents of a stage that matches are exact, and a training forward may have moved its codebook since.
            exact = out.latents.detach() if stage.matches_evaluation else stage.dequantize(out.codes).detach()
            residual = residual - exact / factor
            codes.append(out.codes)
            losses.append(out.losses)
        return Quantized(total, torch.cat(codes, dim=1), {name: _together(losses, name) for name in losses[0]})

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        total = codes.new_zeros((codes.shape[0], self.dim, codes.shape[2]), dtype=torch.float32)
        first = 0
        for k, stage in enumerate(self._stages()):
            if first < codes.shape[1]:
                total = total + stage.dequantize(codes[:, first : first + stage.num_codebooks]) / self.scale**k
            first += stage.num_codebooks
        return total

    def _stages(self) -> list[Quantizer]:
        return [stage for stage in self.stages if isinstance(stage, Quantizer)]

    @property
    def _drops_stages(self) -> bool:
        return "dropout" in self.schedules or float(self.dropout) != 0.0

    def _kept_stages(self, latents: Tensor) -> Tensor:
        """How many stages decode each item: (B, 1, 1)."""
        size = (latents.shape[0], 1, 1)
        everything = torch.full(size, len(self.stages), device=latents.device)
        if not self.training or not self._drops_stages:
            return everything
        drawn = torch.randint(1, len(self.stages) + 1, size, device=latents.device)
        return torch.where(torch.rand(size, device=latents.device) < self.dropout, drawn, everything)


def _together(losses: list[dict[str, Tensor]], name: str) -> Tensor:
    """Mean of a loss over the stages, or sum of a rate; with the gradient of the sum, whose share in the latents is
    divided already."""
    total = torch.stack([loss[name] for loss in losses]).sum()
    return total if name in RATES else total.detach() / len(losses) + (total - total.detach())


def _with_gradient_times(x: Tensor, factor: Tensor | float) -> Tensor:
    """The values of x; the gradient that reaches it is multiplied by `factor`."""
    return x.detach() + (x - x.detach()) * factor
