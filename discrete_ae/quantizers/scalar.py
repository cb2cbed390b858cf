"""Scalar quantizer: each latent channel is bounded and rounded by itself, to one of L integers.

A bound b maps a latent z to [0, 1]. With u = (L - 1) b(z) the integer is round(u), and its dequantized value is
2 round(u) / (L - 1) - 1. With the tanh bound and straight-through rounding this is Finite Scalar Quantization (Mentzer
et al. 2023, arXiv:2309.15505) in its symmetry-preserving form (Parker et al. 2024, arXiv:2411.19842, section 3).

Several channels with L_1 ... L_d levels make one codebook of prod L_i entries. A code is the mixed-radix number whose
digits are the integers of the channels, the first channel being the least significant digit.

Other bounds are cumulative distribution functions (VP-VAE, arXiv:2602.17133). Latents that follow the distribution of
their bound use all integers equally often, except the first and the last, whose cells are half as wide.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from discrete_ae.checks import true_or_false, whole_number
from discrete_ae.quantizers.base import Quantized, straight_through
from discrete_ae.quantizers.entropy import entropy_bits, soft_level_shares
from discrete_ae.quantizers.product import ProductQuantizer
from discrete_ae.ranks import mean_over_ranks
from discrete_ae.rounding import Rounding, with_slope
from discrete_ae.schedules import Schedule

Bound = Literal["tanh", "sigmoid", "clamp", "normal", "laplace", "cauchy"]


def _clamp(z: Tensor) -> Tensor:
    """Return clamp(z, -1, 1) with the gradient 1 everywhere, so that latents outside [-1, 1] learn too."""
    return straight_through(z, z.detach().clamp(-1, 1))


def _laplace(z: Tensor) -> Tensor:
    # z.abs() has the gradient 0 at 0, and so has z.clamp_max(0) from torch 2.14 on.
    tail = torch.exp(torch.where(z < 0, z, -z)) / 2
    return torch.where(z < 0, tail, 1 - tail)


class _Range(NamedTuple):
    """A function from the real line to [low, low + width]."""

    function: Callable[[Tensor], Tensor]
    low: float
    width: float


BOUNDS: dict[str, _Range] = {
    "tanh": _Range(torch.tanh, -1.0, 2.0),
    "sigmoid": _Range(torch.sigmoid, 0.0, 1.0),
    "clamp": _Range(_clamp, -1.0, 2.0),
    "normal": _Range(torch.special.ndtr, 0.0, 1.0),
    "laplace": _Range(_laplace, 0.0, 1.0),
    "cauchy": _Range(torch.atan, -math.pi / 2, math.pi),
}


class ScalarQuantizer(ProductQuantizer):
    """Bounded scalar quantization with any differentiable rounding.

    >>> quantizer = ScalarQuantizer([4, 4, 4, 4], num_codebooks=8, rounding=rounding.StraightThrough())
    >>> quantized = quantizer(torch.randn(1, 32, 50))  # latents (B, D, T)
    >>> quantized.codes.shape, quantized.latents.shape, quantizer.codebook_sizes[0], quantizer.bits_per_frame
    (torch.Size([1, 8, 50]), torch.Size([1, 32, 50]), 256, 64.0)

    Args:
        levels: numbers of levels L_1 ... L_d of the channels of one codebook; their product is the codebook's size.
        num_codebooks: number of codebooks, K; the quantizer has D = K d channels.
        rounding: any Rounding with op="round".
        bound: "tanh", "sigmoid", "clamp" (to [-1, 1]; the gradient is 1 outside, too), or the cumulative distribution
            function "normal", "laplace" or "cauchy".
        rotation: whether to multiply latents by a fixed random orthogonal matrix, and the result by its transpose, so
            that channels of different spread share their bits (QuIP, Chee et al. 2023, arXiv:2307.13304).
        dither: whether to add a fixed number in [-1/2, 1/2) to each channel before rounding, and subtract it after
            rounding. Over the channels the error is then uniform for any latents, as with uniform noise in training
            (universal quantization, Agustsson & Theis 2020, arXiv:2006.09952, who draw a number for each sample).
        dropout: see Quantizer.

    Losses:
        code_entropy: entropy in bits per frame of each channel's levels over the batch of all ranks, summed over
            channels. Levels are counted softly before rounding. The sum is an upper bound of the entropy of the codes,
            and equals it if the channels are independent.

    Raises:
        ValueError: for fewer than 2 levels, an unknown bound, a rounding that is not a Rounding with op="round", a flag
            that is not a boolean, or a dropout outside [0, 1].
    """

    steps: Tensor
    radix: Tensor
    rotation: Tensor | None
    dither: Tensor | None

    def __init__(
        self,
        levels: Sequence[int],
        num_codebooks: int,
        rounding: Rounding,
        bound: Bound = "tanh",
        rotation: bool = False,
        dither: bool = False,
        dropout: float | Schedule = 0.0,
    ) -> None:
        if isinstance(levels, str) or not isinstance(levels, Sequence) or not levels:
            raise ValueError(f"levels: expected a list of whole numbers, each at least 2, got {levels!r}")
        levels = [whole_number("levels", level, 2) for level in levels]
        if not isinstance(rounding, Rounding) or rounding.op != "round":
            raise ValueError(f'rounding: expected a discrete_ae.rounding.Rounding with op="round", got {rounding}')
        if bound not in BOUNDS:
            raise ValueError(f"bound: expected one of {', '.join(get_args(Bound))}, got {bound!r}")
        super().__init__(math.prod(levels), num_codebooks, len(levels), dropout)
        self.levels = tuple(levels)
        self.bound = bound
        self.rounding = rounding
        radix = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("steps", torch.tensor([level - 1 for level in levels]), persistent=False)
        self.register_buffer("radix", torch.tensor(radix), persistent=False)
        rotates, dithers = true_or_false("rotation", rotation), true_or_false("dither", dither)
        self.register_buffer("rotation", nn.init.orthogonal_(torch.empty(self.dim, self.dim)) if rotates else None)
        self.register_buffer("dither", torch.rand(self.dim, 1) - 0.5 if dithers else None)

    @property
    def apart(self) -> bool:
        """True without a rotation, which spreads a codebook over all channels."""
        return self.rotation is None

    @property
    def matches_evaluation(self) -> bool:
        """True if the rounding matches evaluation and no codebooks are dropped."""
        return self.rounding.matches_evaluation and not self.drops

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        quantized = super().quantize(self._turned(latents))
        return Quantized(self._turned_back(quantized.latents), quantized.codes, quantized.losses)

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        return self._turned_back(super().dequantize(codes))

    def integers(self, codes: Tensor) -> Tensor:
        """Return the integers (B, n, d, T) int64 of codes (B, n, T), one for each channel of a codebook."""
        return codes[:, :, None] // self.radix[:, None] % (self.steps[:, None] + 1)

    def from_integers(self, integers: Tensor) -> Tensor:
        """Return the latents (B, D, T) of integers or fractions (B, n, d, T) of the first n codebooks."""
        return self._turned_back(self.padded(self._on_scale(integers.float())))

    def scaled(self, latents: Tensor) -> Tensor:
        """Return latents (B, D, T) on the scale of the integers, in their dtype; the codes are the nearest integers."""
        return self._on_integers(BOUNDS[self.bound].function(self._turned(latents)))

    def quantize_all(self, latents: Tensor) -> Quantized:
        """See ProductQuantizer."""
        bounded = BOUNDS[self.bound].function(latents)
        with torch.no_grad():
            scaled = self._on_integers(bounded)
            emitted, codes = self.rounding.emitted(scaled), self._codes(self._within(scaled))
        # This rounds a x + b, but saves x for the backward pass, which takes no memory: the bound has saved x already.
        slope = self._per_unit() if self.rounding.is_flat else self._slope
        rounded = with_slope(bounded, lambda x: emitted, slope)
        losses = {}
        if self.training and latents.numel() and "code_entropy" not in self.left_out:
            losses["code_entropy"] = self._code_entropy(self._on_integers(bounded))
        if self.dither is not None:
            rounded = rounded - self.dither
        return Quantized(_to_unit_range(rounded, self._highest()), codes, losses)

    def _slope(self, bounded: Tensor) -> Tensor:
        """Return the derivative of the rounding with respect to the bounded latents."""
        return self.rounding.slope(self._on_integers(bounded)) * self._per_unit()

    def _code_entropy(self, scaled: Tensor) -> Tensor:
        shares = soft_level_shares(self._within(scaled), self._highest(), max(self.levels))
        return entropy_bits(mean_over_ranks(shares))

    def _within(self, scaled: Tensor) -> Tensor:
        # Dither moves values up to half a step outside the range; float32 may then round to an integer out of range.
        return scaled if self.dither is None else scaled.clamp_min(0).minimum(self._highest())

    def _highest(self) -> Tensor:
        """Return the highest integer (D, 1) of each channel."""
        return self.steps.repeat(self.num_codebooks)[:, None]

    def _per_unit(self) -> Tensor:
        """Return the number of integer steps (D, 1) per unit of the bounded latents."""
        return self._highest() / BOUNDS[self.bound].width

    def _on_integers(self, bounded: Tensor) -> Tensor:
        """Return bounded latents (B, D, T) on the scale of the integers."""
        scaled = (bounded - BOUNDS[self.bound].low) * self._per_unit()
        return scaled if self.dither is None else scaled + self.dither

    def _turned(self, latents: Tensor) -> Tensor:
        return latents if self.rotation is None else self.rotation.to(latents.dtype) @ latents

    def _turned_back(self, latents: Tensor) -> Tensor:
        return latents if self.rotation is None else self.rotation.mT @ latents

    def _codes(self, scaled: Tensor) -> Tensor:
        """Return the mixed-radix numbers (B, K, T) of the nearest integers, by Horner's rule; NaN counts as 0."""
        dtype = torch.int32 if self.codebook_sizes[0] < 2**31 else torch.int64
        digits = self.split(scaled.round().to(dtype).clamp_min_(0))
        codes = digits[:, :, -1]
        for i in range(len(self.levels) - 2, -1, -1):
            codes = codes * self.levels[i] + digits[:, :, i]
        return codes.long()

    def dequantize_some(self, codes: Tensor) -> Tensor:
        """See ProductQuantizer."""
        return self._on_scale(self.integers(codes).float())

    def _on_scale(self, values: Tensor) -> Tensor:
        """Map values (B, n, d, T) on the scale of the integers to channels (B, n d, T) in [-1, 1]."""
        if self.dither is not None:
            values = values - self.split(self.dither[None])[:, : values.shape[1]]
        return _to_unit_range(values, self.steps[:, None]).flatten(1, 2)


def _to_unit_range(rounded: Tensor, steps: Tensor) -> Tensor:
    return (rounded / (steps / 2)).sub_(1)  # halving is exact: this is 2 rounded / steps - 1
