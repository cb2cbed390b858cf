"""Runs of a multirun: one that fails does not stop the others, and the end says which, and what comes next.

Runs may lie in processes, or on machines, of their own; what they tell of themselves stands in their folders.
"""

import shlex
import sys
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from discrete_ae.cli.advice import command, shown
from discrete_ae.errors import DataError
from discrete_ae.model.checkpoint import read_training_state
from discrete_ae.report.runs import ERROR_NAME


def note_failure(run_dir: Path, message: str) -> None:
    """Write into the folder of a run why it failed."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / ERROR_NAME).write_text(" ".join(message.split()) + "\n", encoding="utf-8")


def forget_failure(run_dir: Path) -> None:
    """Of an earlier try in the same folder."""
    (run_dir / ERROR_NAME).unlink(missing_ok=True)


class Earlier(NamedTuple):
    """What an earlier sweep left in the folder of a run."""

    checkpoint: Path
    is_finished: bool
    objective: float
    """Least val/reconstruction."""


def earlier(config: DictConfig) -> Earlier | None:
    """What an earlier sweep in the same folder made of the same run; None where it made no checkpoint.

    Raises:
        DataError: the folder holds a run of another configuration, or a damaged checkpoint.
    """
    run_dir = Path(config.run_dir)
    checkpoint = run_dir / "checkpoints" / "last.ckpt"
    if not checkpoint.exists():
        return None
    differing = _differing(config, OmegaConf.load(run_dir / "config.yaml"))
    if differing:
        raise DataError(f"{run_dir}: holds a run with another {differing[0]}; give another hydra.sweep.dir")
    state = read_training_state(checkpoint)
    return Earlier(checkpoint, state.global_step >= config.trainer.max_steps, state.best_score)


def _differing(config: DictConfig, before: Any) -> list[str]:
    """The top-level keys whose values differ, but for those that make no other run of it."""
    one, other = (OmegaConf.to_container(each, resolve=True) for each in (config, before))
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    # The number of codebooks stands in the quantizer too, where there are any.
    keys = (one.keys() | other.keys()) - {"ckpt_path", "num_codebooks"}
    return sorted(str(key) for key in keys if one.get(key) != other.get(key))


class ReportSweep(Callback):
    """Says at the end of a multirun how many runs there are, which ones failed, and how they are compared."""

    failed: ClassVar[int] = 0
    """Runs of this process's sweep that failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """See Callback."""
        folder = Path(config.hydra.sweep.dir)
        failures = sorted(folder.rglob(ERROR_NAME))
        done = [path for path in folder.rglob("checkpoints/last.ckpt") if not (path.parents[1] / ERROR_NAME).exists()]
        ReportSweep.failed = len(failures)
        print(
            f"\nsweep: {len(done)} {'run' if len(done) == 1 else 'runs'} done, {len(failures)} failed: {shown(folder)}"
        )
        for path in failures:
            name = path.parent.relative_to(folder).as_posix()
            print(f"failed: {name}: {path.read_text(encoding='utf-8').strip()}", file=sys.stderr)
        if len(done) > 1:
            print("next:\n ", shlex.join([command("discrete-ae"), "compare", str(shown(folder)), "-o", "report"]))
