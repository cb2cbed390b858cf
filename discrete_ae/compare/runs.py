"""What a comparison is given: folders of training, and evaluations that were written before."""

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from discrete_ae.errors import DataError
from discrete_ae.evaluation.results import CONFIG_NAME, ERROR_NAME, FORMAT, Evaluation, Run, read_run
from discrete_ae.paths import Kind, kind_of


class Skipped(NamedTuple):
    """What was given and is not compared."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"not compared: {self.name}: {self.reason}"


class Given(NamedTuple):
    """What lies at the paths that were given."""

    runs: list[Run]
    """Sorted by path, each once, with names that tell them apart."""
    evaluations: list[tuple[Path, Evaluation]]
    """Those that were given themselves."""
    skipped: list[Skipped]


def find_given(paths: Sequence[Path], checkpoint: str = "best") -> Given:
    """Find the runs of training and the evaluations among paths and below them.

    Args:
        paths: folders of runs, which hold a config.yaml, files that `evaluate` wrote, and folders of both.
        checkpoint: "best" or "last"; where a run has only the other one, that one is taken.

    Raises:
        DataError: a path is not there or holds neither, or nothing can be compared.
    """
    folders: dict[Path, None] = {}
    files: dict[Path, Evaluation] = {}
    for path in paths:
        kind = kind_of(path)
        if kind is Kind.NOTHING:
            raise DataError(f"{path}: no such folder or file; give that of a run or a sweep, or a .json of evaluate")
        if kind is Kind.FOLDER:
            below, written = _below(path.resolve())
            if not below and not written:
                raise DataError(
                    f"{path}: no run of training in it or below (a run has a {CONFIG_NAME}), nor evaluations"
                )
            folders |= dict.fromkeys(below)
            files |= written
        else:
            files[path.resolve()] = Evaluation.read_json(path)
    runs: dict[Path, Run] = {}
    skipped: list[Skipped] = []
    for folder in sorted(folders):
        try:
            runs[folder] = read_run(folder, checkpoint)
        except DataError as error:
            skipped.append(Skipped(folder.name, str(error)))
    if not runs and not files:
        first = skipped[0]
        raise DataError(f"{paths[0]}: none of the {len(skipped)} runs can be compared; {first.name}: {first.reason}")
    names = _short_names(list(runs))
    named = [run.model_copy(update={"name": name}) for run, name in zip(runs.values(), names, strict=True)]
    return Given(named, _told_apart(files, names), skipped)


def _below(root: Path) -> tuple[list[Path], dict[Path, Evaluation]]:
    """Folders of runs, and evaluations outside of them."""
    runs: list[Path] = []
    evaluations: dict[Path, Evaluation] = {}
    for folder, subfolders, names in os.walk(root):
        if CONFIG_NAME in names or ERROR_NAME in names:
            subfolders.clear()  # a run holds no other run
            runs.append(Path(folder))
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        evaluations |= dict(evaluations_in(Path(folder)))
    return runs, evaluations


def _told_apart(files: Mapping[Path, Evaluation], taken: Sequence[str]) -> list[tuple[Path, Evaluation]]:
    """Evaluations with names that none of the others has: of their runs, or of what is no run."""
    found: list[tuple[Path, Evaluation]] = []
    names, quantizers = set(taken), {one.run.quantizer for one in files.values() if one.run}
    for path, one in files.items():
        name = one.run.name if one.run else one.codec
        numbered = itertools.chain([name], (f"{name} ({i})" for i in itertools.count(2)))
        free = next(n for n in numbered if n not in (names if one.run else names | quantizers))
        names.add(free)
        update = {"run": one.run.model_copy(update={"name": free})} if one.run else {"codec": free}
        found.append((path, one.model_copy(update=update)))
    return found


def evaluations_in(folder: Path) -> Iterator[tuple[Path, Evaluation]]:
    """Yield the evaluations that lie right in a folder, among other files of JSON.

    Raises:
        DataError: one is damaged.
    """
    for path in sorted(folder.glob("*.json")):
        if FORMAT.encode() in path.read_bytes():
            yield path, Evaluation.read_json(path)


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
