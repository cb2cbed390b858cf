"""Encoder and decoder as programs of torch.export."""

from pathlib import Path

import torch

from discrete_ae.export.checking import Agreement, Program, check_programs
from discrete_ae.export.programs import quiet, trace
from discrete_ae.model import DiscreteAutoencoder

ENCODER = "encoder.pt2"
DECODER = "decoder.pt2"


def write_torch_programs(model: DiscreteAutoencoder, folder: Path) -> Agreement:
    """Write encoder.pt2 and decoder.pt2, and compare what is read back with the model.

    Raises:
        UsageError: for another than a scalar quantizer.
        DataError: if the programs differ from the model.
    """
    for program, name in zip(trace(model), (ENCODER, DECODER), strict=True):
        with quiet():
            torch.export.save(program, folder / name)
    return check_programs(model, _run(folder / ENCODER), _run(folder / DECODER), "torch.export")


def _run(path: Path) -> Program:
    with quiet():
        program = torch.export.load(path)
        # The guards refuse a single frame, which the program itself can do; PyTorch 2.8 has none.
        module = program.module() if torch.__version__ < "2.9" else program.module(check_guards=False)
    return lambda given: module(torch.from_numpy(given)).numpy()
