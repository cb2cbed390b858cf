"""How work on many files is told: a line for each failure, a bar on a terminal, a line about the whole at the end."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from discrete_ae.codec.corpus import Outcome, Watch
from discrete_ae.errors import DataError


@dataclass
class Tally(Watch):
    """Counts what was done so far; failures and warnings are lines on stderr at once."""

    console: Console = field(default_factory=lambda: Console(stderr=True))
    done: int = 0
    failed: int = 0
    skipped: int = 0
    duration_s: float = 0.0
    code_bits: float = 0.0
    file_bits: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    _bar: Progress | None = None

    def begin(self, sources: Sequence[Path], duration_s: Callable[[Path], float]) -> None:
        """Let the bar know how much there is to be done; see `Watch`."""
        if self._bar and self.console.is_terminal:
            # Opening a file waits for the disk: on a network file system threads are worth a factor.
            with ThreadPoolExecutor(16) as pool:
                total = sum(pool.map(lambda source: _duration_or_zero(duration_s, source), sources))
            self._bar.update(self._bar.task_ids[0], total=total)

    def advance(self, seconds: float) -> None:
        """Move the bar on."""
        if self._bar:
            self._bar.advance(self._bar.task_ids[0], seconds)

    def finished(self, outcome: Outcome) -> None:
        """Count an outcome, and say of a failure what it is."""
        if outcome.error is not None:
            self.fail(outcome.error)
        elif outcome.was_there:
            self.skipped += 1
        else:
            self.done += 1
            self.duration_s += outcome.duration_s
            self.code_bits += outcome.code_bits
            self.file_bits += 8 * outcome.num_bytes

    def fail(self, error: object) -> None:
        """Count a failure and say what it is."""
        self.failed += 1
        self._say("error", error)

    def warn(self, message: str) -> None:
        """Say what a user should know."""
        self._say("warning", message)

    def summary(self, verb: str) -> str:
        """Return one line about the whole, such as "3 files encoded, 0 failed: …"."""
        counts = f"{self.done} {'file' if self.done == 1 else 'files'} {verb}, {self.failed} failed"
        if self.skipped:
            counts += f", {self.skipped} there already"
        if not self.done:
            return counts
        speed = self.duration_s / max(time.perf_counter() - self.started, 1e-9)
        codes_kbps, files_kbps = (bits / self.duration_s / 1000 for bits in (self.code_bits, self.file_bits))
        return (
            f"{counts}: {amount(self.duration_s)} of audio at {speed:.3g} x real time; codes of all channels "
            f"{codes_kbps:.2f} kbps, as files {files_kbps:.2f} kbps"
        )

    @contextmanager
    def shown(self, label: str, verb: str | None = None) -> Iterator[None]:
        """On a terminal, draw a bar of audio done and the time left; at Ctrl-C say how to go on.

        Args:
            label: what is being done.
            verb: what was done to a file, where the same command with --skip-existing goes on.
        """
        bar = TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn(), TimeRemainingColumn()
        settings: dict[str, Any] = {"transient": True, "expand": True, "disable": not self.console.is_terminal}
        with Progress(*bar, console=self.console, **settings) as self._bar:
            self._bar.add_task(label, total=None)
            try:
                yield
            except KeyboardInterrupt:
                if verb:
                    files = "1 file" if self.done == 1 else f"{self.done} files"
                    self.warn(f"interrupted after {files} {verb}; the same command with --skip-existing goes on")
                raise

    def _say(self, kind: str, message: object) -> None:
        line = " ".join(str(message).splitlines())
        self.console.print(f"{kind}: {line}", soft_wrap=True, markup=False, highlight=False, emoji=False)


def amount(duration_s: float) -> str:
    """Return seconds below an hour, else hours."""
    return f"{duration_s:.1f} s" if duration_s < 3600 else f"{duration_s / 3600:.2f} h"


def _duration_or_zero(duration_s: Callable[[Path], float], source: Path) -> float:
    try:
        return duration_s(source)
    except (DataError, OSError):
        return 0.0
