"""Path arguments of commands, including `-` for a standard stream; and progress messages for work on many files.

The messages are a line for each failure, a progress bar on a terminal, and a summary line at the end.
"""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from discrete_ae.cli.live import require_stdin, require_stdout
from discrete_ae.cli.options import PIPED_PREFIX, logged_on, print_line
from discrete_ae.codec.corpus import Outcome, Watch, in_one_line
from discrete_ae.data.files import by_threads
from discrete_ae.errors import DataError, UsageError, counted, from_system
from discrete_ae.paths import Kind, kind_of

_OF_FILES = {
    *(".npz", ".npy", ".daec", ".wav", ".flac", ".ogg", ".opus", ".mp3"),
    *(".json", ".jsonl", ".csv", ".tsv", ".txt", ".md", ".html", ".xlsx", ".yaml"),
}

Format = TypeVar("Format", bound=str)


def is_dash(path: str | Path) -> bool:
    """Return whether a path argument is a standard stream.

    Pass the argument as typed: the file `./-` would become `-` as a `Path`.
    """
    return str(path) == "-"


@contextmanager
def piped(inputs: Sequence[str], out: str, suffix: str) -> Iterator[tuple[list[Path], Path]]:
    """Yield inputs and output with temporary files in place of `-`.

    Temporary files are needed because readers seek, and writers replace whole files.

    Args:
        inputs: input arguments of the command.
        out: output argument of the command.
        suffix: suffix of the file for standard output, with the dot.

    Raises:
        UsageError: there are several inputs for one output stream, a standard stream is closed, or binary output would
            go to a terminal.
        OSError: standard input cannot be stored, or standard output cannot be written.
    """
    from_stdin, to_stdout = any(map(is_dash, inputs)), is_dash(out)
    if to_stdout and (len(inputs) != 1 or (not is_dash(inputs[0]) and kind_of(inputs[0]) is Kind.FOLDER)):
        raise UsageError("-o -: expected one input file, got several or a folder; give an output folder")
    if to_stdout:
        require_stdout()
    if from_stdin:
        require_stdin()
    with TemporaryDirectory(prefix=PIPED_PREFIX) as folder:
        stdin, stdout = Path(folder, "stdin"), Path(folder, f"stdout{suffix}")
        if from_stdin:
            try:
                with stdin.open("wb") as copy:
                    shutil.copyfileobj(sys.stdin.buffer, copy)
            except OSError as error:
                error.filename = f"{stdin.parents[1]}, where standard input is stored (TMPDIR)"
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
    """Return the format that the suffix of OUT names; without a suffix, the chosen format or else the first format.

    Raises:
        UsageError: suffix and chosen format differ, or OUT has the suffix of a format that the command does not write.
    """
    suffixes = {f".{known}": known for known in formats}
    refuse_other_suffix(out, command, list(suffixes))
    if not names_file(out, suffixes):
        return chosen or formats[0]
    named = suffixes[out.suffix.lower()]
    if chosen not in (None, named):
        raise UsageError(f"--format {chosen}: expected {named} to match -o {out}; change one of them")
    return named


def names_file(out: Path, suffixes: Collection[str]) -> bool:
    """Return whether `out` names an output file: a path with one of the suffixes that is not an existing folder."""
    return out.suffix.lower() in suffixes and not out.is_dir()


def refuse_other_suffix(out: Path, command: str, suffixes: Sequence[str]) -> None:
    """Reject an output path with the suffix of a file type that the command does not write.

    Otherwise the command would create a folder of this name.

    Args:
        out: output path.
        command: name of the command.
        suffixes: suffixes of the files that the command writes, lower-case, with the dot.

    Raises:
        UsageError: `out` has the suffix of another file type, and is not an existing folder.
    """
    if names_file(out, _OF_FILES - set(suffixes)):
        *others, last = suffixes
        raise UsageError(f"-o {out}: {command} writes {', '.join(others)} or {last}; give one of these, or a folder")


def shown(work: Callable[[Watch], list[Outcome]], verb: str) -> tuple[str, int]:
    """Do the work and show its progress on stderr; at Ctrl-C, print how to resume.

    Args:
        work: `encode_corpus` or `decode_corpus` with every argument bound except `watch`.
        verb: past participle for the summary, such as "encoded".

    Returns:
        A summary line, such as "3 files encoded, 0 failed: …", and the number of failed files.

    Raises:
        DataError: a system error occurred after some files were done; the message explains how to resume.
    """
    watch, started = _Terminal(), time.perf_counter()

    def so_far(said: str) -> str:
        return f"{said}{counted(watch.done, 'file')} {verb}; to resume, repeat the command with --skip-existing"

    try:
        with logged_on(watch.console), watch.bar:
            try:
                outcomes = work(watch)
            finally:
                watch.end()
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
        code_bits = sum(outcome.code_bits for outcome in done)
        codes_kbps = code_bits / duration_s / 1000
        separately = ""
        if any(outcome.streams > 1 for outcome in done):
            channel_s = sum(outcome.duration_s * outcome.streams for outcome in done)
            separately = f" ({code_bits / channel_s / 1000:.2f} kbps for each channel, coded separately)"
        files_kbps = sum(8 * outcome.num_bytes for outcome in done) / duration_s / 1000
        amount = f"{duration_s:.1f} s" if duration_s < 3600 else f"{duration_s / 3600:.2f} h"
        speed = duration_s / max(time.perf_counter() - started, 1e-9)
        line += (
            f": {amount} of audio at {speed:.3g} x real time; codes {codes_kbps:.2f} kbps{separately}, "
            f"files {files_kbps:.2f} kbps with their headers"
        )
    return line, failed


class _Terminal(Watch):
    """A watch that prints failures and warnings at once; on a terminal, it also shows a bar with the time left."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        columns = BarColumn(bar_width=None), TaskProgressColumn(), TimeRemainingColumn()
        is_hidden = not self.console.is_terminal
        self.bar = Progress(*columns, console=self.console, transient=True, expand=True, disable=is_hidden)
        self.task = self.bar.add_task("", total=None)
        self.done = 0
        self.of_other_models: dict[str, list[Path]] = {}  # sources by error

    def begin(self, sources: Sequence[Path], duration_s: Callable[[Path], float]) -> None:
        if self.console.is_terminal:
            total = sum(by_threads(lambda source: _duration_or_zero(duration_s, source), sources))
            self.bar.update(self.task, total=total)

    def advance(self, seconds: float) -> None:
        self.bar.advance(self.task, seconds)

    def finished(self, outcome: Outcome) -> None:
        if outcome.other_model and outcome.error:
            path, _, error = outcome.error.partition(": ")
            self.of_other_models.setdefault(error, []).append(Path(path))
        elif outcome.error is not None:
            print_line(self.console, f"error: {outcome.error}")
        elif not outcome.was_there:
            self.done += 1

    def warn(self, message: str) -> None:
        print_line(self.console, f"warning: {message}")

    def end(self) -> None:
        """Print one line for all codes of the same other model."""
        for error, sources in self.of_other_models.items():
            print_line(self.console, f"error: {in_one_line(sources, error)}")


def _duration_or_zero(duration_s: Callable[[Path], float], source: Path) -> float:
    try:
        return duration_s(source)
    except (DataError, OSError):
        return 0.0
