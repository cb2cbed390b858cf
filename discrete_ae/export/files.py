"""Encoder and decoder as files: ONNX, checked with onnxruntime, and programs of torch.export."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from discrete_ae.errors import UsageError
from discrete_ae.export.checking import Agreement, Program, check_programs
from discrete_ae.export.programs import first_line, quiet, require_scalar, trace
from discrete_ae.model import DiscreteAutoencoder


def write_onnx(model: DiscreteAutoencoder, folder: Path) -> Agreement:
    """Write encoder.onnx and decoder.onnx, and compare them with the model.

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
    for program, path, output in zip(trace(model), paths, ("codes", "audio"), strict=True):
        try:
            with quiet():
                # optimize=False: onnxscript takes a constant of at most 1e-8 for 0, and silence has no logarithm then.
                # Whatever runs the file optimizes it anyway.
                settings: dict[str, Any] = {"dynamo": True, "external_data": False, "optimize": False, "verbose": False}
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
    for program, path in zip(trace(model), paths, strict=True):
        with quiet():
            torch.export.save(program, path)

    def loaded(path: Path) -> Program:
        with quiet():
            program = torch.export.load(path)
            # The guards refuse a single frame, which the program itself can do; PyTorch 2.8 has none.
            module = program.module() if torch.__version__ < "2.9" else program.module(check_guards=False)
        return lambda given: module(torch.from_numpy(given)).numpy()

    return check_programs(model, loaded(paths[0]), loaded(paths[1]), "torch.export")
