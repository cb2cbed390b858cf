"""A trained scalar quantizer split into several streams of codes, so that one model serves several rates.

Each integer of the quantizer is written as a sum of coarse and fine digits (Parker et al. 2024, arXiv:2411.19842). For
example, 16 levels are 4 coarse levels of 4 fine levels each. An integer of 17 levels is a sum of four digits of 3
levels each, with steps 8, 4, 2 and 1. The first streams can be decoded alone. All streams together decode to the same
latents as the quantizer's codes, without further training.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from discrete_ae.checks import whole_number
from discrete_ae.quantizers.base import Quantized, Quantizer
from discrete_ae.quantizers.scalar import ScalarQuantizer


class SplitQuantizer(Quantizer):
    """A trained ScalarQuantizer of K codebooks as S streams of K codebooks each, coarse to fine.

    >>> quantizer = ScalarQuantizer([16, 16], num_codebooks=8, rounding=rounding.StraightThrough())
    >>> split = SplitQuantizer(quantizer, levels=[4, 4])
    >>> split.codebook_sizes, split.decodable_counts  # streams of 8 codebooks of 16 entries
    ((16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16), (8, 16))

    The codes of the first streams alone decode to the middle of all integers with these codes.

    Args:
        quantizer: a ScalarQuantizer with the same number of levels, L, in each channel.
        levels: numbers of levels L_1 ... L_S of the streams. Either their product is L, or all are odd and the product
            of all L_i - 1 is L - 1, such as 3, 3, 3, 3 for L = 17. With odd levels, an integer has several
            representations; from coarse to fine, each stream takes the nearest digit.

    Raises:
        ValueError: for another kind of quantizer, a quantizer with unequal levels, or `levels` that do not match L.
    """

    def __init__(self, quantizer: ScalarQuantizer, levels: Sequence[int]) -> None:
        if not isinstance(quantizer, ScalarQuantizer) or len(set(quantizer.levels)) != 1:
            levels_of = f" of levels {list(quantizer.levels)}" if isinstance(quantizer, ScalarQuantizer) else ""
            raise ValueError(
                f"quantizer: expected a ScalarQuantizer of equal levels in each channel, got a "
                f"{type(quantizer).__name__}{levels_of}; train other quantizers with dropout to decode at several rates"
            )
        if isinstance(levels, str) or not isinstance(levels, Sequence) or len(levels) < 2:
            raise ValueError(f"levels: expected a list of two or more whole numbers, each at least 2, got {levels!r}")
        levels = [whole_number("levels", level, 2) for level in levels]
        whole = quantizer.levels[0]
        apart = math.prod(levels) == whole
        # The middle of an even number of levels is between integers, so not all sums would be integers.
        overlapping = all(level % 2 for level in levels) and math.prod(level - 1 for level in levels) == whole - 1
        if not (apart or overlapping):
            raise ValueError(
                f"levels: expected the levels of each stream, whose product is the {whole} levels of a channel (2,2 "
                f"for 4), or odd numbers n with {whole - 1} as the product of all n - 1 (3,3 for 5), got {levels}"
            )
        sizes = [level**quantizer.channels for level in levels for _ in range(quantizer.num_codebooks)]
        super().__init__(quantizer.dim, sizes)
        self.quantizer = quantizer
        self.levels = tuple(levels)
        less = 0 if apart else 1
        strides = [math.prod(level - less for level in levels[i + 1 :]) for i in range(len(levels))]
        self.strides = tuple(strides)

    @property
    def decodable_counts(self) -> tuple[int, ...]:
        """The counts K, 2 K, ..., S K."""
        return tuple(range(self.quantizer.num_codebooks, self.num_codebooks + 1, self.quantizer.num_codebooks))

    @property
    def matches_evaluation(self) -> bool:
        """True if the underlying quantizer matches evaluation."""
        return self.quantizer.matches_evaluation

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        quantized = self.quantizer.quantize(latents)
        # Coarse to fine, relative to the middle of the range: with 17 levels, 8 is 0, and 12 is 4 = 8 - 4 + 0 + 0.
        left = self.quantizer.integers(quantized.codes) - (self.quantizer.levels[0] - 1) / 2
        streams = []
        for level, stride in zip(self.levels, self.strides, strict=True):
            middle = (level - 1) / 2
            digits = (left / stride + middle).round().clamp(0, level - 1)
            left = left - stride * (digits - middle)
            streams.append((digits.long() * self._places(level, latents)).sum(dim=2))
        return Quantized(quantized.latents, torch.cat(streams, dim=1), quantized.losses)

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        streams = codes.split(self.quantizer.num_codebooks, dim=1)
        integers: Tensor | float = (self.quantizer.levels[0] - 1) / 2
        for stream, level, stride in zip(streams, self.levels, self.strides, strict=False):
            digits = stream[:, :, None] // self._places(level, codes) % level
            integers = integers + stride * (digits - (level - 1) / 2)
        assert isinstance(integers, Tensor)
        return self.quantizer.from_integers(integers)

    def _places(self, level: int, like: Tensor) -> Tensor:
        """Return the value (d, 1) int64 of each channel's digit in a code; the first is the least significant."""
        return level ** torch.arange(self.quantizer.channels, device=like.device)[:, None]
