"""Scalar quantizer: each latent channel is bounded and rounded by itself, to one of L integers.

A bound b maps a latent z to [0, 1]. With u = (L - 1) b(z) the integer is round(u), and its dequantized value
2 round(u) / (L - 1) - 1. With the tanh bound and straight-through rounding this is Finite Scalar Quantization (Mentzer
et al. 2023, arXiv:2309.15505) in its symmetry-preserving form (Parker et al. 2024, arXiv:2411.19842, section 3).

Several channels with levels L_1 ... L_d make one codebook of prod L_i entries; its code is the mixed-radix number,
the first channel least significant.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from discrete_ae.checks import whole_number
from discrete_ae.quantizers.base import Quantized, Quantizer
from discrete_ae.quantizers.entropy import entropy_bits, soft_level_shares
from discrete_ae.ranks import mean_over_ranks
from discrete_ae.rounding import Rounding

Bound = Literal["tanh", "sigmoid", "clamp"]


class _Clamp(torch.autograd.Function):
    """(clamp(z, -1, 1) + 1) / 2 with the gradient 1/2 everywhere, so that latents outside of [-1, 1] learn too."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return (z.clamp(-1, 1) + 1) / 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] / 2


BOUNDS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda z: (torch.tanh(z) + 1).div_(2),
    "sigmoid": torch.sigmoid,
    "clamp": _Clamp.apply,
}


class ScalarQuantizer(Quantizer):
    """Bounded scalar quantization with any differentiable rounding.

    >>> quantizer = ScalarQuantizer([4, 4, 4, 4], num_codebooks=8, rounding=rounding.StraightThrough())
    >>> quantized = quantizer(torch.randn(1, 32, 50))  # latents (B, D, T)
    >>> quantized.codes.shape, quantized.latents.shape, quantizer.codebook_sizes[0], quantizer.bits_per_frame
    (torch.Size([1, 8, 50]), torch.Size([1, 32, 50]), 256, 64.0)

    Args:
        levels: L_1 ... L_d of the channels of one codebook; its size is their product.
        num_codebooks: K; the quantizer has D = K d channels.
        rounding: any Rounding with op="round".
        bound: "tanh", "sigmoid" or "clamp" (to [-1, 1]; the gradient passes unchanged outside, too).

    Losses:
        code_entropy: in bits per frame, entropy of each channel's levels over the batch of all ranks, softly counted
            before rounding, summed over channels. It bounds the entropy of the codes from above, and equals it if the
            channels are independent.

    Raises:
        ValueError: for fewer than 2 levels, an unknown bound, or a rounding that is not a Rounding with op="round".
    """

    steps: Tensor
    radix: Tensor

    def __init__(self, levels: Sequence[int], num_codebooks: int, rounding: Rounding, bound: Bound = "tanh") -> None:
        if not levels:
            raise ValueError(f"levels: expected a list of whole numbers, each at least 2, got {levels}")
        levels = [whole_number("levels", level, 2) for level in levels]
        num_codebooks = whole_number("num_codebooks", num_codebooks, 1)
        if not isinstance(rounding, Rounding) or rounding.op != "round":
            raise ValueError(f'rounding: expected a discrete_ae.rounding.Rounding with op="round", got {rounding}')
        if bound not in BOUNDS:
            raise ValueError(f"bound: expected one of {', '.join(get_args(Bound))}, got {bound!r}")
        super().__init__(dim=len(levels) * num_codebooks, codebook_sizes=[math.prod(levels)] * num_codebooks)
        self.levels = tuple(levels)
        self.bound = bound
        self.rounding = rounding
        radix = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("steps", torch.tensor([level - 1 for level in levels]), persistent=False)
        self.register_buffer("radix", torch.tensor(radix), persistent=False)

    @property
    def matches_evaluation(self) -> bool:
        """Whether the rounding matches evaluation."""
        return self.rounding.matches_evaluation

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        steps = self.steps.repeat(self.num_codebooks)[:, None]
        scaled = BOUNDS[self.bound](latents) * steps
        rounded = self.rounding(scaled)
        losses = {}
        if self.training and scaled.numel() and "code_entropy" not in self.left_out:
            shares = mean_over_ranks(soft_level_shares(scaled, steps, max(self.levels)))
            losses["code_entropy"] = entropy_bits(shares)
        return Quantized(_to_unit_range(rounded, steps), self._codes(scaled.detach()), losses)

    def _codes(self, scaled: Tensor) -> Tensor:
        """Return the mixed-radix numbers (B, K, T) of the nearest integers, by Horner's rule; NaN counts as 0."""
        dtype = torch.int32 if self.codebook_sizes[0] < 2**31 else torch.int64
        digits = scaled.round().to(dtype).clamp_min_(0).unflatten(1, (self.num_codebooks, len(self.levels)))
        codes = digits[:, :, -1]
        for i in range(len(self.levels) - 2, -1, -1):
            codes = codes * self.levels[i] + digits[:, :, i]
        return codes.long()

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        digits = codes[:, :, None] // self.radix[:, None] % (self.steps[:, None] + 1)
        return _to_unit_range(digits.float(), self.steps[:, None]).flatten(1, 2)


def _to_unit_range(rounded: Tensor, steps: Tensor) -> Tensor:
    return (rounded / (steps / 2)).sub_(1)  # halving is exact: this is 2 rounded / steps - 1
