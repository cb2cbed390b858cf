"""No quantization: the upper bound that every quantizer is compared with."""

import math

import torch
from torch import Tensor

from discrete_ae.quantizers.base import Quantized, Quantizer


class IdentityQuantizer(Quantizer):
    """Passes latents on unchanged; it has no codes (K = 0), and `encode` refuses.

    Args:
        dim: D, latent channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, codebook_sizes=())

    @property
    def bits_per_frame(self) -> float:
        """Infinite: the latents are not quantized."""
        return math.inf

    @property
    def matches_evaluation(self) -> bool:
        """True: latents pass unchanged."""
        return True

    def quantize(self, latents: Tensor) -> Quantized:
        """See Quantizer."""
        return Quantized(latents, latents.new_zeros((latents.shape[0], 0, latents.shape[2]), dtype=torch.int64), {})

    def dequantize(self, codes: Tensor) -> Tensor:
        """Refuses: there are no codes to decode."""
        raise ValueError("IdentityQuantizer has no codes; choose another quantizer to decode")
