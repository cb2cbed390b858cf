"""Handling of SIGINT (Ctrl-C) and SIGTERM: a command ends with one line and the exit status that shells use."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

SIGNALLED = {128 + signal.SIGINT: "Interrupted", 128 + signal.SIGTERM: "Terminated"}
"""Messages for a command that a signal ended, by exit status."""


def exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """Exit with the status that a shell reports for a process killed by this signal.

    Raises:
        SystemExit: always.
    """
    raise SystemExit(128 + number)


def signalled(error: BaseException) -> int | None:
    """Return the exit status if a signal caused an error, directly or in the cleanup after it; else None.

    Lightning turns Ctrl-C into an exit with status 1, and its cleanup fails if it was still starting.
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
    """Exit on SIGTERM within this context, unless SIGTERM is ignored or already handled."""
    before = signal.getsignal(signal.SIGTERM)
    if before == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, exit_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def ending_imports() -> Iterator[None]:
    """End the process at once on a signal while modules are imported, when there is nothing to clean up yet.

    An exception would not always suffice: some code that runs during an import, such as a `__del__`, swallows it.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # only one process of a run prints the message
            print(SIGNALLED[128 + number], file=sys.stderr, flush=True)
        os._exit(128 + number)

    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in found:
        # Ignored signals stay ignored, and a caller's own handlers stay.
        if found[number] in (signal.default_int_handler, signal.SIG_DFL, exit_at_once):
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in found.items():
            signal.signal(number, handler)
