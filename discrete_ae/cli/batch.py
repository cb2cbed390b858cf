"""Do the same with many files: one failure does not stop the others, and the end says what was done."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from discrete_ae.cli.files import Plan, check_free, write_whole
from discrete_ae.errors import DataError


class Converted(NamedTuple):
    """What one file became."""

    content: bytes
    duration_s: float
    bitrate_bps: float
    """Nominal, of all its channels together."""
    warning: str = ""


def run(plan: Plan, convert: Callable[[Path], Converted], done: str, *, overwrite: bool) -> None:
    """Convert the files of a plan, with a progress bar on a terminal, and print one line about the whole.

    Args:
        plan: what becomes what.
        convert: one file to the content of its output; DataError where it cannot.
        done: what has been done with a file, such as "encoded".
        overwrite: whether an output that exists is replaced.

    Raises:
        typer.Exit: status 1, if anything failed; each failure is a line on stderr by then.
    """
    console = Console(stderr=True)

    def say(kind: str, message: object) -> None:
        line = " ".join(str(message).splitlines())
        console.print(f"{kind}: {line}", soft_wrap=True, markup=False, highlight=False, emoji=False)

    results: list[Converted] = []
    for problem in plan.problems:
        say("error", problem)
    columns = TextColumn(done), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for source, target in progress.track(plan.jobs):
            try:
                if not overwrite:
                    check_free(target)
                converted = convert(source)
                write_whole(target, converted.content)
            except DataError as error:
                say("error", error)
                continue
            if converted.warning:
                say("warning", f"{source}: {converted.warning}")
            results.append(converted._replace(content=b""))

    failed = len(plan.problems) + len(plan.jobs) - len(results)
    typer.echo(_summary(results, done, failed))
    if failed:
        raise typer.Exit(1)


def _summary(results: list[Converted], done: str, failed: int) -> str:
    duration_s = sum(result.duration_s for result in results)
    counts = f"{len(results)} {'file' if len(results) == 1 else 'files'} {done}, {failed} failed"
    if not results:
        return counts
    bits = sum(result.duration_s * result.bitrate_bps for result in results)
    return f"{counts}: {duration_s:.1f} s of audio, {bits / duration_s / 1000:.2f} kbps nominal"
