"""Options of `evaluate` and `compare`, their bar with warnings above it, and the console for their tables."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.evaluation.scores import ALL, NAMES, SCORES

if TYPE_CHECKING:
    from rich.console import Console

    from discrete_ae.evaluation.evaluate import Progress

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


def split_names(metrics: str | None) -> list[str] | None:
    """Return the names that --metrics joins by commas."""
    return None if metrics is None else [name.strip() for name in metrics.split(",")]


def wide_console() -> "Console":
    """Return a console on stdout that is wide enough for tables where it is no terminal."""
    from rich.console import Console

    return Console() if Console().is_terminal else Console(width=160)


def print_line(console: "Console", line: str) -> None:
    """Print text as it is, on one line."""
    console.print(" ".join(line.split()), soft_wrap=True, markup=False, highlight=False, emoji=False)


@contextmanager
def progress_bar(errors: "Console") -> Iterator["Progress | None"]:
    """Print warnings, and on a terminal show a bar of the audio that was evaluated; gives what is told of it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn()
    log, handler = logging.getLogger("discrete_ae"), logging.Handler(logging.WARNING)
    handler.emit = lambda record: print_line(errors, record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
            task = bar.add_task("", total=None)

            def progress(label: str, done_s: float, total_s: float) -> None:
                bar.update(task, description=label, completed=done_s, total=total_s)

            yield progress if errors.is_terminal else None
    finally:
        log.removeHandler(handler)
