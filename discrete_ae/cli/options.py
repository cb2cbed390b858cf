"""Options of several commands, the model that they name, and how lines, tables and bars are shown."""

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

if TYPE_CHECKING:
    from rich.console import Console

    from discrete_ae.evaluation.evaluate import Progress
    from discrete_ae.model import DiscreteAutoencoder

Device = Literal["auto", "cpu", "cuda"]


InputsArgument = Annotated[
    list[str],
    typer.Argument(metavar="INPUT", help="Files, folders of them, patterns such as 'corpus/**/*.wav', or - for stdin."),
]
OutOption = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        metavar="OUT",
        help="The folder to be filled; of one input also a file, by its suffix, or - for stdout.",
    ),
]
CheckpointOption = Annotated[
    Path,
    typer.Option(
        "--checkpoint",
        "-c",
        metavar="CHECKPOINT",
        help="The model: best.ckpt or last.ckpt of a run, a folder of [bold]discrete-ae export[/], or hf:USER/MODEL.",
    ),
]
TrustOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="MODULE",
        show_default="this package alone",
        help="A module of yours whose classes a checkpoint may name; it is imported. Repeat it for several.",
    ),
]
DeviceOption = Annotated[Device, typer.Option(help="Where the model runs; [bold]auto[/] takes a GPU if there is one.")]
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
CodebooksOption = Annotated[
    int | None,
    typer.Option(
        show_default="all",
        help="Use only the first codebooks, for a lower bitrate: of a residual quantizer, or of a model trained with "
        "quantizer.dropout above 0; [bold]info[/] says how many decode.",
    ),
]
SkipExistingOption = Annotated[
    bool,
    typer.Option(
        "--skip-existing", metavar="", help="Leave out what is there already: go on with a run that was broken off."
    ),
]
PIPED_PREFIX = "discrete-ae-piped-"
"""The name of a folder that holds what came from standard input, or goes to standard output, begins with it."""
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict", metavar="", help="Refuse recordings of another length than their header says, instead of warning."
    ),
]
MetricsOption = Annotated[
    str | None,
    typer.Option(
        metavar="METRIC,...",
        show_default=", ".join(name for name in NAMES if SCORES[name].by_default),
        help=f"Scores of recordings, joined by commas, of {', '.join(NAMES)}; or {ALL}.",
    ),
]
ScoringJobsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        show_default="one a core, at most 16",
        help="Segments scored at a time, and windows on a CPU; no score depends on it.",
    ),
]
ClipSecondsOption = Annotated[float, typer.Option(min=0.5, max=60, help="Length of a clip.")]


def load_model(checkpoint: Path, device: Device, trust: Sequence[str] | None = None) -> "DiscreteAutoencoder":
    """Load the model of a checkpoint or bundle, which may name components of `trust`, onto the chosen device.

    Raises:
        UsageError: for cuda without a GPU.
        DataError: if the checkpoint cannot be loaded.
    """
    # Here, not above: PyTorch takes seconds to import, and --help needs none of it.
    from discrete_ae.build import load, pick_device

    return load(checkpoint, pick_device(device), trust or ())


def whole_numbers(option: str, text: str, example: str) -> list[int]:
    """Return the numbers in the text that an option was given, such as the example.

    Raises:
        UsageError: it holds anything else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} {text}: expected whole numbers joined by commas, such as {example}") from error


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, lines: Iterable[str] = ()
) -> None:
    """Print a table whose first column are names, and sentences below it; without `heads`, one of two columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads or ("", ""), title=title, show_header=bool(heads))
    table.columns[0].overflow = "fold"
    for column in table.columns[1:] if heads else ():
        column.justify = "right"
    for row in rows:
        table.add_row(*map(Text, row))  # a label may hold brackets
    console = Console() if Console().is_terminal else Console(width=160)  # in a file nothing is to be broken
    console.print(table)
    for line in lines:
        print_line(console, line)


def print_line(console: "Console", line: str) -> None:
    """Print text as it is, on one line."""
    console.print(" ".join(line.split()), soft_wrap=True, markup=False, highlight=False, emoji=False)


@contextmanager
def progress_bar(errors: "Console", *, lines: bool = False) -> Iterator["Progress | None"]:
    """Print log messages, and yield a function that shows progress: on a terminal, a bar with the time left.

    Args:
        errors: the console of stderr.
        lines: without a terminal, print a line whenever something else is being done.
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
    """Estimates the remaining time of several tasks in a row.

    Only progress within a task counts, because a jump to the next one may skip work that was done before.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._label, self._done, self._advanced = "", 0.0, 0.0

    def update(self, label: str, done: float, total: float) -> float | None:
        """Return the estimate in seconds, or None before there is any; `done` of `total` is the state of all tasks."""
        if label == self._label:
            self._advanced += done - self._done
        self._label, self._done = label, done
        return (total - done) * (time.monotonic() - self._began) / self._advanced if self._advanced else None


def as_given(line: str) -> str:
    """Return a line in which the file that stands for a standard stream is `-` again."""
    return re.sub(rf"[^\s:]*{PIPED_PREFIX}\w+[/\\]std(in|out)(\.\w+)?", "-", line)


@contextmanager
def logged_on(errors: "Console") -> Iterator[None]:
    """Print what is logged meanwhile as lines that begin with what they are."""
    log, handler = logging.getLogger("discrete_ae"), logging.Handler(logging.WARNING)

    def emit(record: logging.LogRecord) -> None:
        line = as_given(record.getMessage())
        print_line(errors, line if line.startswith(("error: ", "warning: ")) else f"warning: {line}")

    handler.emit = emit  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
