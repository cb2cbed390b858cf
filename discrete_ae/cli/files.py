"""The paths that commands are given: `-` for a standard stream, and what OUT may be."""

import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from discrete_ae.errors import UsageError
from discrete_ae.paths import Kind, kind_of
from discrete_ae.writing import written_whole

_MADE = {".npz", ".npy", ".daec", ".wav", ".flac", ".ogg", ".opus", ".mp3"}

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
        UsageError: one output stream for several inputs, or a terminal where binary data would go.
        OSError: standard input cannot be held, or standard output cannot be written.
    """
    to_stdout = is_dash(out)
    if to_stdout and (len(inputs) != 1 or (not is_dash(inputs[0]) and kind_of(inputs[0]) is Kind.FOLDER)):
        raise UsageError("-o -: one stream, for several inputs or a folder; give a folder")
    if to_stdout and sys.stdout.isatty():
        raise UsageError("-o -: binary data would go to the terminal; redirect it, or give a file")
    with tempfile.TemporaryDirectory(prefix="discrete-ae-") as folder:
        stdin, stdout = Path(folder, "stdin"), Path(folder, f"stdout{suffix}")
        if any(map(is_dash, inputs)):
            with written_whole(stdin) as temporary, temporary.open("wb") as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
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
        UsageError: it has the suffix of other recordings or codes, and is no folder that exists.
    """
    if names_file(out, _MADE - set(suffixes)):
        *others, last = suffixes
        raise UsageError(f"-o {out}: {command} writes {', '.join(others)} or {last}; give one of these, or a folder")
