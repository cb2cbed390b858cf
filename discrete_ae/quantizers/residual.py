"""Residual quantization with any quantizer: each stage quantizes the residual of the stages before it.

Zeghidour et al. 2021 (SoundStream, arXiv:2107.03312, section III.C). Ours differs in three points:
- In training too, the residual is taken from the exact decoded values of a stage, even if the stage emits a soft or
  noisy value: so every stage is trained on the residuals that it will encode.
- The gradient of the latents is the mean of the stages' gradients. The chain rule would multiply the gradient of a
  stage by 1 - s' of every stage before it, which is 0 for straight-through: only the first stage would train the
  encoder. The sum of the gradients would grow with the number of stages.
- Dropout of stages (section III.C, quantizer dropout) decodes an item from its first n of N stages; all stages still
  quantize it and have their losses. The gradient of the decoded value is then the mean over n stages, and that of the
  losses the mean over all N: every gradient is divided by N at the input of a stage, and that of the decoded value
  multiplied by N / n at its output. Parameters of a stage, such as entries of a Gumbel stage, thus get N / n times the
  gradient of the decoded value, and the full gradient of the losses.
"""

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor, nn

from discrete_ae.checks import in_unit_interval, positive, whole_number
from discrete_ae.quantizers.base import Quantized, Quantizer
from discrete_ae.schedules import Schedule

RATES = frozenset({"code_entropy"})
"""Losses in bits per frame, which are summed over the stages; of other losses the mean is taken."""


class ResidualQuantizer(Quantizer):
    """Stages of quantizers of one kind, each on the residual of those before; the first n can be decoded alone.

    Args:
        stage: function without arguments that returns a new quantizer; called once for each stage.
        num_stages: N; the codebooks are those of all stages.
        scale: the residual after k stages is multiplied by scale^k before it is quantized, and the result divided by
            it. For a scalar quantizer of L levels use L, since its residual is about L times smaller than its range.
        dropout: share of the items in training that are decoded from the first n stages only, n uniform from 1 to N;
            may be a schedule.

    Losses:
        The losses of a stage: their mean over the stages, or their sum for those in RATES. Their gradient for the
        latents is the mean in either case.

    Raises:
        ValueError: for a number outside its range, or a stage that is not a quantizer with codes.
    """

    dropout: float | Tensor

    def __init__(
        self, stage: Callable[[], Quantizer], num_stages: int, scale: float = 1.0, dropout: float | Schedule = 0.0
    ) -> None:
        num_stages = whole_number("num_stages", num_stages, 1)
        if isinstance(stage, Quantizer) or not callable(stage):
            raise ValueError(f"stage: expected a function that makes one (in YAML, _partial_: true), got {stage!r}")
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
        """Numbers of codebooks of the first stage, of the first two, and so on."""
        return tuple(accumulate(stage.num_codebooks for stage in self._stages()))

    @property
    def matches_evaluation(self) -> bool:
        """Whether every stage matches evaluation and no item is decoded from fewer stages."""
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
            # If a stage matches evaluation, its latents are exact. Its forward may have updated its codebook since, so
            # that decoding the codes would give other values.
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
        """Draw the number of stages (B, 1, 1) from which each item is decoded."""
        size = (latents.shape[0], 1, 1)
        everything = torch.full(size, len(self.stages), device=latents.device)
        if not self.training or not self._drops_stages:
            return everything
        drawn = torch.randint(1, len(self.stages) + 1, size, device=latents.device)
        return torch.where(torch.rand(size, device=latents.device) < self.dropout, drawn, everything)


def _together(losses: list[dict[str, Tensor]], name: str) -> Tensor:
    """Return the mean of a loss over the stages, or the sum of a rate, with the gradient of the sum.

    The part of it that reaches the latents is divided by N at the input of each stage.
    """
    total = torch.stack([loss[name] for loss in losses]).sum()
    return total if name in RATES else total.detach() / len(losses) + (total - total.detach())


def _with_gradient_times(x: Tensor, factor: Tensor | float) -> Tensor:
    """Return x with its gradient multiplied by `factor`."""
    return x.detach() + (x - x.detach()) * factor
