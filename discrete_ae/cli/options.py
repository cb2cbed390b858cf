"""Options that several commands share, loading of the model, and printing of lines, tables and progress bars."""

import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from discrete_ae.durations import about
from discrete_ae.errors import UsageError
from discrete_ae.evaluation.scores import ALL, NAMES, SCORES
from discrete_ae.paths import PRETRAINED

if TYPE_CHECKING:
    from rich.console import Console

    from discrete_ae.evaluation.evaluate import Progress
    from discrete_ae.model import DiscreteAutoencoder

Device = Literal["auto", "cpu", "cuda"]

OutOption = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        metavar="OUT",
        help="Output folder; for a single input also a file, recognized by its suffix, or - for stdout.",
    ),
]
CheckpointOption = Annotated[
    Path,
    typer.Option(
        "--checkpoint",
        "-c",
        metavar="CHECKPOINT",
        show_default="pretrained, the speech model in this package",
        help="The model: best.ckpt or last.ckpt of a run, a folder from [bold]discrete-ae export[/], or hf:USER/MODEL.",
    ),
]
TrustOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="MODULE",
        show_default="this package only",
        help="Import this module, and allow checkpoints to name its classes. Repeat the option for several modules.",
    ),
]
DeviceOption = Annotated[
    Device, typer.Option(help="Device that runs the model; [bold]auto[/] uses a GPU if available.")
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        show_default="one per core, at most 16",
        help="Number of windows computed in parallel on a CPU, each on one thread; memory use grows with it.",
    ),
]
BatchSecondsOption = Annotated[
    float,
    typer.Option(min=0.1, help="Seconds of audio per batch on a GPU; a CPU computes window by window."),
]
BATCH_SECONDS = 120.0
"""Default of `BatchSecondsOption`."""
DeterministicOption = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Make results on a GPU bit-identical, but slower. Results on a CPU are always bit-identical.",
    ),
]
CodebooksOption = Annotated[
    int | None,
    typer.Option(
        show_default="all",
        help="Use only this many of the first codebooks, for a lower bitrate. Needs a residual quantizer, or a model "
        "trained with quantizer.dropout above 0; [bold]info[/] shows the possible numbers.",
    ),
]
SkipExistingOption = Annotated[
    bool,
    typer.Option("--skip-existing", help="Skip files that already exist, to resume an interrupted command."),
]
PIPED_PREFIX = "discrete-ae-piped-"
"""Prefix of the name of a temporary folder for data from standard input or to standard output."""
StrictOption = Annotated[
    bool,
    typer.Option("--strict", help="Reject recordings whose length differs from their header, instead of warning."),
]
MetricsOption = Annotated[
    str | None,
    typer.Option(
        metavar="METRIC,...",
        show_default=", ".join(name for name in NAMES if SCORES[name].by_default),
        help=f"Scores to compute, separated by commas: {', '.join(NAMES)}; or {ALL}.",
    ),
]
ScoringJobsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        show_default="one per core, at most 16",
        help="Number of segments scored, and of windows computed on a CPU, in parallel. Scores do not depend on it.",
    ),
]
ClipSecondsOption = Annotated[float, typer.Option(min=0.5, max=60, help="Length of a clip.")]


def check_existing(skip_existing: bool, force: bool) -> None:
    """Check that existing files are not both skipped and overwritten.

    Raises:
        UsageError: both options are given.
    """
    if skip_existing and force:
        raise UsageError("--skip-existing and --force: skip existing files, or overwrite them; give only one of them")


def check_stream(skip_existing: bool, jobs: int | None, batch_seconds: float, deterministic: bool) -> None:
    """Check that no option for whole files is given for a stream.

    Raises:
        UsageError: such an option is given.
    """
    given = {
        "--skip-existing": skip_existing,
        "--jobs": jobs is not None,
        "--batch-seconds": batch_seconds != BATCH_SECONDS,
        "--deterministic": deterministic,
    }
    if named := [name for name, is_given in given.items() if is_given]:
        raise UsageError(f"{', '.join(named)}: not for a stream, which is coded frame by frame; leave it out")


def load_model(checkpoint: Path, device: Device, trust: Sequence[str] | None = None) -> "DiscreteAutoencoder":
    """Load a checkpoint or bundle onto a device; classes from the modules in `trust` are allowed.

    Raises:
        UsageError: the device is cuda, and no GPU is available; or a module of `trust` cannot be imported.
        DataError: the checkpoint cannot be loaded.
    """
    # PyTorch takes seconds to import, and --help does not need it.
    from discrete_ae.build import load, pick_device

    if str(checkpoint) == PRETRAINED:
        typer.echo("model: pretrained, for speech at 16 kHz; -c names another", err=True)
    return load(checkpoint, pick_device(device), trust or ())


def whole_numbers(option: str, text: str, example: str) -> list[int]:
    """Parse the value of an option as whole numbers separated by commas.

    Args:
        option: name of the option.
        text: value of the option.
        example: a valid value, for the error message.

    Raises:
        UsageError: the text is not a list of whole numbers separated by commas.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} {text}: expected whole numbers separated by commas, such as {example}") from error


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, lines: Iterable[str] = ()
) -> None:
    """Print a table, then `lines` below it. The first column holds names; a table without `heads` has two columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads or ("", ""), title=title, show_header=bool(heads))
    table.columns[0].overflow = "fold"
    for column in table.columns[1:] if heads else ():
        column.justify = "right"
    for row in rows:
        table.add_row(*map(Text, row))  # a label may hold brackets
    console = Console() if Console().is_terminal else Console(width=160)  # in a file, long lines are not wrapped
    console.print(table)
    for line in lines:
        print_line(console, line)


def print_line(console: "Console", line: str) -> None:
    """Print text on one line, without markup, highlighting or emoji, and with `-` for a standard stream."""
    console.print(as_given(" ".join(line.splitlines())), soft_wrap=True, markup=False, highlight=False, emoji=False)


@contextmanager
def progress_bar(errors: "Console", *, lines: bool = False) -> Iterator["Progress | None"]:
    """Yield a function that shows progress: on a terminal, as a bar with the time left. Also print log messages.

    Args:
        errors: console of stderr.
        lines: True to print a line whenever the task changes if stderr is not a terminal.
    """
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=12), TextColumn("{task.fields[left]}")
    bar = Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)
    with logged_on(errors), bar:
        task, clock, shown = bar.add_task("loading", total=None, left=""), TimeLeft(), ""

        def progress(label: str, done_s: float, total_s: float) -> None:
            nonlocal shown
            left_s = clock.update(label, done_s, total_s)
            left = f"{about(left_s)} left" if left_s else ""
            if errors.is_terminal:
                bar.update(task, description=label, completed=done_s, total=total_s, left=left)
            elif label != shown:
                print_line(errors, f"{label}, {left}" if left else label)
            shown = label

        yield progress if errors.is_terminal or lines else None


class TimeLeft:
    """Estimator of the remaining time of several tasks in a row.

    Only progress within a task counts, because the next task may start beyond work that was done earlier.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._label, self._done, self._advanced = "", 0.0, 0.0

    def update(self, label: str, done: float, total: float) -> float | None:
        """Return the estimate in seconds, or None before any progress; `done` and `total` cover all tasks."""
        if label == self._label:
            self._advanced += done - self._done
        self._label, self._done = label, done
        return (total - done) * (time.monotonic() - self._began) / self._advanced if self._advanced else None


def as_given(line: str) -> str:
    """Return the line with `-` in place of the temporary file that stands for a standard stream."""
    return re.sub(rf"[^\s:]*{PIPED_PREFIX}\w+[/\\]std(in|out)(\.\w+)?", "-", line)


@contextmanager
def logged_on(errors: "Console") -> Iterator[None]:
    """Print log messages on `errors` during the block, as lines that begin with "error: " or "warning: "."""
    log, handler = logging.getLogger("discrete_ae"), logging.Handler(logging.WARNING)

    def emit(record: logging.LogRecord) -> None:
        line = record.getMessage()
        print_line(errors, line if line.startswith(("error: ", "warning: ")) else f"warning: {line}")

    handler.emit = emit  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
