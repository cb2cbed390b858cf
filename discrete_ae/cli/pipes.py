"""`-`: standard input as a file, and a file as standard output."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from discrete_ae.errors import UsageError

DASH = Path("-")


@contextmanager
def piped(inputs: Sequence[Path], out: Path, suffix: str) -> Iterator[tuple[list[Path], Path]]:
    """Give inputs and output without `-`, which stands for a temporary file: reading seeks, writing is whole or not.

    Args:
        inputs: of the command.
        out: of the command.
        suffix: of what would be standard output, dot included.

    Raises:
        UsageError: one output stream for several inputs, or a terminal where binary data would go.
    """
    if DASH not in (*inputs, out):
        yield list(inputs), out
        return
    if out == DASH and (len(inputs) != 1 or inputs[0].is_dir()):
        raise UsageError("-o -: one stream, for several inputs or a folder; give a folder")
    if out == DASH and sys.stdout.isatty():
        raise UsageError("-o -: binary data would go to the terminal; redirect it, or give a file")
    with tempfile.TemporaryDirectory(prefix="discrete-ae-") as folder:
        stdin, stdout = Path(folder, "stdin"), Path(folder, f"stdout{suffix}")
        if DASH in inputs:
            with stdin.open("wb") as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
        yield [stdin if path == DASH else path for path in inputs], stdout if out == DASH else out
        if out == DASH and stdout.exists():
            with stdout.open("rb") as result:
                shutil.copyfileobj(result, sys.stdout.buffer)
            sys.stdout.buffer.flush()
