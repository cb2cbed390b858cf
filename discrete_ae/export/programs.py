"""Encoder and decoder as programs of tensors alone, traced for any length and batch size, and written as files.

Axes: B batch, C audio channels, N samples, K codebooks, T frames.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from discrete_ae.errors import UsageError
from discrete_ae.export.checking import Agreement, Program, check_programs, first_line, require_scalar
from discrete_ae.model import DiscreteAutoencoder


def write_onnx(model: DiscreteAutoencoder, folder: Path) -> Agreement:
    """Write encoder.onnx and decoder.onnx, and compare them with the model by onnxruntime.

    Raises:
        UsageError: for another than a scalar quantizer, or where the onnx packages are not installed.
        DataError: if what onnxruntime makes of the files differs from the model.
    """
    require_scalar(model)
    try:
        runtime = [import_module(name) for name in ("onnx", "onnxscript", "onnxruntime")][-1]
    except ImportError as error:
        raise UsageError(f"--onnx: needs the package {error.name}; pip install 'discrete-ae[onnx]'") from error
    paths = [folder / "encoder.onnx", folder / "decoder.onnx"]
    # optimize=False: onnxscript takes a constant of at most 1e-8 for 0, and silence has no logarithm then. Whatever
    # runs the file optimizes it anyway.
    settings: Any = {"dynamo": True, "external_data": False, "optimize": False, "verbose": False}
    for program, path, output in zip(_traced(model), paths, ("codes", "audio"), strict=True):
        try:
            with _quiet():
                torch.onnx.export(program, (), path, output_names=[output], **settings)
        except Exception as error:  # of the exporter, which has many
            raise UsageError(
                f"--onnx: PyTorch cannot write {path.name}: {first_line(error)}; leave out --onnx"
            ) from error

    def loaded(path: Path) -> Program:
        options: Any = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda given: session.run(None, {name: given})[0]

    return check_programs(model, loaded(paths[0]), loaded(paths[1]), "ONNX")


def write_torch_programs(model: DiscreteAutoencoder, folder: Path) -> Agreement:
    """Write encoder.pt2 and decoder.pt2, and compare what is read back with the model.

    Raises:
        UsageError: for another than a scalar quantizer.
        DataError: if the programs differ from the model.
    """
    paths = [folder / "encoder.pt2", folder / "decoder.pt2"]
    for program, path in zip(_traced(model), paths, strict=True):
        with _quiet():
            torch.export.save(program, path)

    def loaded(path: Path) -> Program:
        with _quiet():
            program = torch.export.load(path)
            # The guards refuse a single frame, which the program itself can do; PyTorch 2.8 has none.
            module = program.module() if torch.__version__ < "2.9" else program.module(check_guards=False)
        return lambda given: module(torch.from_numpy(given)).numpy()

    return check_programs(model, loaded(paths[0]), loaded(paths[1]), "torch.export")


class _Encoder(nn.Module):
    """Audio (B, C, N) float32, any N >= 1, to codes (B, K, T) int64, T = ceil(N / hop_length)."""

    def __init__(self, model: DiscreteAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, audio: Tensor) -> Tensor:
        # What model.latents and quantizer.encode do, without their checks, which read values and fix shapes.
        hop_length, num_samples = self.model.hop_length, audio.shape[-1]
        num_frames = (num_samples + hop_length - 1) // hop_length
        hidden = self.model.encoder(F.pad(audio, (0, num_frames * hop_length - num_samples)))
        return self.model.quantizer.quantize(self.model.to_latents(hidden).contiguous()).codes


class _Decoder(nn.Module):
    """Codes (B, K, T) int64, of whose range nothing is checked, to audio (B, C, T * hop_length) float32."""

    def __init__(self, model: DiscreteAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, codes: Tensor) -> Tensor:
        return self.model.decoder(self.model.from_latents(self.model.quantizer.dequantize(codes)))


def _traced(model: DiscreteAutoencoder) -> Iterator[ExportedProgram]:
    """Encoder and decoder of a copy of the model on the CPU, in evaluation mode."""
    quantizer = require_scalar(model)
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    # More than one item and frame: what an exporter sees as 1 it takes for a constant.
    audio = torch.zeros(2, model.channels, 7 * model.hop_length + 1)
    codes = torch.zeros(2, quantizer.num_codebooks, 7, dtype=torch.int64)
    # Makes a length of 1 one like others. There is no public name for it in torch 2.11.
    symbolic_shapes = import_module("torch.fx.experimental._config")
    for program, name, example in ((_Encoder(model), "audio", audio), (_Decoder(model), "codes", codes)):
        dynamic = {name: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC}}
        try:
            with torch.no_grad(), _quiet(), symbolic_shapes.patch(backed_size_oblivious=True):
                traced = torch.export.export(program, (example,), dynamic_shapes=dynamic, strict=False)
        except Exception as error:  # of PyTorch's exporter, which has many
            raise UsageError(
                f"PyTorch cannot export this {name} program: {first_line(error)}; leave out --onnx and --torch-export"
            ) from error
        yield traced


@contextmanager
def _quiet() -> Iterator[None]:
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
