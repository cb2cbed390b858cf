"""The base class of all quantizers: their common code, and the contract that each must fulfil.

A subclass passes `dim` and `codebook_sizes` to the base class and writes `quantize` and `dequantize`. The base class
checks arguments, computes in float32 also under autocast, and emits the decoded codes exactly in evaluation.
IdentityQuantizer, at the end, is the smallest subclass.

Axes: B batch, D latent channels, K codebooks, T frames. The channels of one codebook are adjacent: with D = K d,
codebook k has the channels [k d, (k + 1) d).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from discrete_ae.checks import in_unit_interval, whole_number
from discrete_ae.schedules import Schedule, Scheduled

_FEWER = (
    "; to decode from fewer, use a residual quantizer, train with quantizer.dropout above 0, or split a scalar "
    "quantizer by discrete-ae export --split"
)


class Quantized(NamedTuple):
    """The result of quantizing latents."""

    latents: Tensor
    """(B, D, T), the decoder's input, in the dtype of the unquantized latents."""
    codes: Tensor
    """(B, K, T) int64, 0 <= codes[:, k] < codebook_sizes[k]; in training the same as in evaluation."""
    losses: dict[str, Tensor]
    """Auxiliary scalars by name, weighted in conf/loss; {} in evaluation."""
    exact: Tensor | None = None
    """(B, D, T), the codes decoded before any update of the codebooks, if `latents` has other values; else None."""


def straight_through(source: Tensor, value: Tensor) -> Tensor:
    """Return `value` exactly, with the gradient passed to `source` unchanged (Bengio et al. 2013, arXiv:1308.3432)."""
    return (_StraightThrough if torch.compiler.is_compiling() else _StraightThroughForward).apply(source, value)


class _StraightThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(source: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _StraightThroughForward(_StraightThrough):
    """_StraightThrough with a forward-mode gradient, which torch.compile (2.11) does not trace."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return tangents[0].clone()


@contextmanager
def exact_products() -> Iterator[None]:
    """Compute matrix products in full float32: with TF32 (torch.set_float32_matmul_precision) codes would differ.

    torch.compile does not trace this context manager: call a compiled function within it.
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


@contextmanager
def in_evaluation(module: nn.Module) -> Iterator[None]:
    """Put a module and its parts into evaluation mode, and restore the mode of each afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:  # not module.train(): a part may be frozen in evaluation mode
            part.training = training


class Quantizer(Scheduled, ABC):
    """Base class of the quantizers.

    A subclass writes `quantize` and `dequantize`. tests/quantizers/test_quantizer_contract.py checks that:
        - the codes of a frame depend on that frame alone, have no noise, and are the same in training and evaluation;
        - codes are in range for any latents. NaN and infinite latents may have any code, and do not change the codes of
          other frames. A diverging run thus ends with a message about its loss, not about an index;
        - a gradient reaches every channel of the latents and every parameter, and can be differentiated again;
        - losses are scalars, computed in training only, except those named in `left_out`;
        - latents without frames (T = 0) are quantized to codes without frames, and the input is not changed in place.

    Means and sums over the batch must be taken over all ranks (discrete_ae.ranks). A quantizer with such means or sums
    is added to CASES in tests/test_ranks.py.

    Args:
        dim: number of latent channels, D, the same for input and output.
        codebook_sizes: number of entries in each of the K codebooks.
        dropout: share of the training items that are decoded from the first n codebooks only (the first n stages of a
            residual quantizer), with n drawn uniformly from 1 to all. One model then serves all these rates. May be a
            schedule.

    Raises:
        ValueError: for a dim below 1, a codebook of fewer than 2 entries, or a dropout outside [0, 1].
    """

    left_out: frozenset[str]
    """Names of the losses that are not computed; see `leave_out`."""
    dropout: float | Tensor

    def __init__(self, dim: int, codebook_sizes: Sequence[int], dropout: float | Schedule = 0.0) -> None:
        super().__init__()
        self.dim = whole_number("dim", dim, 1)
        self.codebook_sizes = tuple(whole_number("codebook_sizes", size, 2) for size in codebook_sizes)
        self.left_out = frozenset()
        self.set_number("dropout", dropout, in_unit_interval)

    @property
    def num_codebooks(self) -> int:
        """K, the number of codebooks."""
        return len(self.codebook_sizes)

    @property
    def bits_per_frame(self) -> float:
        """Nominal rate in bits per frame: the sum of log2(codebook_sizes)."""
        return sum(math.log2(size) for size in self.codebook_sizes)

    @property
    def matches_evaluation(self) -> bool:
        """True if training gives the same latents as evaluation, up to float rounding; False unless overridden.

        The value must follow from the configuration, never from data, so that all ranks of a distributed run agree.
        """
        return False

    @property
    def overwrites_parameters(self) -> bool:
        """True if a forward pass in training overwrites the quantizer's own parameters; they are then not averaged."""
        return False

    @property
    def drops(self) -> bool:
        """True if some training items are decoded from fewer codebooks; follows from the configuration alone."""
        return "dropout" in self.schedules or float(self.dropout) != 0.0

    def kept(self, latents: Tensor, most: int) -> Tensor:
        """Draw the numbers (B, 1, 1), from 1 to `most`, of codebooks or stages that decode items of latents (B, D, T).

        Without dropout, and in evaluation, the number is always `most`.
        """
        size = (latents.shape[0], 1, 1)
        everything = torch.full(size, most, device=latents.device)
        if not (self.training and self.drops):
            return everything
        drawn = torch.randint(1, most + 1, size, device=latents.device)
        return torch.where(torch.rand(size, device=latents.device) < self.dropout, drawn, everything)

    def leave_out(self, names: Iterable[str]) -> None:
        """Stop computing the losses of these names, here and in all quantizers below; () computes all losses."""
        left_out = frozenset(names)
        for module in self.modules():
            if isinstance(module, Quantizer):
                module.left_out = left_out

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize latents (B, D, T); in evaluation the latents of the result are exactly decode(codes).

        Raises:
            ValueError: for latents of another shape or dtype.
        """
        self._check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False), exact_products():
            # Contiguous, since the kernel for a strided tensor might give other codes.
            prepared = latents.float().contiguous()
            starts = self.training and self.needs_start and latents.numel() > 0
            quantized = self.quantize(prepared)
            if starts:
                self.start(prepared.detach())
            if not self.training and self.num_codebooks:
                exact = self.dequantize(quantized.codes)
                quantized = Quantized(straight_through(quantized.latents, exact), quantized.codes, quantized.losses)
        # torch.compile does not trace NamedTuple._replace.
        return Quantized(quantized.latents.to(latents.dtype), quantized.codes, quantized.losses, quantized.exact)

    @property
    def needs_start(self) -> bool:
        """True if there are no initial codebooks yet; the first forward pass in training calls `start` at its end."""
        return False

    def start(self, latents: Tensor) -> None:
        """Make initial codebooks from latents (B, D, T), float32 and without gradient, if `needs_start`."""

    @property
    def decodable_counts(self) -> tuple[int, ...]:
        """Numbers n for which the codes of the first n codebooks can be decoded."""
        return (self.num_codebooks,)

    @property
    def decodes_from(self) -> str:
        """`decodable_counts` in words: "all 8 together", "the first 1 to 8", "the first 8 or 16"."""
        return counts_in_words(self.decodable_counts)

    def encode(self, latents: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Return codes (B, K, T) int64 of latents (B, D, T), as in evaluation, without gradient.

        Args:
            latents: (B, D, T), of any floating-point dtype.
            num_codebooks: number of codebooks to use, counted from the first, one of `decodable_counts`; None for all.

        Raises:
            ValueError: for latents of another shape or dtype, a num_codebooks that cannot be decoded, or a quantizer
                without codes.
        """
        self.check_count(num_codebooks)
        count = self.num_codebooks if num_codebooks is None else int(num_codebooks)
        with in_evaluation(self), torch.no_grad():
            return self(latents).codes[:, :count]

    def decode(self, codes: Tensor) -> Tensor:
        """Return latents (B, D, T) float32 of codes (B, n, T) int64 of the first n codebooks, n in `decodable_counts`.

        Raises:
            ValueError: for codes of another shape or dtype, or out of range.
        """
        self.check_codes(codes)
        with torch.autocast(codes.device.type, enabled=False), exact_products():
            return self.dequantize(codes)

    def check_count(self, num_codebooks: int | None) -> None:
        """Raise a ValueError if there are no codes, or num_codebooks is neither None nor one of `decodable_counts`."""
        if not self.num_codebooks:
            raise ValueError(f"{type(self).__name__} has no codes; choose another quantizer to encode")
        if num_codebooks is not None and num_codebooks not in self.decodable_counts:
            raise ValueError(
                f"num_codebooks: expected {self.decodes_from}, got {num_codebooks!r}; leave it out for all"
                f"{'' if len(self.decodable_counts) > 1 else _FEWER}"
            )

    @abstractmethod
    def quantize(self, latents: Tensor) -> Quantized:
        """Quantize latents (B, D, T), float32 and checked; return float32 latents.

        In evaluation the base class replaces the values of the returned latents by `dequantize(codes)`, and keeps their
        gradient.
        """

    @abstractmethod
    def dequantize(self, codes: Tensor) -> Tensor:
        """Return latents (B, D, T) float32 of codes (B, n, T) int64, checked, n one of `decodable_counts`."""

    def _check_latents(self, latents: Tensor) -> None:
        if latents.ndim != 3 or latents.shape[1] != self.dim:
            raise ValueError(
                f"latents: expected shape (batch, {self.dim}, frames), got {tuple(latents.shape)}; "
                f"project them to quantizer.dim = {self.dim} channels first"
            )
        if not latents.is_floating_point():
            raise ValueError(f"latents: expected a floating-point tensor, got {latents.dtype}; use decode for codes")

    def check_codes(self, codes: Tensor) -> None:
        """Raise a ValueError unless codes are (B, n, T) int64 in range, n one of `decodable_counts`."""
        if not isinstance(codes, Tensor):
            raise ValueError(f"codes: expected a tensor, got {type(codes).__name__}; torch.from_numpy makes one")
        if codes.ndim != 3 or codes.shape[1] not in self.decodable_counts:
            raise ValueError(
                f"codes: expected shape (batch, {self.num_codebooks}, frames), got {tuple(codes.shape)}; "
                f"this quantizer decodes from {self.decodes_from}"
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


def counts_in_words(counts: Sequence[int]) -> str:
    """Return decodable counts in words; `counts` increase, and the last is the number of all codebooks."""
    *fewer, whole = counts
    if not fewer:
        return f"all {whole} together"
    if len(fewer) == whole - fewer[0]:
        return f"the first {fewer[0]} to {whole}"
    return f"the first {', '.join(map(str, fewer))} or {whole}"


class IdentityQuantizer(Quantizer):
    """A quantizer that returns latents unchanged, as an upper bound for other quantizers; K = 0, so it cannot encode.

    Args:
        dim: number of latent channels, D.
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
        """Raise a ValueError: there are no codes to decode."""
        raise ValueError("IdentityQuantizer has no codes; choose another quantizer to decode")
