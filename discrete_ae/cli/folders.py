"""Folders of new runs and sweeps, each made by one process, so that runs started in the same second share none."""

import contextlib
import itertools
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from discrete_ae.training.ending import is_first_process

_OF_SWEEP = "multirun.yaml"
"""File that Hydra writes into the folder of a sweep before its first run."""


class NewFolder(Callback):
    """A callback that makes the folder of a run or sweep under its default name, with -2, -3, … appended if it exists.

    A given folder keeps its name. So does the folder in further processes of the same run, which a launcher or another
    machine has started: only the first process makes it.
    """

    made: ClassVar[Path | None] = None
    """Folder that this process has made or Hydra is about to make, if any."""

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
        if not _is_given(config, "hydra.run.dir"):
            config.hydra.run.dir = _made(config.hydra.run.dir)
        else:
            _note_new(config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See Callback; each job is composed later, from the overrides that are set here."""
        if not _is_given(config, "hydra.sweep.dir"):
            config.hydra.sweep.dir = _made(config.hydra.sweep.dir)
            quoted = config.hydra.sweep.dir.replace("'", r"\'")
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
        else:
            _note_new(config.hydra.sweep.dir)


def _is_given(config: DictConfig, key: str) -> bool:
    return not is_first_process() or any(given.startswith(f"{key}=") for given in config.hydra.overrides.hydra)


def _note_new(name: str) -> None:
    """Remember a given folder that Hydra will make."""
    if is_first_process() and not (folder := Path(name).absolute()).exists():
        NewFolder.made = folder


def _made(name: str) -> str:
    """Make a new folder and return its name; if that is impossible, leave the error to Hydra."""
    with contextlib.suppress(OSError):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            free = name if number == 1 else f"{name}-{number}"
            with contextlib.suppress(FileExistsError):
                Path(free).mkdir()
                NewFolder.made = Path(free).absolute()
                return free
    return name
