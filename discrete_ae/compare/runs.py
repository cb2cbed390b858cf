"""Which folders are runs of training, and which of their checkpoints is compared."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from discrete_ae.errors import DataError
from discrete_ae.paths import Kind, kind_of

CONFIG_NAME = "config.yaml"
ERROR_NAME = "error.txt"
"""In the folder of a run that failed: why, in one line."""
CHECKPOINTS = ("best", "last")
# Names were <quantizer>-seed0-<time>, and are <quantizer>-3.2kbps-seed0.
_AFTER_QUANTIZER = re.compile(r"-(?:seed\d|[\d.]+(?:e\+?\d+)?kbps|unquantized|invalid).*$")


@dataclass(frozen=True)
class Run:
    """A folder of training that can be compared."""

    path: Path
    name: str
    """That of its folder, with as many of the folders above it as tell it from the other runs."""
    quantizer: str
    """The option that was chosen, such as "fourier"."""
    seed: int
    config: dict[str, Any]
    """Nested plain data of its config.yaml."""
    checkpoint: Path


class Skipped(NamedTuple):
    """What looked like a run and is not compared."""

    path: Path
    reason: str


class Found(NamedTuple):
    """What lies below the folders that were given."""

    runs: list[Run]
    """Sorted by path, each once."""
    skipped: list[Skipped]


def find_runs(paths: Sequence[Path], checkpoint: str = "best") -> Found:
    """Find the folders of training, which hold a config.yaml, among the given ones and below them.

    Args:
        paths: run folders, or folders of them such as that of a sweep.
        checkpoint: "best" or "last"; where a run has only the other one, that one is taken.

    Raises:
        DataError: a path is no folder, or no run can be compared.
    """
    folders: dict[Path, None] = {}
    for path in paths:
        kind = kind_of(path)
        if kind is not Kind.FOLDER:
            what = "no such folder" if kind is Kind.NOTHING else "a file, expected a folder"
            raise DataError(f"{path}: {what}; give the folder of a run of training, or of a sweep")
        below = list(_run_folders(path.resolve()))
        if not below:
            raise DataError(f"{path}: no run of training in it or below (a run has a {CONFIG_NAME}); check the folder")
        folders |= dict.fromkeys(below)
    runs: list[Run] = []
    skipped: list[Skipped] = []
    for folder in sorted(folders):
        found = _read_run(folder, checkpoint)
        if isinstance(found, Run):
            runs.append(found)
        else:
            skipped.append(found)
    if not runs:
        raise DataError(
            f"{paths[0]}: none of the {len(skipped)} runs below can be compared; "
            f"{skipped[0].path.name}: {skipped[0].reason}"
        )
    names = _short_names([run.path for run in runs])
    return Found([replace(run, name=name) for run, name in zip(runs, names, strict=True)], skipped)


def _run_folders(root: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(root):
        if CONFIG_NAME in files or ERROR_NAME in files:
            subfolders.clear()  # a run holds no other run
            yield Path(folder)
        else:
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))


def _read_run(folder: Path, checkpoint: str) -> Run | Skipped:
    try:
        if (error := folder / ERROR_NAME).exists():
            return Skipped(folder, f"failed: {' '.join(error.read_text(encoding='utf-8', errors='replace').split())}")
        config = yaml.safe_load((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return Skipped(folder, f"its {CONFIG_NAME} cannot be read ({' '.join(str(error).split())[:200]})")
    keys = ("model", "data", "trainer")
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in keys):
        return Skipped(folder, f"its {CONFIG_NAME} is not one of discrete-ae train")
    preferred = sorted(CHECKPOINTS, key=lambda name: name != checkpoint)
    there = [path for name in preferred if (path := folder / "checkpoints" / f"{name}.ckpt").is_file()]
    if not there:
        return Skipped(folder, "no checkpoint; it was broken off before its first validation, or still runs")
    seed = config["seed"] if isinstance(config.get("seed"), int) else 0
    return Run(folder, folder.name, _quantizer(config, folder.name), seed, config, there[0])


def _quantizer(config: dict[str, Any], name: str) -> str:
    choices = config.get("choices")
    chosen = choices.get("quantizer") if isinstance(choices, dict) else None
    return str(chosen) if chosen else _AFTER_QUANTIZER.sub("", name)


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, and of those that coincide as many more as tell them apart.

    No part is that of the root, which joined to a folder would lead out of it.
    """
    every = [tuple(filter(None, (re.sub(r"\W+", "", path.drive), *path.parts[1:]))) or ("root",) for path in paths]
    lengths = [1] * len(paths)
    while True:
        names = ["/".join(parts[-length:]) for parts, length in zip(every, lengths, strict=True)]
        clashing = [i for i, name in enumerate(names) if names.count(name) > 1]
        if not clashing:
            return names
        for i in clashing:
            lengths[i] += 1
