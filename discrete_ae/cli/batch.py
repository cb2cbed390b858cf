"""The same with many files: one failure does not stop the others, and the end says what was done."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from discrete_ae.cli.files import Job, is_there
from discrete_ae.errors import DataError


@dataclass
class Tally:
    """What was done so far; failures and warnings are lines on stderr at once."""

    console: Console = field(default_factory=lambda: Console(stderr=True))
    done: int = 0
    failed: int = 0
    skipped: int = 0
    duration_s: float = 0.0
    nominal_bits: float = 0.0
    measured_bits: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, duration_s: float, nominal_bits: float, num_bytes: int) -> None:
        """Count a file: seconds of audio, nominal bits of all its frames and streams, bytes of its codes."""
        self.done += 1
        self.duration_s += duration_s
        self.nominal_bits += nominal_bits
        self.measured_bits += 8 * num_bytes

    def fail(self, error: object) -> None:
        """Count a failure and say what it is."""
        self.failed += 1
        self._say("error", error)

    def warn(self, message: str) -> None:
        """Say what a user should know of a file that was done."""
        self._say("warning", message)

    def summary(self, verb: str) -> str:
        """One line about the whole, such as "3 files encoded, 0 failed: …"."""
        counts = f"{self.done} {'file' if self.done == 1 else 'files'} {verb}, {self.failed} failed"
        if self.skipped:
            counts += f", {self.skipped} there already"
        if not self.done:
            return counts
        speed = self.duration_s / max(time.perf_counter() - self.started, 1e-9)
        nominal, measured = (bits / self.duration_s / 1000 for bits in (self.nominal_bits, self.measured_bits))
        return (
            f"{counts}: {amount(self.duration_s)} of audio at {speed:.3g} x real time, "
            f"{nominal:.2f} kbps nominal, {measured:.2f} kbps measured"
        )

    def _say(self, kind: str, message: object) -> None:
        line = " ".join(str(message).splitlines())
        self.console.print(f"{kind}: {line}", soft_wrap=True, markup=False, highlight=False, emoji=False)


def split(jobs: Sequence[Job], tally: Tally, *, force: bool) -> tuple[list[Job], list[Job]]:
    """The jobs to be done, and those whose outputs are there and are not to be replaced; one with an impossible name
    is a failure.
    """
    todo: list[Job] = []
    there: list[Job] = []
    for job in jobs:
        try:
            (there if not force and is_there(job.target) else todo).append(job)
        except DataError as error:
            tally.fail(error)
    return todo, there


def refuse_existing(tally: Tally, there: Sequence[Job]) -> None:
    """Count outputs that are in the way as failures, in one line."""
    if not there:
        return
    more = f", and {len(there) - 1} others" if len(there) > 1 else ""
    tally.fail(f"{there[0].target}{more}: exists already; use --skip-existing to go on, or --force to overwrite it")
    tally.failed += len(there) - 1


@contextmanager
def progress_bar(
    tally: Tally, label: str, jobs: Sequence[Job], duration_s: Callable[[Path], float]
) -> Iterator[Callable[[float], None]]:
    """On a terminal, a bar of audio done, its speed and the time left; gives what is told of every second done.

    Args:
        tally: whose console it is drawn on.
        label: what is being done.
        jobs: all of it.
        duration_s: seconds of audio in a source; DataError where it cannot be read, which is reported elsewhere.
    """
    if not tally.console.is_terminal:
        yield lambda seconds: None
        return
    columns = TextColumn("{task.description}"), BarColumn(bar_width=None), _AudioColumn(Column(no_wrap=True))
    with Progress(*columns, console=tally.console, transient=True, expand=True) as progress:
        task = progress.add_task(label, total=None)
        # Opening a file waits for the disk: on a network file system threads are worth a factor.
        with ThreadPoolExecutor(16) as pool:
            total = sum(pool.map(lambda job: _duration_or_zero(duration_s, job.source), jobs))
        progress.update(task, total=total)
        yield lambda seconds: progress.advance(task, seconds)


@contextmanager
def interruptible(tally: Tally, verb: str) -> Iterator[None]:
    """At Ctrl-C say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        files = "1 file" if tally.done == 1 else f"{tally.done} files"
        tally.warn(f"interrupted after {files} {verb}; the same command with --skip-existing goes on")
        raise


class _AudioColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("looking at the files")
        speed = task.speed or 0.0
        left = clock((task.total - task.completed) / speed) if speed else "?"
        return Text(f"{clock(task.completed)} of {clock(task.total)} audio, {speed:.0f} x real time, {left} left")


def clock(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def amount(duration_s: float) -> str:
    """Seconds below an hour, else hours."""
    return f"{duration_s:.1f} s" if duration_s < 3600 else f"{duration_s / 3600:.2f} h"


def _duration_or_zero(duration_s: Callable[[Path], float], source: Path) -> float:
    try:
        return duration_s(source)
    except DataError:
        return 0.0
