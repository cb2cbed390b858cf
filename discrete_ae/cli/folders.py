"""Folders of new runs and sweeps. Each process creates its own, so runs started in the same second do not share one."""

import contextlib
import itertools
import sys
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from discrete_ae.training.ending import is_first_process

_OF_SWEEP = "multirun.yaml"
"""File that Hydra writes into the folder of a sweep before its first run."""


class NewFolder(Callback):
    """A callback that creates the folder of a run or sweep.

    If the default name is taken, -2, -3, … is appended. A folder given by the user keeps its name. Only the first
    process of a run creates the folder; other processes, started by a launcher or on other machines, use it unchanged.
    """

    made: ClassVar[Path | None] = None
    """New folder that this process has created, or that Hydra will create; None if there is no such folder."""

    @classmethod
    def remove_empty(cls) -> None:
        """Remove the new folder if no run has written into it, for example because the run or sweep was rejected."""
        if cls.made:
            with contextlib.suppress(OSError):
                if [path.name for path in cls.made.iterdir()] == [_OF_SWEEP]:
                    (cls.made / _OF_SWEEP).unlink()
                cls.made.rmdir()
            cls.made = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See Callback."""
        with contextlib.suppress(OmegaConfBaseException):  # a name that cannot be resolved; Hydra reports it
            if not _is_given(config, "hydra.run.dir"):
                config.hydra.run.dir = _made(config.hydra.run.dir)
            else:
                _note_new(config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See Callback. The override that is set here applies to each job, because jobs are composed later."""
        if not _is_given(config, "hydra.sweep.dir"):
            config.hydra.sweep.dir = _made(config.hydra.sweep.dir)
            quoted = config.hydra.sweep.dir.replace("'", r"\'")
            given = f"hydra.sweep.dir='{quoted}'"
            config.hydra.overrides.hydra.append(given)
            sys.argv.append(given)  # with which DDP starts its processes
        else:
            _note_new(config.hydra.sweep.dir)


def _is_given(config: DictConfig, key: str) -> bool:
    return not is_first_process() or any(given.startswith(f"{key}=") for given in config.hydra.overrides.hydra)


def _note_new(name: str) -> None:
    """Remember a folder given by the user, if Hydra will create it."""
    if is_first_process() and not (folder := Path(name).absolute()).exists():
        NewFolder.made = folder


def _made(name: str) -> str:
    """Create a new folder and return its name; if this fails, return `name`, so that Hydra reports the error."""
    with contextlib.suppress(OSError):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            free = name if number == 1 else f"{name}-{number}"
            with contextlib.suppress(FileExistsError):
                Path(free).mkdir()
                NewFolder.made = Path(free).absolute()
                return free
    return name
