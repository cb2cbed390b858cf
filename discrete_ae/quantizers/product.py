"""Product quantization: K codebooks side by side, each for its own channels.

Jegou et al. 2011 (Product quantization for nearest neighbor search, TPAMI 33(1)). With codebook dropout, a training
item is decoded from its first n codebooks, and the other channels are 0. One model then serves K rates, as with
residual quantizers (SoundStream, arXiv:2107.03312, section III.C).

Axes: B batch, D latent channels, K codebooks, T frames, d channels of one codebook; D = K d.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_ae.checks import whole_number
from discrete_ae.quantizers.base import Quantized, Quantizer
from discrete_ae.schedules import Schedule


class ProductQuantizer(Quantizer):
    """Base class of quantizers with K codebooks of equal size, each for its own d channels.

    A subclass writes `quantize_all` and `dequantize_some`.

    Args:
        codebook_size: number of entries in each codebook.
        num_codebooks: number of codebooks, K.
        channels: number of channels of one codebook, d.
        dropout: see Quantizer.

    Raises:
        ValueError: for a number outside its range.
    """

    def __init__(self, codebook_size: int, num_codebooks: int, channels: int, dropout: float | Schedule = 0.0) -> None:
        codebook_size = whole_number("codebook_size", codebook_size, 2)
        num_codebooks = whole_number("num_codebooks", num_codebooks, 1)
        super().__init__(num_codebooks * channels, [codebook_size] * num_codebooks, dropout)
        self.channels = channels

    @property
    def decodable_counts(self) -> tuple[int, ...]:
        """With dropout, all counts from 1 to K; without, only K, since the decoder was not trained on channels of 0."""
        return tuple(range(1, self.num_codebooks + 1)) if self.drops else (self.num_codebooks,)

    @property
    def apart(self) -> bool:
        """True if each codebook affects only its own d channels of the result; True unless overridden."""
        return True

    @abstractmethod
    def quantize_all(self, latents: Tensor) -> Quantized:
        """Quantize latents (B, D, T) by all codebooks, without dropout; see Quantizer.quantize."""

    @abstractmethod
    def dequantize_some(self, codes: Tensor) -> Tensor:
        """Return the latents (B, n d, T) of codes (B, n, T) of the first n codebooks."""

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        quantized = self.quantize_all(latents)
        if not (self.training and self.drops):
            return quantized
        kept = self.channels * self.kept(latents, self.num_codebooks)
        there = torch.arange(self.dim, device=latents.device)[:, None] < kept
        dropped = torch.where(there, quantized.latents, 0.0)
        return Quantized(dropped, quantized.codes, quantized.losses, quantized.exact)

    def dequantize(self, codes: Tensor) -> Tensor:
        """See Quantizer."""
        return self.padded(self.dequantize_some(codes))

    def padded(self, latents: Tensor) -> Tensor:
        """Return latents (B, n d, T) of the first n codebooks as (B, D, T), with 0 in the channels of the others."""
        return F.pad(latents, (0, 0, 0, self.dim - latents.shape[1]))

    def split(self, latents: Tensor) -> Tensor:
        """Return latents (B, K d, T) as (B, K, d, T)."""
        return latents.unflatten(1, (self.num_codebooks, self.channels))
