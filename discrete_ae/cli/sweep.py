"""The runs of a sweep.

A failed run does not stop the other runs. At the end, failures and the next command are printed. Runs may be in other
processes or on other machines, so each run writes the reason of its failure into its folder.
"""

import logging
import math
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import yaml  # type: ignore[import-untyped]
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from discrete_ae.build import to_trust
from discrete_ae.cli.course import Course
from discrete_ae.errors import DataError, UserError, counted
from discrete_ae.evaluation.results import ERROR_NAME
from discrete_ae.paths import CONFIG_NAME, command, shown
from discrete_ae.saving.checkpoint import read_training_state
from discrete_ae.training.ending import is_first_process
from discrete_ae.training.folder import remove_run
from discrete_ae.writing import write_whole

_REFUSED_NAME = "refused.txt"
"""File with the reason, in one line, why a run was not started: its folder holds a different run, left unchanged."""
_NAMED = ("quantizer", "num_codebooks", "seed")
"""Settings that are already in the default name of every run."""
_CLOCKS_DIFFER_S = 5.0


class OtherRunError(DataError):
    """The folder of a run holds a different run."""


def note_failure(run_dir: Path, failure: UserError) -> None:
    """Write into the folder of a run the reason why the run failed or was not started."""
    name = _REFUSED_NAME if isinstance(failure, OtherRunError) else ERROR_NAME
    run_dir.mkdir(parents=True, exist_ok=True)
    write_whole(run_dir / name, (" ".join(str(failure).split()) + "\n").encode())


def forget_failure(run_dir: Path) -> None:
    """Remove the messages of an earlier failure from the folder of a run."""
    for name in (ERROR_NAME, _REFUSED_NAME):
        (run_dir / name).unlink(missing_ok=True)


def earlier(config: DictConfig) -> tuple[Path, float | None] | None:
    """Find the checkpoint that an earlier sweep left in the folder of the same run.

    Returns:
        The checkpoint, and the lowest val/reconstruction, which is None if the run is not finished. Without a
        checkpoint, or with `force`, the first process removes the old run, and None is returned.

    Raises:
        OtherRunError: the folder holds a run of another configuration.
        DataError: the checkpoint is damaged.
    """
    run_dir = Path(config.run_dir)
    checkpoint = run_dir / "checkpoints" / "last.ckpt"
    if config.force or not checkpoint.exists():
        if is_first_process():  # which may have written into the folder when the others come
            remove_run(run_dir)  # also what is left of a run without a checkpoint
        return None
    try:
        differing = _differing(config, OmegaConf.load(run_dir / CONFIG_NAME))
    except (OSError, yaml.YAMLError) as error:
        raise OtherRunError(
            f"{run_dir}: holds a run without its {CONFIG_NAME}; give another hydra.sweep.dir"
        ) from error
    if differing:
        raise OtherRunError(f"{run_dir}: holds a run with another {differing[0]}; give another hydra.sweep.dir")
    state, max_steps = read_training_state(checkpoint), config.trainer.max_steps
    return checkpoint, state.best_score if 0 <= max_steps <= state.global_step else None


def _differing(config: DictConfig, before: Any) -> list[str]:
    """List the top-level keys whose values differ, except those that do not change the run."""
    one, other = (OmegaConf.to_container(each, resolve=True) for each in (config, before))
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    # num_codebooks is skipped because the quantizer's own settings repeat it, if it has codebooks.
    keys = (one.keys() | other.keys()) - {"ckpt_path", "force", "num_codebooks"}
    return sorted(str(key) for key in keys if one.get(key) != other.get(key))


def varied(config: DictConfig, hydra: Any) -> dict[str, Any]:
    """Return the settings that identify a run, by key or group.

    These are the quantizer, the seed, and the settings that the sweep varies; outside a sweep, those on the command
    line.

    Args:
        config: typed configuration of the run.
        hydra: Hydra's part of the configuration.
    """
    often = ("quantizer", "seed")
    if swept := OmegaConf.select(hydra, "callbacks.report.varied"):
        keys = [*swept, *often]
    else:
        given = OverridesParser.create().parse_overrides(list(hydra.overrides.task))
        keys = [*often, *(each.key_or_group for each in given)]
    return _values(keys, config, hydra)


def _values(keys: Sequence[str], config: DictConfig, hydra: Any) -> dict[str, Any]:
    """Return the values of settings by key; the value of a group is the name of its option."""
    choices = hydra.runtime.choices
    return {key: choices[key] if key in choices else OmegaConf.select(config, key) for key in keys}


@contextmanager
def logged_once(told: set[str]) -> Iterator[None]:
    """Log no message of the package that is in `told`, such as those of an earlier run on the same recordings."""

    def is_wanted(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        is_new = message not in told or not record.name.startswith("discrete_ae")
        told.add(message)
        return is_new

    consoles = logging.root.handlers[:1]  # a filter of a logger would not see what its children log
    for console in consoles:
        console.addFilter(is_wanted)
    try:
        yield
    finally:
        for console in consoles:
            console.removeFilter(is_wanted)


def _number_of_runs(hydra: Any) -> int | None:
    """Return the number of runs in a sweep; None if the sweeper does not announce it, or the overrides are invalid."""
    if not hydra.sweeper._target_.endswith("BasicSweeper"):
        return OmegaConf.select(hydra, "sweeper.n_trials")
    given = [*(f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()), *hydra.overrides.task]
    with suppress(HydraException):
        overrides = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(given)
        return len(BasicSweeper.split_arguments(overrides, None)[0])
    return None


class ReportSweep(Callback):
    """A callback that names the runs of a sweep, prints a line before and after each, and lists failures at the end.

    Only the first of several processes prints.

    Args:
        varied: keys and groups that the sweep varies; `on_multirun_start` sets this argument for the jobs.
    """

    failed: ClassVar[int] = 0
    """Number of failed runs in the sweep of this process."""
    folder: ClassVar[Path | None] = None
    """Folder of the sweep, once it has started."""
    trained: ClassVar[float] = 0.0
    """Share of the current run's steps that were trained in this process."""
    told: ClassVar[set[str]] = set()
    """Lines printed by a run of the sweep in this process, which its later runs do not repeat."""

    def __init__(self, varied: Sequence[str] | None = None) -> None:
        self._began = self._run_began = 0.0
        self._course: Course | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See Callback. The overrides that are set here apply to each job, because jobs are composed later."""
        self._began = time.time() - _CLOCKS_DIFFER_S  # clocks differ between machines that share the folder
        ReportSweep.folder = Path(config.hydra.sweep.dir)
        given = config.hydra.overrides
        in_sequence = config.hydra.launcher._target_.endswith("BasicLauncher")
        if is_first_process():
            self._course = Course(_number_of_runs(config.hydra), in_sequence)
        swept = [each for each in OverridesParser.create().parse_overrides(given.task) if each.is_sweep_override()]
        varied = dict.fromkeys([*(config.hydra.sweeper.get("params") or {}), *(each.key_or_group for each in swept)])
        given.hydra.append(f"hydra.callbacks.report.varied=[{','.join(varied)}]")
        if any(override.startswith("hydra.sweep.subdir=") for override in given.hydra):
            return
        others = ",".join(key for key in varied if key not in _NAMED)
        # Other sweepers search, and may choose the same values again.
        number = "" if config.hydra.sweeper._target_.endswith("BasicSweeper") else "-${hydra:job.num}"
        given.hydra.append(f"hydra.sweep.subdir='${{run_name:{others}}}{number}'")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See Callback."""
        ReportSweep.trained, self._run_began = 0.0, time.monotonic()
        if self._course is not None:
            settings = _values(config.hydra.callbacks.report.varied, config, config.hydra)
            print(f"\n{self._course.heading(config.hydra.job.num + 1, settings)}", flush=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """See Callback; a run outside a sweep prints nothing."""
        if self._course is not None:
            seconds, failed = time.monotonic() - self._run_began, math.isnan(job_return.return_value)
            print(self._course.line(config.hydra.job.num + 1, seconds, ReportSweep.trained, failed=failed), flush=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """See Callback."""
        if not is_first_process():
            return
        folder = Path(config.hydra.sweep.dir)
        told = sorted(path for name in (ERROR_NAME, _REFUSED_NAME) for path in folder.rglob(name))
        failures = [path for path in told if path.stat().st_mtime >= self._began]
        trained = {path.parents[1] for path in folder.rglob("checkpoints/last.ckpt")}
        done = sorted(trained - {path.parent for path in told})
        ReportSweep.failed = len(failures)
        print(f"\nsweep: {counted(len(done), 'run')} done, {len(failures)} failed: {shown(folder)}")
        for path in failures:
            name = path.parent.relative_to(folder).as_posix()
            print(f"failed: {name}: {path.read_text(encoding='utf-8').strip()}", file=sys.stderr)
        if done:
            print("next:\n ", shlex.join([command("tensorboard"), "--logdir", str(shown(folder))]))
        if len(done) > 1:
            models = [yaml.safe_load((run / CONFIG_NAME).read_text(encoding="utf-8"))["model"] for run in done]
            trust = [f"--trust={name}" for name in to_trust(models)]
            words = [command("discrete-ae"), "compare", str(shown(folder)), "-o", "report", *trust]
            print(" ", shlex.join(words))
