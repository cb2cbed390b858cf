"""Worker processes that load batches. Each notes its current recording, to name in the error if it fails."""

import ctypes
import functools
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, ClassVar
from weakref import WeakSet

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from discrete_ae.errors import DataError, UserError

_LONGEST_NAME = 4096

_ADVICE: dict[signal.Signals | None, str] = {
    signal.SIGKILL: "usually for lack of memory: try fewer data.num_workers",
    signal.SIGSEGV: "if it happens again with that recording, remove the recording",
    signal.SIGBUS: "/dev/shm may have no space for batches: make it larger, or use data.num_workers=0",
}
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE)


class LoadingError(DataError):
    """Failure to load a batch; the run can be resumed from its last checkpoint."""


class _Note(ctypes.Structure):
    """The recording that a worker process reads."""

    pid: int
    name: bytes
    _fields_: ClassVar = [("pid", ctypes.c_int), ("name", ctypes.c_char * _LONGEST_NAME)]


_note = _Note()
"""The note of this process; in a worker process, in memory shared with the main process."""


def note(name: str) -> None:
    """Note the recording that is about to be read, so that an error can name it if this process dies."""
    _note.name = os.fsencode(name)[1 - _LONGEST_NAME :]


class AudioLoader(DataLoader[Tensor]):
    """DataLoader of batches (B, C, N) that can be resumed, and reports a failing worker process in one line.

    The place in the stream follows from the trainer's step, so there is no state to save. `state_dict` and
    `load_state_dict` only tell Lightning that resuming in the middle is safe.

    Raises:
        LoadingError: from iteration: a worker process died, or a batch cannot be loaded.
    """

    def __init__(self, dataset: Dataset[Tensor], *, num_workers: int = 0, **options: Any) -> None:
        self.notes = multiprocessing.RawArray(_Note, num_workers)
        """Notes of the worker processes."""
        _loaders.add(self)
        super().__init__(
            dataset,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            worker_init_fn=functools.partial(_begin, self.notes),
            **options,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return no state; see the class."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing; see the class."""

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except Exception as error:
            failure = self._lost(error) or _failure(error)
            if failure is None:
                raise
            if self._iterator is not None:  # otherwise PyTorch may report another worker's death later, anywhere
                self._iterator._shutdown_workers()  # type: ignore[attr-defined]
            raise failure from None

    def _lost(self, error: Exception) -> LoadingError | None:
        """Return the result of `lost_worker`, also for an error raised before PyTorch notices the dead process."""
        try:
            if isinstance(error, ConnectionError | EOFError):
                for process, noted in zip(getattr(self._iterator, "_workers", ()), self.notes, strict=False):
                    process.join(1)
                    if process.exitcode:
                        return _told(noted, signal.Signals(-process.exitcode) if process.exitcode < 0 else None)
            return lost_worker(error)
        except RuntimeError as later:
            return lost_worker(later)


_loaders: WeakSet[AudioLoader] = WeakSet()


def lost_worker(error: BaseException) -> LoadingError | None:
    """Return the LoadingError for a PyTorch error that reports a dead worker process; None for other errors.

    PyTorch raises such an error at any point of the main process.
    """
    if not (isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")):
        return lost_worker(error.__context__) if error.__context__ else None
    dead = set(map(int, re.findall(r"\d+", str(error))))
    for loader in _loaders:
        for noted in loader.notes:
            if noted.pid in dead:
                return _told(noted, _signal_of(loader, noted.pid, str(error)))
    return None


def _told(noted: _Note, number: signal.Signals | None) -> LoadingError:
    """Return the LoadingError for a dead process, with its note and the signal, if any, that ended it."""
    end = f"was ended by {number.name} ({signal.strsignal(number)})" if number else "ended"
    when = f"while reading {os.fsdecode(noted.name)}, or right after" if noted.name else "at its start"
    advice = f"; {_ADVICE[number]}" if number in _ADVICE else ""
    return LoadingError(f"a worker process {end} {when}{advice}")


def _signal_of(loader: AudioLoader, pid: int, said: str) -> signal.Signals | None:
    """Return the signal that ended a worker process, from its exit code, or else from PyTorch's message `said`."""
    for process in getattr(loader._iterator, "_workers", ()):
        if process.pid == pid and (process.exitcode or 0) < 0:
            return signal.Signals(-process.exitcode)
    return next((number for number in signal.Signals if f"signal: {signal.strsignal(number)}." in said), None)


def _failure(error: Exception) -> LoadingError | None:
    """Return the LoadingError for an error from reading a batch, in any process; None for a bug."""
    kind, said = type(error).__name__, str(error)
    if said.startswith("Caught "):  # from a worker process, with the traceback as the message
        kind, _, said = said.strip().splitlines()[-1].partition(": ")
    if isinstance(error, UserError):
        return LoadingError(said)
    if kind.endswith("MemoryError"):
        told = f" ({said})" if said else ""
        return LoadingError(f"out of memory while loading a batch{told}; use fewer data.num_workers or smaller batches")
    return None


def _begin(notes: "ctypes.Array[_Note]", worker: int) -> None:
    """Initialize a worker process."""
    global _note
    _note = notes[worker]
    _note.pid = os.getpid()
    _outlive_signals()
    for number in _CRASHES:  # PyTorch's handlers print a line each; the main process reports more
        signal.signal(number, signal.SIG_DFL)


def _outlive_signals() -> None:
    """Survive signals sent to all processes of the run, so that the main process can finish its last step.

    Only a SIGTERM from the main process ends this process. The main process sends one at its end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # other systems do not report a signal's sender
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_by, args=(os.getppid(),), daemon=True).start()


def _end_by(main: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        pass
    os._exit(0)  # like PyTorch's own handler: another status would raise an error in the main process
