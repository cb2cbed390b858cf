"""Early end of a distributed run: when one process fails, all of them end soon.

The first process to fail prints why. The others fail because of it, or for the same reason, and print nothing.
"""

import atexit
import contextlib
import ctypes
import multiprocessing
import signal
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import torch.distributed as dist

from discrete_ae.errors import DataError

if TYPE_CHECKING:
    import lightning.pytorch as pl

_PR_SET_PDEATHSIG = 1  # prctl.h
_PATIENCE = timedelta(seconds=5)


def is_first_process() -> bool:
    """Return whether this process has rank 0 in its run, as set by its launcher."""
    from lightning.pytorch.utilities import rank_zero_only  # imported here, since showing progress needs no Lightning

    return getattr(rank_zero_only, "rank", 0) == 0


def end_with_parent() -> None:
    """Ask Linux to kill this process when its parent process ends; do nothing on other systems.

    Otherwise a process that waits for others on a GPU would keep the GPU for half an hour.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def take_along(trainer: "pl.Trainer") -> None:
    """Kill the processes that Lightning started for the trainer when this process exits."""
    started = getattr(trainer.strategy.launcher, "procs", [])
    for process in started:
        atexit.register(process.kill)
    started.clear()  # Lightning watches this list, and would kill this process if a listed one ended first


def kill_left() -> None:
    """Kill the worker processes that Python would wait for at exit.

    A worker process whose start was interrupted may not end on the one SIGTERM that Python sends. Python would then
    wait forever.
    """
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def say_once(text: str) -> None:
    """Print `text` to stderr if this process is the first of its run to fail; else wait until the first has printed."""
    if (group := _group()) is None:
        print(text, file=sys.stderr)
        return
    store = group.get_group_store()
    with contextlib.suppress(RuntimeError):  # rank 0 hosts the store; if it is gone, rank 0 has failed and printed why
        if store.add("failed", 1) == 1:
            print(text, file=sys.stderr, flush=True)
            store.set("said", "")
        else:
            store.wait(["said"], _PATIENCE)


def lost_process(error: Exception) -> DataError | None:
    """Return a DataError if `error` means that another process of the run could not be reached, else None.

    Raises:
        SystemExit: on every rank but 0, since rank 0 reports the error.
    """
    lost = dist.is_available() and isinstance(error, dist.DistError)
    if not (lost or (isinstance(error, RuntimeError) and "gloo" in str(error))):
        return None
    group = _group()
    if group is not None and group.rank() != 0:
        sys.exit(DataError.exit_status)
    return DataError(
        f"another process of this run was killed or cannot be reached ({str(error).splitlines()[0]}); resume from the "
        "run's last checkpoint with ckpt_path="
    )


def _group() -> "dist.ProcessGroup | None":
    """Return the process group of the run; None if the run is not distributed."""
    return dist.group.WORLD if dist.is_available() and dist.is_initialized() else None
