"""`-`: standard input as a file, and a file as standard output."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from discrete_ae.errors import DataError, UsageError
from discrete_ae.paths import Kind, kind_of


def is_dash(path: str | Path) -> bool:
    """Whether a path, as it was given, stands for a standard stream: a `Path` cannot tell `-` from a file `./-`."""
    return str(path) == "-"


@contextmanager
def piped(inputs: Sequence[str | Path], out: str | Path, suffix: str) -> Iterator[tuple[list[Path], Path]]:
    """Give inputs and output without `-`, which stands for a temporary file: reading seeks, writing is whole or not.

    Args:
        inputs: of the command, as they were given.
        out: of the command, likewise.
        suffix: of what would be standard output, dot included.

    Raises:
        UsageError: one output stream for several inputs, or a terminal where binary data would go.
        DataError: standard input cannot be read or held, or standard output cannot be written.
        typer.Exit: whoever reads standard output has stopped to, which is none of our business to complain of.
    """
    from_stdin, to_stdout = any(map(is_dash, inputs)), is_dash(out)
    if not from_stdin and not to_stdout:
        yield [Path(path) for path in inputs], Path(out)
        return
    if to_stdout and (len(inputs) != 1 or (not from_stdin and kind_of(inputs[0]) is Kind.FOLDER)):
        raise UsageError("-o -: one stream, for several inputs or a folder; give a folder")
    if to_stdout and sys.stdout.isatty():
        raise UsageError("-o -: binary data would go to the terminal; redirect it, or give a file")
    with tempfile.TemporaryDirectory(prefix="discrete-ae-") as folder:
        stdin, stdout = Path(folder, "stdin"), Path(folder, f"stdout{suffix}")
        if from_stdin:
            _copy_stdin(stdin)
        yield [stdin if is_dash(path) else Path(path) for path in inputs], stdout if to_stdout else Path(out)
        if to_stdout and stdout.exists():
            _copy_to_stdout(stdout)


def _copy_stdin(target: Path) -> None:
    try:
        with target.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
    except OSError as error:
        raise DataError(
            f"-: standard input cannot be copied to {target.parent} ({error.strerror}); make room there, set TMPDIR to "
            "another folder, or give a file"
        ) from error


def _copy_to_stdout(source: Path) -> None:
    try:
        with source.open("rb") as result:
            shutil.copyfileobj(result, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except OSError as error:
        # Python would try to write what is left once more when it ends, and complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(1) from error
        raise DataError(f"-o -: standard output cannot be written ({error.strerror}); give another output") from error
