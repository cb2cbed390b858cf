"""How SIGINT, which is Ctrl-C, and SIGTERM end a command: with one line, and the status that shells give."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

SIGNALLED = {128 + signal.SIGINT: "Interrupted", 128 + signal.SIGTERM: "Terminated"}
"""What is said of a command that a signal ended, by its exit status."""


def exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """Handle a signal by an exit, with the status that a shell gives to a process which the signal has killed.

    Raises:
        SystemExit: always.
    """
    raise SystemExit(128 + number)


def signalled(error: BaseException) -> int | None:
    """Return the exit status where a signal is behind an error, which may be one of cleaning up after it; else None.

    Lightning makes an exit with status 1 of a Ctrl-C, and cannot close what it had not opened yet.
    """
    cause: BaseException | None = error
    while cause is not None:
        status = 128 + signal.SIGINT if isinstance(cause, KeyboardInterrupt) else getattr(cause, "code", None)
        if status in SIGNALLED:
            return status
        cause = cause.__context__
    return None


@contextlib.contextmanager
def exiting_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end what is done by an exit, unless whoever started this process has it ignored."""
    before = signal.getsignal(signal.SIGTERM)
    if before == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, exit_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def ending_imports() -> Iterator[None]:
    """Let a signal end the process at once while modules are imported, when there is nothing to clean up yet.

    An exception would do for most moments; but some code that runs at an import, such as a `__del__`, swallows it.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of the processes of a run one says it
            print(SIGNALLED[128 + number], file=sys.stderr, flush=True)
        os._exit(128 + number)

    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in found:
        # Neither ignored nor a caller's own.
        if found[number] in (signal.default_int_handler, signal.SIG_DFL, exit_at_once):
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in found.items():
            signal.signal(number, handler)
