"""The paths that commands are given, `-` for a standard stream among them; and work on many files, shown.

There is a line for each failure, a bar on a terminal, and a line about the whole at the end.
"""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from discrete_ae.cli.options import PIPED_PREFIX, as_given, logged_on
from discrete_ae.codec.corpus import Outcome, Watch
from discrete_ae.errors import DataError, UsageError, counted, from_system
from discrete_ae.paths import Kind, kind_of
from discrete_ae.writing import scratch_folder

_OF_FILES = {
    *(".npz", ".npy", ".daec", ".wav", ".flac", ".ogg", ".opus", ".mp3"),
    *(".json", ".jsonl", ".csv", ".tsv", ".txt", ".md", ".html", ".xlsx", ".yaml"),
}

Format = TypeVar("Format", bound=str)


def is_dash(path: str | Path) -> bool:
    """Return whether a path, as it was given, is a standard stream: a `Path` cannot tell `-` from a file `./-`."""
    return str(path) == "-"


@contextmanager
def piped(inputs: Sequence[str], out: str, suffix: str) -> Iterator[tuple[list[Path], Path]]:
    """Give inputs and output without `-`, which stands for a temporary file: reading seeks, writing is whole or not.

    Args:
        inputs: of the command, as they were given.
        out: of the command, likewise.
        suffix: of what would be standard output, dot included.

    Raises:
        UsageError: one output stream for several inputs, a terminal where binary data would go, or a closed stream.
        OSError: standard input cannot be held, or standard output cannot be written.
    """
    to_stdout = is_dash(out)
    if to_stdout and (len(inputs) != 1 or (not is_dash(inputs[0]) and kind_of(inputs[0]) is Kind.FOLDER)):
        raise UsageError("-o -: one stream, for several inputs or a folder; give a folder")
    if to_stdout and sys.stdout is None:
        raise UsageError("-o -: standard output is closed; give a file")
    if sys.stdin is None and any(map(is_dash, inputs)):
        raise UsageError("-: standard input is closed; write something into it, or give a file")
    if to_stdout and sys.stdout.isatty():
        raise UsageError("-o -: binary data would go to the terminal; redirect it, or give a file")
    with scratch_folder(PIPED_PREFIX) as folder:
        stdin, stdout = folder / "stdin", folder / f"stdout{suffix}"
        if any(map(is_dash, inputs)):
            try:
                with stdin.open("wb") as copy:
                    shutil.copyfileobj(sys.stdin.buffer, copy)
            except OSError as error:
                error.filename = f"{folder.parent}, where standard input is kept (TMPDIR)"
                raise
        yield [stdin if is_dash(path) else Path(path) for path in inputs], stdout if to_stdout else Path(out)
        if to_stdout and stdout.exists():
            try:
                with stdout.open("rb") as result:
                    shutil.copyfileobj(result, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            except OSError as error:
                error.filename = "-o -"
                raise


def format_of(out: Path, chosen: Format | None, formats: Sequence[Format], command: str) -> Format:
    """Return the format that the suffix of OUT names, or the one chosen, or the first of them.

    Raises:
        UsageError: suffix and choice disagree, or OUT has the suffix of files that the command does not write.
    """
    suffixes = {f".{known}": known for known in formats}
    refuse_other_suffix(out, command, list(suffixes))
    if not names_file(out, suffixes):
        return chosen or formats[0]
    named = suffixes[out.suffix.lower()]
    if chosen not in (None, named):
        raise UsageError(f"--format {chosen}, but -o {out}; make them agree")
    return named


def names_file(out: Path, suffixes: Collection[str]) -> bool:
    """Return whether `out` is one file to be written: by its suffix, unless there is a folder of this name."""
    return out.suffix.lower() in suffixes and not out.is_dir()


def refuse_other_suffix(out: Path, command: str, suffixes: Sequence[str]) -> None:
    """Refuse an `out` that a user takes for a file, by its suffix, and that would become a folder of this name.

    Args:
        out: as it was given.
        command: its name.
        suffixes: of the files that it writes, lower-case, dot included.

    Raises:
        UsageError: it has the suffix of another kind of file, and is no folder that exists.
    """
    if names_file(out, _OF_FILES - set(suffixes)):
        *others, last = suffixes
        raise UsageError(f"-o {out}: {command} writes {', '.join(others)} or {last}; give one of these, or a folder")


def shown(work: Callable[[Watch], list[Outcome]], verb: str) -> tuple[str, int]:
    """Do the work and show on stderr how it goes on; at Ctrl-C say how to go on.

    Args:
        work: `encode_corpus` or `decode_corpus` with all but its watch.
        verb: what is done to a file, such as "encoded".

    Returns:
        One line about the whole, such as "3 files encoded, 0 failed: …", and how many files failed.
    """
    watch, started = _Terminal(), time.perf_counter()

    def so_far(said: str) -> str:
        return f"{said}{counted(watch.done, 'file')} {verb}; the same command with --skip-existing goes on"

    try:
        with logged_on(watch.console), watch.bar:
            outcomes = work(watch)
    except KeyboardInterrupt:
        watch.warn(so_far("interrupted after "))
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        if not watch.done:
            raise
        raise DataError(so_far(f"{from_system(error)}; ")) from error
    done = [outcome for outcome in outcomes if not (outcome.error or outcome.was_there)]
    failed, there = sum(o.error is not None for o in outcomes), sum(o.was_there for o in outcomes)
    line = f"{counted(len(done), 'file')} {verb}, {failed} failed" + (f", {there} there already" if there else "")
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
        line = as_given(" ".join(message.splitlines()))
        self.console.print(f"{kind}: {line}", soft_wrap=True, markup=False, highlight=False, emoji=False)


def _duration_or_zero(duration_s: Callable[[Path], float], source: Path) -> float:
    try:
        return duration_s(source)
    except (DataError, OSError):
        return 0.0
