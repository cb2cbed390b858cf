"""The commands. What they print fits any output: characters that its encoding lacks, as ASCII lacks ·, become ?."""

import io
import sys

# Here, since every command, and every process that a sweep starts for a run, imports this first. In UTF-8 only a name
# that is not UTF-8 cannot be printed, and goes out as the bytes that it is.
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="surrogateescape" if sys.stdout.encoding.lower() == "utf-8" else "replace")
