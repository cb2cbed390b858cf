"""How a run ends before its time: all processes of a distributed one, soon, when one of them fails.

The first to fail says why. The others fail of that, or of the same, and say nothing.
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
    """Return whether this is the first process of its run, by what the one that started it tells it."""
    from lightning.pytorch.utilities import rank_zero_only  # here, since what only shows something needs no Lightning

    return getattr(rank_zero_only, "rank", 0) == 0


def end_with_parent() -> None:
    """Have the system kill this process when the one that started it is gone, where the system is Linux.

    Without that a process which waits for others on a GPU would wait, and keep the GPU, for half an hour.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def take_along(trainer: "pl.Trainer") -> None:
    """End the processes that Lightning has started for the trainer together with this one, which is about to end."""
    started = getattr(trainer.strategy.launcher, "procs", [])
    for process in started:
        atexit.register(process.kill)
    started.clear()  # Lightning watches those in it, and would kill this process if one of them ended first


def kill_left() -> None:
    """Kill the processes that Python would wait for at its end.

    A loading process outlives one SIGTERM, since that may have reached all of a run. One whose start was interrupted is
    known to nobody but Python, which would send it that one, and wait for good.
    """
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def say_once(text: str) -> None:
    """Print to stderr what ends the run, unless another of its processes has failed before; return when it is said."""
    if (group := _group()) is None:
        print(text, file=sys.stderr)
        return
    store = group.get_group_store()
    with contextlib.suppress(RuntimeError):  # the first process keeps the store: it has failed, and said why
        if store.add("failed", 1) == 1:
            print(text, file=sys.stderr, flush=True)
            store.set("said", "")
        else:
            store.wait(["said"], _PATIENCE)


def lost_process(error: Exception) -> DataError | None:
    """Return what to say of an error where it is that another process could not be reached, else None.

    Raises:
        SystemExit: another process says it.
    """
    lost = dist.is_available() and isinstance(error, dist.DistError)
    if not (lost or (isinstance(error, RuntimeError) and "gloo" in str(error))):
        return None
    group = _group()
    if group is not None and group.rank() != 0:
        sys.exit(DataError.exit_status)
    return DataError(
        f"another process of this run was killed or cannot be reached ({str(error).splitlines()[0]}); go on from the "
        "run's last checkpoint with ckpt_path="
    )


def _group() -> "dist.ProcessGroup | None":
    """Return all processes of the run; None where it is one that does not know of others."""
    return dist.group.WORLD if dist.is_available() and dist.is_initialized() else None
