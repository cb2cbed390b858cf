"""Folders of new runs and sweeps: made by one process alone, so that two that begin in the same second share none."""

import contextlib
import itertools
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from discrete_ae.training.ending import is_first_process

_OF_SWEEP = "multirun.yaml"
"""Written by Hydra into the folder of a sweep before its first run."""


class NewFolder(Callback):
    """Makes the folder of a run or of a sweep under its default name, with -2, -3, … behind it where that is taken.

    A folder that was given stays as it is, and so does the name in a process that another machine or launcher has
    started for the same run: only the first one makes the folder.
    """

    made: ClassVar[Path | None] = None
    """The folder that this process has made, or is about to, if any."""

    @classmethod
    def remove_empty(cls) -> None:
        """Remove the folder that was made if no run has written into it, as where the run or the sweep was refused."""
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
        """See Callback; the jobs are composed later, from the overrides."""
        if not _is_given(config, "hydra.sweep.dir"):
            config.hydra.sweep.dir = _made(config.hydra.sweep.dir)
            quoted = config.hydra.sweep.dir.replace("'", r"\'")
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
        else:
            _note_new(config.hydra.sweep.dir)


def _is_given(config: DictConfig, key: str) -> bool:
    return not is_first_process() or any(given.startswith(f"{key}=") for given in config.hydra.overrides.hydra)


def _note_new(name: str) -> None:
    """Note a folder that was given and that Hydra will make."""
    if is_first_process() and not (folder := Path(name).absolute()).exists():
        NewFolder.made = folder


def _made(name: str) -> str:
    """Make a folder that nobody has, and return its name; where none can be made, Hydra finds that out again."""
    with contextlib.suppress(OSError):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            free = name if number == 1 else f"{name}-{number}"
            with contextlib.suppress(FileExistsError):
                Path(free).mkdir()
                NewFolder.made = Path(free).absolute()
                return free
    return name
