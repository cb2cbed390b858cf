"""What `encode` and `decode` take alike."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.errors import UsageError

if TYPE_CHECKING:
    from discrete_ae.model import DiscreteAutoencoder


class Device(StrEnum):
    """Where the model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


CheckpointOption = Annotated[
    Path,
    typer.Option(
        "--checkpoint",
        "-c",
        metavar="CHECKPOINT",
        show_default=False,
        help="The model: best.ckpt or last.ckpt of a run.",
    ),
]
DeviceOption = Annotated[
    Device, typer.Option("--device", help="Where the model runs; [bold]auto[/] takes a GPU if there is one.")
]


def load_model(checkpoint: Path, device: Device) -> "DiscreteAutoencoder":
    """Load the model of a checkpoint onto the chosen device.

    Raises:
        UsageError: for cuda without a GPU.
        DataError: if the checkpoint cannot be loaded.
    """
    # Here, not above: PyTorch takes seconds to import, and --help needs none of it.
    import torch

    from discrete_ae.build import load

    has_gpu = torch.cuda.is_available()
    if device is Device.CUDA and not has_gpu:
        raise UsageError("--device cuda: PyTorch finds no GPU here; use --device auto or --device cpu")
    return load(checkpoint, "cuda" if has_gpu and device is not Device.CPU else "cpu")
