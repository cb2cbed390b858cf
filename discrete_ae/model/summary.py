"""Summary of a model without training: rates, parameters, work per second of audio, receptive field."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from discrete_ae.model.autoencoder import PARTS, DiscreteAutoencoder
from discrete_ae.quantizers.base import in_evaluation

Result = TypeVar("Result")

COUNTED_S = 1.0  # seconds of audio; long enough that work independent of the length is negligible


class Cost(NamedTuple):
    """Cost of a part of the model."""

    part: str
    parameters: int
    """Number of trainable parameters."""
    macs_per_second: float
    """Multiply-accumulates per second of audio."""


class ModelSummary(NamedTuple):
    """Rates, receptive field and costs of a model, as `discrete-ae info` prints them."""

    sample_rate: int
    """Sample rate in Hz."""
    channels: int
    hop_length: int
    """Samples per frame."""
    frame_rate_hz: float
    codebook_sizes: tuple[int, ...]
    """Empty for a model without codes."""
    decodes_from: str
    """`Quantizer.decodes_from`: the numbers of codebooks that can be decoded, in words."""
    bits_per_frame: float
    """Infinite for a model without codes."""
    bitrate_bps: float
    receptive_field_s: float
    """Seconds of audio on which one sample of the reconstruction depends."""
    look_ahead_s: float
    """The part of the receptive field after the sample."""
    model_hash: str | None
    """Hash of the model; None unless it was loaded from a file."""
    codes_hash: str | None
    """Hash of the parts that determine the codes; None unless the model was loaded from a file."""
    costs: tuple[Cost, ...]
    """Costs of the encoder with the map to latents, the quantizer in both directions, and the decoder with its map."""

    @property
    def total(self) -> Cost:
        """Cost of the whole model."""
        return Cost(
            "total", sum(cost.parameters for cost in self.costs), sum(cost.macs_per_second for cost in self.costs)
        )

    def rows(self) -> list[tuple[str, str]]:
        """Return all fields but the costs as rows (name, value) of a printed table."""
        has_codes = bool(self.codebook_sizes)
        sizes = ", ".join(map(str, dict.fromkeys(self.codebook_sizes)))
        codebooks = f"{len(self.codebook_sizes)} of {sizes} entries"
        rows = [
            ("sample rate", f"{self.sample_rate} Hz"),
            ("channels", str(self.channels)),
            ("hop", f"{self.hop_length} samples"),
            ("frame rate", f"{self.frame_rate_hz:g} Hz"),
            ("codebooks", codebooks if has_codes else "none: latents are not quantized"),
            *([("decodes from", self.decodes_from)] if len(self.codebook_sizes) > 1 else []),
            ("bits per frame", f"{self.bits_per_frame:g}" if has_codes else "no limit"),
            ("nominal bitrate", f"{self.bitrate_bps / 1000:.3g} kbps" if has_codes else "no limit"),
            ("receptive field", f"{1000 * self.receptive_field_s:.1f} ms"),
            ("look-ahead", f"{1000 * self.look_ahead_s:.1f} ms"),
        ]
        hashes = (("model hash", self.model_hash), ("codes hash", self.codes_hash))
        return rows + [(name, value) for name, value in hashes if value]

    def cost_rows(self) -> list[tuple[str, str, str]]:
        """Return the costs of the parts and of the whole: name, parameters, multiply-accumulates per second."""
        return [
            (cost.part, f"{cost.parameters:,}", f"{cost.macs_per_second / 1e6:,.1f} M")
            for cost in (*self.costs, self.total)
        ]


def summarize(model: DiscreteAutoencoder) -> ModelSummary:
    """Summarize a model on the CPU, and leave its mode unchanged."""
    num_samples = max(round(COUNTED_S * model.sample_rate), 1)
    duration_s = num_samples / model.sample_rate
    audio = torch.zeros(1, model.channels, num_samples)
    with in_evaluation(model):
        latents, encoder_macs = multiply_accumulates(lambda: model.latents(audio))
        quantized, quantizer_macs = multiply_accumulates(lambda: model.quantizer(latents).latents)
        _, decoder_macs = multiply_accumulates(lambda: model.reconstruct(quantized, num_samples))
    return ModelSummary(
        model.sample_rate,
        model.channels,
        model.hop_length,
        model.frame_rate_hz,
        tuple(model.quantizer.codebook_sizes),
        model.quantizer.decodes_from,
        model.quantizer.bits_per_frame,
        model.bitrate_bps,
        model.receptive_field_samples / model.sample_rate,
        model.look_ahead_samples / model.sample_rate,
        model.model_hash,
        model.codes_hash,
        tuple(
            Cost(part, _parameters(*map(model.get_submodule, PARTS[part])), macs / duration_s)
            for part, macs in (("encoder", encoder_macs), ("quantizer", quantizer_macs), ("decoder", decoder_macs))
        ),
    )


def multiply_accumulates(function: Callable[[], Result]) -> tuple[Result, int]:
    """Run `function` on the CPU without gradient; return its result and its multiply-accumulates by PyTorch's formulas.

    The count includes (transposed) convolutions, matrix products, recurrent layers and attention. It does not include
    elementwise operations, Fourier transforms and table look-ups.
    """
    from torch.utils.flop_counter import flop_registry  # imported here, since it imports triton

    with torch.no_grad(), _countable(), _FlopCounter(flop_registry) as counter:
        result = function()
    return result, counter.flops // 2


class _FlopCounter(TorchDispatchMode):
    """The part of PyTorch's FlopCounterMode that is needed here; the original imports torch._dynamo, taking 1.5 s."""

    def __init__(self, formulas: Mapping[Any, Callable[..., int]]) -> None:
        super().__init__()
        self.formulas, self.flops = formulas, 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # to skip it, PyTorch would import it
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, formula = kwargs or {}, self.formulas.get(func.overloadpacket)
        if formula is None:
            with self:
                result = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if result is NotImplemented else result
        result = func(*args, **kwargs)
        self.flops += formula(*args, **kwargs, out_val=result)
        return result


@contextmanager
def _countable() -> Iterator[None]:
    """Run recurrent layers and attention as matrix products: PyTorch has no formula for their fused forms.

    In torch 2.11 these are aten::mkldnn_rnn_layer and aten::_scaled_dot_product_flash_attention_for_cpu.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN")  # on entry and on exit
        with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
            yield


def _parameters(*parts: nn.Module) -> int:
    return sum(parameter.numel() for part in parts for parameter in part.parameters() if parameter.requires_grad)
