"""The commands. Printed characters that the encoding of the output lacks, such as · in ASCII, become ?."""

import io
import os
import sys

# With a closed stderr, the next opened file would get its descriptor, and libraries would print into this file.
if sys.stderr is None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.set_inheritable(2, True)
    sys.stderr = os.fdopen(2, "w")

# Every command, and every process that a sweep starts for a run, imports this module first. If the output is in UTF-8,
# file names that are not UTF-8 are printed as their original bytes.
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="surrogateescape" if sys.stdout.encoding.lower() == "utf-8" else "replace")


def begin_in_utf8() -> None:
    """Restart this process with file names in UTF-8 if the locale has another encoding, such as ASCII or Latin-1.

    Checkpoints, JSON and TensorBoard store file names in UTF-8. With another encoding, files would not be found by
    these names. Printed text stays in the encoding of the terminal.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.environ["PYTHONUTF8"] = "1"  # for child processes
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def let_go_of_stdout(error: OSError) -> None:
    """Flush stdout after an error. If this fails, discard its buffer and name stdout in an error that names no file.

    Otherwise, Python would flush again at exit and print the error.
    """
    if sys.stdout is None:
        return
    try:
        # Even if Python has discarded the buffer, a character that is written now raises the error again.
        sys.stdout.write("" if error.filename else "\n")
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.filename is None:
            error.filename = "standard output"
