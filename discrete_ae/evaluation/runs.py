"""Folders of training: what their config.yaml says, and which of their checkpoints is taken."""

import re
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from discrete_ae.errors import DataError
from discrete_ae.evaluation.recordings import in_utf8
from discrete_ae.evaluation.results import Run

CONFIG_NAME = "config.yaml"
ERROR_NAME = "error.txt"
"""In the folder of a run that failed: why, in one line."""
CHECKPOINTS = ("best", "last")
# A folder is called <quantizer>-3.2kbps-seed0; sweeps append what else they vary.
_AFTER_QUANTIZER = re.compile(r"-(?:seed\d|[\d.]+(?:e\+?\d+)?kbps|unquantized|invalid).*$")


def read_run(folder: Path, checkpoint: str = "best") -> Run:
    """Read what a run's folder says, with the checkpoint that is wanted, or the other one where that is missing.

    Raises:
        DataError: it is no run, it failed, or it has no checkpoint; said without naming the folder.
    """
    try:
        if (error := folder / ERROR_NAME).exists():
            raise DataError(f"failed: {' '.join(error.read_text(encoding='utf-8', errors='replace').split())}")
        config = yaml.safe_load((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"its {CONFIG_NAME} cannot be read ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(config, dict) or not all(
        isinstance(config.get(key), dict) for key in ("model", "data", "trainer")
    ):
        raise DataError(f"its {CONFIG_NAME} is not one of discrete-ae train")
    names = [f"checkpoints/{name}.ckpt" for name in sorted(CHECKPOINTS, key=lambda name: name != checkpoint)]
    there = [name for name in names if (folder / name).is_file()]
    if not there:
        raise DataError("no checkpoint; it was broken off before its first validation, or still runs")
    choices = config.get("choices")
    chosen = choices.get("quantizer") if isinstance(choices, dict) else None
    return Run(
        name=in_utf8(folder.name),
        quantizer=str(chosen) if chosen else in_utf8(_AFTER_QUANTIZER.sub("", folder.name)),
        seed=config["seed"] if isinstance(config.get("seed"), int) else 0,
        config=config,
        folder=in_utf8(str(folder)),
        checkpoint=there[0],
    )


def run_of(checkpoint: Path) -> Run | None:
    """Return the run in whose folder a checkpoint lies, None where it lies in none."""
    folder = checkpoint.absolute().parent.parent
    if not (folder / CONFIG_NAME).is_file():
        return None
    try:
        run = read_run(folder, checkpoint.stem)
    except DataError:
        return None
    return run.model_copy(update={"checkpoint": checkpoint.absolute().relative_to(folder).as_posix()})
