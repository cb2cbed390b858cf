"""The processes that load batches: what each of them reads at the moment, and what is said where one fails."""

import ctypes
import functools
import multiprocessing
import os
import re
import signal
from collections.abc import Iterator
from ctypes import Array, c_char
from multiprocessing.process import BaseProcess
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from discrete_ae.errors import DataError, UserError

_LONGEST_NAME = 4096

_ADVICE: dict[int, str] = {
    signal.SIGKILL: "the system kills where memory is short: give the run more, or fewer data.num_workers",
    signal.SIGSEGV: "if that recording does it again, take it away",
    signal.SIGBUS: "/dev/shm may have no room for batches: make it larger, or use data.num_workers=0",
}
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE)


class LoadingError(DataError):
    """A batch could not be loaded; the run can go on from its last checkpoint."""


_note: Array[c_char] = ctypes.create_string_buffer(_LONGEST_NAME)
"""What this process reads; in a loading process, memory that it shares with the main one."""
_started: dict[int, tuple[BaseProcess, Array[c_char]]] = {}
"""The loading processes that this one has started, by their numbers, and what each reads."""


def note(name: str) -> None:
    """Note which recording is about to be read, so that it can be named where this process dies of it."""
    _note.value = os.fsencode(name)[1 - _LONGEST_NAME :]


class AudioLoader(DataLoader[Tensor]):
    """DataLoader of batches (B, C, N) that can be resumed and whose workers fail in one line.

    The place in the stream follows from the trainer's step, so there is no state to save; having the two methods
    tells Lightning that resuming in the middle is safe.

    Raises:
        LoadingError: from iterating, where a worker dies, or a batch cannot be read.
    """

    def __init__(self, dataset: Dataset[Tensor], *, num_workers: int = 0, **options: Any) -> None:
        self._notes = multiprocessing.RawArray(c_char * _LONGEST_NAME, num_workers)
        super().__init__(
            dataset,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            worker_init_fn=functools.partial(_begin, self._notes),
            **options,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: see the class."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing: see the class."""

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        try:
            batches = super().__iter__()
            for process, noted in zip(getattr(batches, "_workers", ()), self._notes, strict=False):
                _started[process.pid] = process, noted
            yield from batches
        except Exception as error:
            if failure := lost_worker(error) or _failure(error):
                raise failure from None
            raise


def lost_worker(error: BaseException) -> LoadingError | None:
    """Return what to say of an error where it is that a loading process has died, else None.

    PyTorch raises it wherever the main process is at that moment.
    """
    if not (isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")):
        return None
    for pid in map(int, re.findall(r"\d+", str(error))):
        if pid in _started:
            process, noted = _started[pid]
            name = os.fsdecode(noted.value)
            when = f"while it read {name}, or right after" if name else "at its start"
            advice = _ADVICE.get(-(process.exitcode or 0))
            return LoadingError(f"a loading process {_end_of(process)} {when}{f'; {advice}' if advice else ''}")
    return None


def _end_of(process: BaseProcess) -> str:
    status = process.exitcode or 0
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name} ({signal.strsignal(-status)})"


def _failure(error: Exception) -> LoadingError | None:
    """Return what to say of an error of reading a batch, in whichever process; None for a bug."""
    kind, said = type(error).__name__, str(error)
    if said.startswith("Caught "):  # in a loading process, whose traceback is the text
        kind, _, said = said.strip().splitlines()[-1].partition(": ")
    if isinstance(error, UserError):
        return LoadingError(said)
    if kind.endswith("MemoryError"):
        told = f" ({said})" if said else ""
        return LoadingError(f"no memory is left to load a batch{told}; give fewer data.num_workers, or smaller batches")
    return None


def _begin(notes: "Array[Array[c_char]]", worker: int) -> None:
    """Begin a loading process."""
    global _note
    _note = notes[worker]
    _outlive_signals()
    for number in _CRASHES:  # PyTorch's handlers print a line each; the main process says more
        signal.signal(number, signal.SIG_DFL)


def _outlive_signals() -> None:
    """Go on after a signal to all processes of the run: the main one makes its last step first.

    A second SIGTERM, which Python sends at the main process's end to those that are left, ends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
