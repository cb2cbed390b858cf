"""The contract of every quantizer: what it must do alike, done once.

A subclass hands `dim` and `codebook_sizes` to the base class and writes `quantize` and `dequantize`; checking,
float32 arithmetic whatever autocast says, and the exact latents of evaluation are done here.

Axes: B batch, D latent channels, K codebooks, T frames. Channels of one codebook lie next to one another: of D = K d
channels, codebook k has [k d, (k + 1) d).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from discrete_ae.checks import whole_number
from discrete_ae.schedules import Scheduled


class Quantized(NamedTuple):
    """What a quantizer makes of latents."""

    latents: Tensor
    """(B, D, T) what the decoder reads, in the caller's dtype."""
    codes: Tensor
    """(B, K, T) int64, from the hard path always, 0 <= codes[:, k] < codebook_sizes[k]."""
    losses: dict[str, Tensor]
    """Auxiliary scalars by name, {} if there are none; weighted in conf/loss."""


def straight_through(source: Tensor, value: Tensor) -> Tensor:
    """`value` to the last bit; the gradient goes to `source` unchanged (Bengio et al. 2013, arXiv:1308.3432)."""
    return _StraightThrough.apply(source, value)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, source: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


@contextmanager
def exact_products() -> Iterator[None]:
    """Matrix products in float32 proper, whatever torch.set_float32_matmul_precision says: TF32 changes codes.

    A graph that is being compiled is not reached; call it in this context.
    """
    if torch.compiler.is_compiling():
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Quantizer(Scheduled, ABC):
    """Base class of the quantizers.

    Args:
        dim: D, latent channels, the same in and out.
        codebook_sizes: entries of each of the K codebooks.

    Raises:
        ValueError: for a dim below 1 or a codebook of fewer than 2 entries.
    """

    left_out: frozenset[str]
    """Names of losses that are not computed; see `leave_out`."""

    def __init__(self, dim: int, codebook_sizes: Sequence[int]) -> None:
        super().__init__()
        self.dim = whole_number("dim", dim, 1)
        self.codebook_sizes = tuple(whole_number("codebook_sizes", size, 2) for size in codebook_sizes)
        self.left_out = frozenset()

    @property
    def num_codebooks(self) -> int:
        """K."""
        return len(self.codebook_sizes)

    @property
    def bits_per_frame(self) -> float:
        """Sum of log2(codebook_sizes): the nominal rate in bits per frame."""
        return sum(math.log2(size) for size in self.codebook_sizes)

    @property
    def matches_evaluation(self) -> bool:
        """Whether the training forward gives the latents of evaluation, up to rounding errors.

        It follows from the configuration, never from data, so that all ranks of a distributed run agree on it.
        """
        return False

    def leave_out(self, names: Iterable[str]) -> None:
        """Compute no losses of these names in training, here and in all quantizers below; () leaves out none."""
        left_out = frozenset(names)
        for module in self.modules():
            if isinstance(module, Quantizer):
                module.left_out = left_out

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize latents (B, D, T); in evaluation `latents` of the result is exactly decode(codes).

        Raises:
            ValueError: for latents of another shape or dtype.
        """
        self._check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False), exact_products():
            # Contiguous, so that no code depends on which vectorized path a strided tensor would take.
            quantized = self.quantize(latents.float().contiguous())
            if not self.training and self.num_codebooks:
                exact = self.dequantize(quantized.codes)
                quantized = Quantized(straight_through(quantized.latents, exact), quantized.codes, quantized.losses)
        # Built anew: torch.compile does not trace NamedTuple._replace.
        return Quantized(quantized.latents.to(latents.dtype), quantized.codes, quantized.losses)

    @property
    def decodable_counts(self) -> tuple[int, ...]:
        """How many of the codebooks, counted from the first, decode by themselves; K alone unless it is residual."""
        return (self.num_codebooks,)

    def encode(self, latents: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Codes (B, K, T) int64 of latents (B, D, T), from the hard path, without gradient or noise.

        Args:
            latents: (B, D, T), of any floating-point dtype.
            num_codebooks: how many of the codebooks to use, one of `decodable_counts`; None is all of them. Fewer are
                the first of the codes that all would give.

        Raises:
            ValueError: for latents of another shape or dtype, a count of codebooks that does not decode by itself, and
                for a quantizer without codes.
        """
        self.check_count(num_codebooks)
        count = self.num_codebooks if num_codebooks is None else int(num_codebooks)
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                return self(latents).codes[:, :count]
        finally:
            for module, training in modes:  # not self.train(): a part may be frozen in evaluation mode
                module.training = training

    def decode(self, codes: Tensor) -> Tensor:
        """Latents (B, D, T) float32 of codes (B, K, T) int64, or of fewer codebooks where `decodable_counts` has them.

        Raises:
            ValueError: for codes of another shape or dtype, or out of range.
        """
        self.check_codes(codes)
        with torch.autocast(codes.device.type, enabled=False), exact_products():
            return self.dequantize(codes)

    def check_count(self, num_codebooks: int | None) -> None:
        """ValueError unless there are codes, and the first so many codebooks decode by themselves; None is all."""
        if not self.num_codebooks:
            raise ValueError(f"{type(self).__name__} has no codes; choose another quantizer to encode")
        if num_codebooks is not None and num_codebooks not in self.decodable_counts:
            raise ValueError(f"num_codebooks: expected {self._expected_count()}, got {num_codebooks!r}")

    @abstractmethod
    def quantize(self, latents: Tensor) -> Quantized:
        """Latents (B, D, T) float32, checked, to Quantized in float32."""

    @abstractmethod
    def dequantize(self, codes: Tensor) -> Tensor:
        """Codes (B, K, T) int64, checked, to latents (B, D, T) float32; K may be any of `decodable_counts`."""

    def _check_latents(self, latents: Tensor) -> None:
        if latents.ndim != 3 or latents.shape[1] != self.dim:
            raise ValueError(
                f"latents: expected shape (batch, {self.dim}, frames), got {tuple(latents.shape)}; "
                f"project them to quantizer.dim = {self.dim} channels first"
            )
        if not latents.is_floating_point():
            raise ValueError(f"latents: expected a floating-point tensor, got {latents.dtype}; use decode for codes")

    def check_codes(self, codes: Tensor) -> None:
        """ValueError unless codes are (B, K, T) int64 in range, K one of `decodable_counts`."""
        if codes.ndim != 3 or codes.shape[1] not in self.decodable_counts:
            raise ValueError(
                f"codes: expected shape (batch, {self.num_codebooks}, frames), got {tuple(codes.shape)}; "
                f"the number of codebooks may be {self._expected_count()}"
            )
        if codes.dtype != torch.int64:
            raise ValueError(f"codes: expected int64, got {codes.dtype}; convert them with .long()")
        sizes = torch.tensor(self.codebook_sizes[: codes.shape[1]], device=codes.device)[:, None]
        outside = ((codes < 0) | (codes >= sizes)).any(dim=2).any(dim=0)
        if outside.any():
            k = int(outside.nonzero()[0])
            found = codes[:, k]
            raise ValueError(
                f"codes: expected 0 <= code < {self.codebook_sizes[k]} in codebook {k}, "
                f"got values from {int(found.min())} to {int(found.max())}; they are not codes of this quantizer"
            )

    def _expected_count(self) -> str:
        counts = self.decodable_counts
        if len(counts) == 1:
            return f"{counts[0]}, since only a residual quantizer decodes from fewer"
        return f"one of {', '.join(map(str, counts))}"
