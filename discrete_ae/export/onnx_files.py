"""Encoder and decoder as ONNX files, checked with onnxruntime."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from discrete_ae.errors import UsageError
from discrete_ae.export.checking import Agreement, Program, check_programs
from discrete_ae.export.programs import quiet, require_scalar, trace
from discrete_ae.model import DiscreteAutoencoder

ENCODER = "encoder.onnx"
DECODER = "decoder.onnx"
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def write_onnx(model: DiscreteAutoencoder, folder: Path) -> Agreement:
    """Write encoder.onnx and decoder.onnx, and compare them with the model.

    Raises:
        UsageError: for another than a scalar quantizer, or where the onnx packages are not installed.
        DataError: if what onnxruntime makes of the files differs from the model.
    """
    require_scalar(model)
    runtime = _runtime()
    programs = trace(model)
    outputs = ("codes", "audio")
    for program, name, output in zip(programs, (ENCODER, DECODER), outputs, strict=True):
        try:
            with quiet():
                # optimize=False: onnxscript takes a constant of at most 1e-8 for 0, and silence has no logarithm then.
                # Whatever runs the file optimizes it anyway.
                torch.onnx.export(
                    program,
                    (),
                    folder / name,
                    output_names=[output],
                    dynamo=True,
                    external_data=False,
                    optimize=False,
                    verbose=False,
                )
        except Exception as error:  # of the exporter, which has many
            reason = str(error).strip().partition("\n")[0][:200]
            raise UsageError(f"--onnx: PyTorch cannot write {name}: {reason}; leave out --onnx") from error
    return check_programs(model, _run(runtime, folder / ENCODER), _run(runtime, folder / DECODER), "ONNX")


def _runtime() -> Any:
    try:
        return [import_module(name) for name in NEEDED][-1]
    except ImportError as error:
        raise UsageError(f"--onnx: needs the package {error.name}; pip install 'discrete-ae[onnx]'") from error


def _run(runtime: Any, path: Path) -> Program:
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda given: session.run(None, {name: given})[0]
