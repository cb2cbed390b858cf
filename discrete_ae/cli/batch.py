"""Work on many files, shown: a line for each failure, a bar on a terminal, a line about the whole at the end."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from discrete_ae.codec.corpus import Outcome, Watch
from discrete_ae.errors import DataError


def shown(work: Callable[[Watch], list[Outcome]], verb: str) -> tuple[str, int]:
    """Do the work and show on stderr how it goes on; at Ctrl-C say how to go on.

    Args:
        work: `encode_corpus` or `decode_corpus` with all but its watch.
        verb: what is done to a file, such as "encoded".

    Returns:
        One line about the whole, such as "3 files encoded, 0 failed: …", and how many files failed.
    """
    watch, started = _Terminal(), time.perf_counter()
    try:
        with watch.bar:
            outcomes = work(watch)
    except KeyboardInterrupt:
        watch.warn(f"interrupted after {_files(watch.done)} {verb}; the same command with --skip-existing goes on")
        raise
    done = [outcome for outcome in outcomes if not (outcome.error or outcome.was_there)]
    failed, there = sum(o.error is not None for o in outcomes), sum(o.was_there for o in outcomes)
    line = f"{_files(len(done))} {verb}, {failed} failed" + (f", {there} there already" if there else "")
    if done:
        duration_s = sum(outcome.duration_s for outcome in done)
        codes_kbps = sum(outcome.code_bits for outcome in done) / duration_s / 1000
        files_kbps = sum(8 * outcome.num_bytes for outcome in done) / duration_s / 1000
        amount = f"{duration_s:.1f} s" if duration_s < 3600 else f"{duration_s / 3600:.2f} h"
        speed = duration_s / max(time.perf_counter() - started, 1e-9)
        line += (
            f": {amount} of audio at {speed:.3g} x real time; codes of all channels {codes_kbps:.2f} kbps, as files "
            f"{files_kbps:.2f} kbps"
        )
    return line, failed


class _Terminal(Watch):
    """Failures and warnings as lines at once; where there is a terminal, a bar of audio done and the time left."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        columns = BarColumn(bar_width=None), TaskProgressColumn(), TimeRemainingColumn()
        is_hidden = not self.console.is_terminal
        self.bar = Progress(*columns, console=self.console, transient=True, expand=True, disable=is_hidden)
        self.task = self.bar.add_task("", total=None)
        self.done = 0

    def begin(self, sources: Sequence[Path], duration_s: Callable[[Path], float]) -> None:
        if self.console.is_terminal:
            # Opening a file waits for the disk: on a network file system threads are worth a factor.
            with ThreadPoolExecutor(16) as pool:
                total = sum(pool.map(lambda source: _duration_or_zero(duration_s, source), sources))
            self.bar.update(self.task, total=total)

    def advance(self, seconds: float) -> None:
        self.bar.advance(self.task, seconds)

    def finished(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._say("error", outcome.error)
        elif not outcome.was_there:
            self.done += 1

    def warn(self, message: str) -> None:
        self._say("warning", message)

    def _say(self, kind: str, message: str) -> None:
        line = " ".join(message.splitlines())
        self.console.print(f"{kind}: {line}", soft_wrap=True, markup=False, highlight=False, emoji=False)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _duration_or_zero(duration_s: Callable[[Path], float], source: Path) -> float:
    try:
        return duration_s(source)
    except (DataError, OSError):
        return 0.0
