"""The processes that load batches: what each of them reads at the moment, and what is said where one fails."""

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
    signal.SIGKILL: "mostly for lack of memory: try fewer data.num_workers",
    signal.SIGSEGV: "if that recording does it again, take it away",
    signal.SIGBUS: "/dev/shm may have no room for batches: make it larger, or use data.num_workers=0",
}
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE)


class LoadingError(DataError):
    """A batch could not be loaded; the run can go on from its last checkpoint."""


class _Note(ctypes.Structure):
    """What a loading process reads."""

    pid: int
    name: bytes
    _fields_: ClassVar = [("pid", ctypes.c_int), ("name", ctypes.c_char * _LONGEST_NAME)]


_note = _Note()
"""That of this process; in a loading process, in memory that it shares with the main one."""


def note(name: str) -> None:
    """Note which recording is about to be read, so that it can be named where this process dies of it."""
    _note.name = os.fsencode(name)[1 - _LONGEST_NAME :]


class AudioLoader(DataLoader[Tensor]):
    """DataLoader of batches (B, C, N) that can be resumed and whose workers fail in one line.

    The place in the stream follows from the trainer's step, so there is no state to save; having the two methods
    tells Lightning that resuming in the middle is safe.

    Raises:
        LoadingError: from iterating, where a worker dies, or a batch cannot be read.
    """

    def __init__(self, dataset: Dataset[Tensor], *, num_workers: int = 0, **options: Any) -> None:
        self.notes = multiprocessing.RawArray(_Note, num_workers)
        """Of its loading processes."""
        _loaders.add(self)
        super().__init__(
            dataset,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            worker_init_fn=functools.partial(_begin, self.notes),
            **options,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: see the class."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing: see the class."""

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except Exception as error:
            failure = self._lost(error) or _failure(error)
            if failure is None:
                raise
            if self._iterator is not None:  # or the death of another one is raised, wherever the main process is then
                self._iterator._shutdown_workers()  # type: ignore[attr-defined]
            raise failure from None

    def _lost(self, error: Exception) -> LoadingError | None:
        """Return `lost_worker`, also of an error that comes before PyTorch sees which process has died."""
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
    """Return what to say of an error where it is that a loading process has died, else None.

    PyTorch raises it wherever the main process is at that moment.
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
    """Say which signal, if any, has ended the process of a note."""
    end = f"was ended by {number.name} ({signal.strsignal(number)})" if number else "ended"
    when = f"while it read {os.fsdecode(noted.name)}, or right after" if noted.name else "at its start"
    advice = f"; {_ADVICE[number]}" if number in _ADVICE else ""
    return LoadingError(f"a loading process {end} {when}{advice}")


def _signal_of(loader: AudioLoader, pid: int, said: str) -> signal.Signals | None:
    """Return the signal that ended a loading process, by its status, or by what PyTorch says where that is gone."""
    for process in getattr(loader._iterator, "_workers", ()):
        if process.pid == pid and (process.exitcode or 0) < 0:
            return signal.Signals(-process.exitcode)
    return next((number for number in signal.Signals if f"signal: {signal.strsignal(number)}." in said), None)


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


def _begin(notes: "ctypes.Array[_Note]", worker: int) -> None:
    """Begin a loading process."""
    global _note
    _note = notes[worker]
    _note.pid = os.getpid()
    _outlive_signals()
    for number in _CRASHES:  # PyTorch's handlers print a line each; the main process says more
        signal.signal(number, signal.SIG_DFL)


def _outlive_signals() -> None:
    """Go on after a signal to all processes of the run: the main one makes its last step first.

    The SIGTERM that ends this process is that of the main one, which sends one at its end to those that are left.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere there is no asking for a signal's sender
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_by, args=(os.getppid(),), daemon=True).start()


def _end_by(main: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        pass
    os._exit(0)  # as PyTorch's own handler: another status would raise an error in the main process
