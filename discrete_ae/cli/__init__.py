"""The commands. What they print fits any output: characters that its encoding lacks, as ASCII lacks ·, become ?."""

import io
import os
import sys

# Here, since every command, and every process that a sweep starts for a run, imports this first. In UTF-8 only a name
# that is not UTF-8 cannot be printed, and goes out as the bytes that it is.
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="surrogateescape" if sys.stdout.encoding.lower() == "utf-8" else "replace")


def begin_in_utf8() -> None:
    """Start this process anew, with names of files in UTF-8, where the locale has them in ASCII or Latin-1.

    Checkpoints, JSON and TensorBoard hold names as UTF-8, by which they would not be found again. What is printed stays
    in the encoding that the terminal has.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.environ["PYTHONUTF8"] = "1"  # in the processes that this one starts
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
