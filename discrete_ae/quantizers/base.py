"""The contract of every quantizer: what it must do alike, done once.

A subclass hands `dim` and `codebook_sizes` to the base class and writes `quantize` and `dequantize`; checking,
float32 arithmetic whatever autocast says, and the exact latents of evaluation are done here.

Axes: B batch, D latent channels, K codebooks, T frames. Channels of one codebook lie next to one another: of D = K d
channels, codebook k has [k d, (k + 1) d).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Quantized(NamedTuple):
    """What a quantizer makes of latents."""

    latents: Tensor
    """(B, D, T) what the decoder reads, in the caller's dtype."""
    codes: Tensor
    """(B, K, T) int64, from the hard path always, 0 <= codes[:, k] < codebook_sizes[k]."""
    losses: dict[str, Tensor]
    """Auxiliary scalars by name, {} if there are none; weighted in conf/loss."""


class _WithValue(torch.autograd.Function):
    """Emits `value` exactly; the gradient goes to `source` unchanged."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def whole_number(name: str, value: float, least: int) -> int:
    """The value as an int; ValueError naming it if it is not a whole number of at least `least`."""
    if not isinstance(value, int | float) or not value >= least or not float(value).is_integer():
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return int(value)


class Quantizer(nn.Module, ABC):
    """Base class of the quantizers.

    Args:
        dim: D, latent channels, the same in and out.
        codebook_sizes: entries of each of the K codebooks.

    Raises:
        ValueError: for a dim below 1 or a codebook of fewer than 2 entries.
    """

    def __init__(self, dim: int, codebook_sizes: Sequence[int]) -> None:
        super().__init__()
        self.dim = whole_number("dim", dim, 1)
        self.codebook_sizes = tuple(whole_number("codebook_sizes", size, 2) for size in codebook_sizes)

    @property
    def num_codebooks(self) -> int:
        """K."""
        return len(self.codebook_sizes)

    @property
    def bits_per_frame(self) -> float:
        """Sum of log2(codebook_sizes): the nominal rate in bits per frame."""
        return sum(math.log2(size) for size in self.codebook_sizes)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize latents (B, D, T); in evaluation `latents` of the result is exactly decode(codes).

        Raises:
            ValueError: for latents of another shape or dtype.
        """
        self._check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False):
            # Contiguous, so that no code depends on which vectorized path a strided tensor would take.
            quantized = self.quantize(latents.float().contiguous())
            if not self.training and self.num_codebooks:
                exact = self.dequantize(quantized.codes)
                quantized = quantized._replace(latents=_WithValue.apply(quantized.latents, exact))
        return quantized._replace(latents=quantized.latents.to(latents.dtype))

    def encode(self, latents: Tensor) -> Tensor:
        """Codes (B, K, T) int64 of latents (B, D, T), from the hard path, without gradient or noise.

        Raises:
            ValueError: for latents of another shape or dtype, and for a quantizer without codes.
        """
        if not self.num_codebooks:
            raise ValueError(f"{type(self).__name__} has no codes; choose another quantizer to encode")
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                return self(latents).codes
        finally:
            for module, training in modes:  # not self.train(): a part may be frozen in evaluation mode
                module.training = training

    def decode(self, codes: Tensor) -> Tensor:
        """Latents (B, D, T) float32 of codes (B, K, T) int64.

        Raises:
            ValueError: for codes of another shape or dtype, or out of range.
        """
        self._check_codes(codes)
        with torch.autocast(codes.device.type, enabled=False):
            return self.dequantize(codes)

    @abstractmethod
    def quantize(self, latents: Tensor) -> Quantized:
        """Latents (B, D, T) float32, checked, to Quantized in float32."""

    @abstractmethod
    def dequantize(self, codes: Tensor) -> Tensor:
        """Codes (B, K, T) int64, checked, to latents (B, D, T) float32."""

    def _check_latents(self, latents: Tensor) -> None:
        if latents.ndim != 3 or latents.shape[1] != self.dim:
            raise ValueError(
                f"latents: expected shape (batch, {self.dim}, frames), got {tuple(latents.shape)}; "
                f"project them to quantizer.dim = {self.dim} channels first"
            )
        if not latents.is_floating_point():
            raise ValueError(f"latents: expected a floating-point tensor, got {latents.dtype}; use decode for codes")

    def _check_codes(self, codes: Tensor) -> None:
        if codes.ndim != 3 or codes.shape[1] != self.num_codebooks:
            raise ValueError(f"codes: expected shape (batch, {self.num_codebooks}, frames), got {tuple(codes.shape)}")
        if codes.dtype != torch.int64:
            raise ValueError(f"codes: expected int64, got {codes.dtype}; convert them with .long()")
        sizes = torch.tensor(self.codebook_sizes, device=codes.device)[:, None]
        outside = ((codes < 0) | (codes >= sizes)).any(dim=2).any(dim=0)
        if outside.any():
            k = int(outside.nonzero()[0])
            found = codes[:, k]
            raise ValueError(
                f"codes: expected 0 <= code < {self.codebook_sizes[k]} in codebook {k}, "
                f"got values from {int(found.min())} to {int(found.max())}; they are not codes of this quantizer"
            )
