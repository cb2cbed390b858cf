"""Runs of a multirun: one that fails does not stop the others, and the end says which, and what comes next.

Runs may lie in processes, or on machines, of their own; what they tell of themselves stands in their folders.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml  # type: ignore[import-untyped]
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from discrete_ae.build import to_trust
from discrete_ae.errors import DataError, UserError, counted
from discrete_ae.evaluation.results import ERROR_NAME
from discrete_ae.paths import CONFIG_NAME, command, shown
from discrete_ae.saving.checkpoint import read_training_state
from discrete_ae.training.folder import remove_run
from discrete_ae.writing import write_whole

_REFUSED_NAME = "refused.txt"
"""In the folder of a run that is another than the sweep asked for, and is left as it is: why, in one line."""
_NAMED = ("quantizer", "num_codebooks", "seed")
"""What every name of a run says in its own way."""
_CLOCKS_DIFFER_S = 5.0


class OtherRunError(DataError):
    """The folder of a run holds another one."""


def note_failure(run_dir: Path, failure: UserError) -> None:
    """Write into the folder of a run why it failed, or why it was not begun."""
    name = _REFUSED_NAME if isinstance(failure, OtherRunError) else ERROR_NAME
    run_dir.mkdir(parents=True, exist_ok=True)
    write_whole(run_dir / name, (" ".join(str(failure).split()) + "\n").encode())


def forget_failure(run_dir: Path) -> None:
    """Remove what an earlier try in the same folder has written of its failure."""
    for name in (ERROR_NAME, _REFUSED_NAME):
        (run_dir / name).unlink(missing_ok=True)


def earlier(config: DictConfig) -> tuple[Path, float | None] | None:
    """Return the checkpoint that an earlier sweep in the same folder made of the same run; None where it made none.

    With it comes the least val/reconstruction if the run is finished.

    Raises:
        OtherRunError: the folder holds a run of another configuration.
        DataError: its checkpoint is damaged.
    """
    run_dir = Path(config.run_dir)
    checkpoint = run_dir / "checkpoints" / "last.ckpt"
    if config.force or not checkpoint.exists():
        remove_run(run_dir)  # what an earlier try has left without a checkpoint
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
    """List the top-level keys whose values differ, but for those that make no other run of it."""
    one, other = (OmegaConf.to_container(each, resolve=True) for each in (config, before))
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    # The number of codebooks stands in the quantizer too, where there are any.
    keys = (one.keys() | other.keys()) - {"ckpt_path", "force", "num_codebooks"}
    return sorted(str(key) for key in keys if one.get(key) != other.get(key))


def varied(config: DictConfig, hydra: Any) -> dict[str, Any]:
    """Return what tells a run from others, by key or group: what its sweep varies; alone, what its command sets.

    Args:
        config: of the run, typed.
        hydra: Hydra's own part of it.
    """
    often = ("quantizer", "seed")
    if swept := OmegaConf.select(hydra, "callbacks.report.varied"):
        keys = [*swept, *often]
    else:
        given = OverridesParser.create().parse_overrides(list(hydra.overrides.task))
        keys = [*often, *(each.key_or_group for each in given)]
    choices = hydra.runtime.choices
    return {key: choices[key] if key in choices else OmegaConf.select(config, key) for key in keys}


class ReportSweep(Callback):
    """Names the runs of a multirun by what it varies; says at its end which failed, and how the others are compared.

    Args:
        varied: keys and groups that a multirun varies, which its start writes here for its jobs.
    """

    failed: ClassVar[int] = 0
    """Runs of this process's sweep that failed."""
    folder: ClassVar[Path | None] = None
    """Of the sweep, once it has begun."""

    def __init__(self, varied: Sequence[str] | None = None) -> None:
        self._began = 0.0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See Callback; each job is composed later, from the overrides that stand here."""
        self._began = time.time() - _CLOCKS_DIFFER_S  # of machines that share the folder
        ReportSweep.folder = Path(config.hydra.sweep.dir)
        given = config.hydra.overrides
        swept = [each for each in OverridesParser.create().parse_overrides(given.task) if each.is_sweep_override()]
        varied = dict.fromkeys([*(config.hydra.sweeper.get("params") or {}), *(each.key_or_group for each in swept)])
        given.hydra.append(f"hydra.callbacks.report.varied=[{','.join(varied)}]")
        if any(override.startswith("hydra.sweep.subdir=") for override in given.hydra):
            return
        others = ",".join(key for key in varied if key not in _NAMED)
        # A sweeper that chooses values may choose the same ones again.
        number = "" if config.hydra.sweeper._target_.endswith("BasicSweeper") else "-${hydra:job.num}"
        given.hydra.append(f"hydra.sweep.subdir='${{run_name:{others}}}{number}'")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """See Callback."""
        folder = Path(config.hydra.sweep.dir)
        told = sorted(path for name in (ERROR_NAME, _REFUSED_NAME) for path in folder.rglob(name))
        failures = [path for path in told if path.stat().st_mtime >= self._began]
        runs = {path.parents[1] for path in folder.rglob("checkpoints/last.ckpt")}
        done = len(runs - {path.parent for path in told})
        ReportSweep.failed = len(failures)
        print(f"\nsweep: {counted(done, 'run')} done, {len(failures)} failed: {shown(folder)}")
        for path in failures:
            name = path.parent.relative_to(folder).as_posix()
            print(f"failed: {name}: {path.read_text(encoding='utf-8').strip()}", file=sys.stderr)
        if done > 1:
            models = [yaml.safe_load((run / CONFIG_NAME).read_text(encoding="utf-8"))["model"] for run in sorted(runs)]
            trust = [f"--trust={name}" for name in to_trust(models)]
            words = [command("discrete-ae"), "compare", str(shown(folder)), "-o", "report", *trust]
            print("next:\n ", shlex.join(words))
