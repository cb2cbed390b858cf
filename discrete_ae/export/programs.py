"""Encoder and decoder as programs of tensors alone, traced for any length and batch size.

Axes: B batch, C audio channels, N samples, K codebooks, T frames.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from discrete_ae.errors import UsageError
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.quantizers import ScalarQuantizer


class EncoderProgram(nn.Module):
    """Audio (B, C, N) float32, any N >= 1, to codes (B, K, T) int64, T = ceil(N / hop_length)."""

    def __init__(self, model: DiscreteAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, audio: Tensor) -> Tensor:
        """Encode; zeros fill the last frame."""
        # What model.latents and quantizer.encode do, without their checks, which read values and fix shapes.
        hop_length, num_samples = self.model.hop_length, audio.shape[-1]
        num_frames = (num_samples + hop_length - 1) // hop_length
        hidden = self.model.encoder(F.pad(audio, (0, num_frames * hop_length - num_samples)))
        return self.model.quantizer.quantize(self.model.to_latents(hidden).contiguous()).codes


class DecoderProgram(nn.Module):
    """Codes (B, K, T) int64, of whose range nothing is checked, to audio (B, C, T * hop_length) float32."""

    def __init__(self, model: DiscreteAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, codes: Tensor) -> Tensor:
        """Decode."""
        return self.model.decoder(self.model.from_latents(self.model.quantizer.dequantize(codes)))


def require_scalar(model: DiscreteAutoencoder) -> ScalarQuantizer:
    """Return the model's quantizer.

    Raises:
        UsageError: if it is of another kind.
    """
    if not isinstance(model.quantizer, ScalarQuantizer):
        raise UsageError(
            f"a {type(model.quantizer).__name__} cannot be exported as a program, only scalar quantizers can, such as "
            "those of quantizer=ste or quantizer=fourier; leave out --onnx and --torch-export"
        )
    return model.quantizer


def trace(model: DiscreteAutoencoder) -> tuple[ExportedProgram, ExportedProgram]:
    """Trace encoder and decoder of a copy of the model on the CPU, in evaluation mode.

    Raises:
        UsageError: if its quantizer is not a scalar one, or the exporter does not manage it.
    """
    quantizer = require_scalar(model)
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    # More than one item and frame: what an exporter sees as 1 it takes for a constant.
    audio = torch.zeros(2, model.channels, 7 * model.hop_length + 1)
    codes = torch.zeros(2, quantizer.num_codebooks, 7, dtype=torch.int64)
    return _trace(EncoderProgram(model), "audio", audio), _trace(DecoderProgram(model), "codes", codes)


def _trace(program: nn.Module, name: str, example: Tensor) -> ExportedProgram:
    dynamic = {name: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC}}
    # Makes a length of 1 one like others. There is no public name for it in torch 2.11.
    symbolic_shapes = import_module("torch.fx.experimental._config")
    try:
        with torch.no_grad(), quiet(), symbolic_shapes.patch(backed_size_oblivious=True):
            return torch.export.export(program, (example,), dynamic_shapes=dynamic, strict=False)
    except Exception as error:  # of PyTorch's exporter, which has many
        raise UsageError(
            f"PyTorch cannot export this {name} program: {first_line(error)}; leave out --onnx and --torch-export"
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error of another package, which may have many."""
    return str(error).strip().partition("\n")[0][:200]


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say of packages that are not there and of their own internals."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "onnxscript")]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
