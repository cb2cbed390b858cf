"""Options of several commands, and the model that they name."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from discrete_ae.inference import Runner
    from discrete_ae.model import DiscreteAutoencoder


class Device(StrEnum):
    """Where the model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


InputsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        show_default=False,
        help="Files, folders of them, patterns such as 'corpus/**/*.wav', or - for stdin.",
    ),
]
OutOption = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        metavar="OUT",
        show_default=False,
        help="The folder to be filled; of one input also a file, by its suffix, or - for stdout.",
    ),
]
CheckpointOption = Annotated[
    Path,
    typer.Option(
        "--checkpoint",
        "-c",
        metavar="CHECKPOINT",
        show_default=False,
        help="The model: best.ckpt or last.ckpt of a run, or a folder of [bold]discrete-ae export[/].",
    ),
]
DeviceOption = Annotated[
    Device, typer.Option("--device", help="Where the model runs; [bold]auto[/] takes a GPU if there is one.")
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        show_default="one a core, at most 16",
        help="On a CPU, windows computed at a time, each on one thread; memory grows with them.",
    ),
]
BatchSecondsOption = Annotated[
    float,
    typer.Option(min=0.1, help="On a GPU, seconds of audio computed at once; a CPU computes window by window."),
]
DeterministicOption = Annotated[
    bool,
    typer.Option(
        "--deterministic", metavar="", help="On a GPU, the same bits every time, more slowly; a CPU always does so."
    ),
]
SkipExistingOption = Annotated[
    bool,
    typer.Option(
        "--skip-existing", metavar="", help="Leave out what is there already: go on with a run that was broken off."
    ),
]


def runner_of(model: "DiscreteAutoencoder", jobs: int | None, batch_seconds: float, deterministic: bool) -> "Runner":
    """Return how windows are computed, as the options say."""
    from discrete_ae.inference import Runner, encoder_window

    batch_size = max(1, round(batch_seconds * model.frame_rate_hz / encoder_window(model).length))
    return Runner(jobs, batch_size, deterministic)


def load_model(checkpoint: Path, device: Device) -> "DiscreteAutoencoder":
    """Load the model of a checkpoint or bundle onto the chosen device.

    Raises:
        UsageError: for cuda without a GPU.
        DataError: if the checkpoint cannot be loaded.
    """
    # Here, not above: PyTorch takes seconds to import, and --help needs none of it.
    from discrete_ae.build import load, pick_device

    return load(checkpoint, pick_device(device.value))
