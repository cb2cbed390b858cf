"""What a comparison is given: runs of training, evaluations that were written before, and recordings to compare on."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from discrete_ae.build import validation_recordings
from discrete_ae.data import recordings_root
from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.recordings import Source, find_sources, named_sources
from discrete_ae.evaluation.results import CONFIG_NAME, ERROR_NAME, FORMAT, Evaluation, Run, read_run
from discrete_ae.evaluation.saving import Render

_SPLIT = ("root", "validation_root", "validation_fraction", "channels")  # which files train and which validate


class Placed(NamedTuple):
    """An evaluation, and the file that it is in."""

    path: Path
    evaluation: Evaluation
    render: Callable[[], Render] | None = None
    """Gives the codec, where it is at hand."""

    @property
    def name(self) -> str:
        """Of its run, or of another codec."""
        return self.evaluation.run.name if self.evaluation.run else self.evaluation.codec


class Given(NamedTuple):
    """What lies at the paths that were given."""

    runs: list[Run]
    """Sorted by path, each once, with names that tell them apart."""
    evaluations: list[Placed]
    """Those that were given themselves, with names that none of the others has."""
    lines: list[str]
    """One on each run that cannot be compared."""


def find_given(paths: Sequence[Path], checkpoint: str = "best") -> Given:
    """Find the runs of training and the evaluations among paths and below them.

    Args:
        paths: folders of runs, which hold a config.yaml, files that `evaluate` wrote, and folders of both.
        checkpoint: "best" or "last"; where a run has only the other one, that one is taken.

    Raises:
        OSError: a path is not there.
        DataError: a path holds neither, or nothing can be compared.
    """
    folders: set[Path] = set()
    files: dict[Path, Evaluation] = {}
    for path in paths:
        if path.is_dir():
            below, written = _below(path.resolve())
            if not below and not written:
                raise DataError(
                    f"{path}: no run of training in it or below (a run has a {CONFIG_NAME}), nor evaluations"
                )
            folders |= below
            files |= written
        else:
            files[path.resolve()] = Evaluation.read_json(path)
    runs: dict[Path, Run] = {}
    lines: list[str] = []
    for folder in sorted(folders):
        try:
            runs[folder] = read_run(folder, checkpoint)
        except DataError as error:
            lines.append(f"Not compared: {folder.name}: {error}")
    if not runs and not files:
        raise DataError(f"{paths[0]}: none of the {len(lines)} runs can be compared; the first: {lines[0]}")
    named = [
        run.model_copy(update={"name": name}) for run, name in zip(runs.values(), _short_names(list(runs)), strict=True)
    ]
    return Given(named, _told_apart([Placed(*one) for one in files.items()], named), lines)


def _below(root: Path) -> tuple[set[Path], dict[Path, Evaluation]]:
    """Find folders of runs, and evaluations outside of them."""
    runs: set[Path] = set()
    evaluations: dict[Path, Evaluation] = {}
    for folder, subfolders, names in os.walk(root):
        if CONFIG_NAME in names or ERROR_NAME in names:
            subfolders.clear()  # a run holds no other run
            runs.add(Path(folder))
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        evaluations |= dict(evaluations_in(Path(folder)))
    return runs, evaluations


def evaluations_in(folder: Path) -> Iterator[tuple[Path, Evaluation]]:
    """Yield the evaluations that lie right in a folder, among other files of JSON.

    Raises:
        DataError: one is damaged.
    """
    for path in sorted(folder.glob("*.json")):
        if FORMAT.encode() in path.read_bytes():
            yield path, Evaluation.read_json(path)


def _told_apart(placed: Sequence[Placed], runs: Sequence[Run]) -> list[Placed]:
    """Number the names that another one has; what is no run shall not have the label of a method either."""
    found: list[Placed] = []
    names = {run.name for run in runs}
    quantizers = {one.evaluation.run.quantizer for one in placed if one.evaluation.run}
    for one in placed:
        run = one.evaluation.run
        numbered = itertools.chain([one.name], (f"{one.name} ({i})" for i in itertools.count(2)))
        free = next(name for name in numbered if name not in (names if run else names | quantizers))
        names.add(free)
        update = {"run": run.model_copy(update={"name": free})} if run else {"codec": free}
        found.append(one._replace(evaluation=one.evaluation.model_copy(update=update)))
    return found


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Return the last part of each path; where several have the same one, the path below the folder of all."""
    names = [path.name or "root" for path in paths]
    root = os.path.commonpath(paths) if len(set(names)) < len(names) else ""
    return [
        name if names.count(name) == 1 else path.relative_to(root).as_posix()
        for name, path in zip(names, paths, strict=True)
    ]


def recordings_of(data: Sequence[str | Path] | None, runs: Sequence[Run]) -> tuple[list[Source], str]:
    """Return the recordings to compare on, and what they are, in words: those given, or what runs were validated on.

    Raises:
        DataError: they are not there.
        UsageError: the runs were validated on different ones.
    """
    if data:
        recordings = find_sources(data)
        if recordings.problems:
            raise recordings.problems[0]
        return recordings.sources, ", ".join(map(str, data))
    found: list[tuple[Run, Path, list[Path]]] = []
    for run in {_split(run): run for run in runs[::-1]}.values():
        try:
            found.append((run, *validation_recordings(run.config["data"])))
        except (DataError, UsageError) as error:
            raise type(error)(f"{error}; or give the recordings with --data (run {run.name})") from error
    if not found:
        return [], "the recordings that the evaluations have in common"
    (first, root, paths), *others = found
    for other, _, different in others:
        if {path.resolve() for path in different} != {path.resolve() for path in paths}:
            raise UsageError(
                f"{first.name} and {other.name} were validated on different recordings; say with --data on what to "
                "compare"
            )
    is_own = root.resolve().is_relative_to(recordings_root().resolve())
    said = "the project's own validation recordings" if is_own else f"the runs' validation recordings, {root.name}"
    return named_sources({path: path.relative_to(root).as_posix() for path in paths}), said


def trained_on(runs: Sequence[Run], sources: Sequence[Source]) -> set[Path]:
    """Return the recordings that one of the runs was trained on.

    Raises:
        DataError: the recordings of a run are below the same folder, and can no longer be read.
    """
    found: set[Path] = set()
    places = {source.path: source.path.resolve() for source in sources}
    for data in {_split(run): run.config["data"] for run in runs}.values():
        root = Path(data["root"]).expanduser() if data.get("root") else recordings_root() / "train"
        below = {path for path, place in places.items() if place.is_relative_to(root.resolve())}
        if below and data.get("root") and not data.get("validation_root"):
            validated = {path.resolve() for path in validation_recordings(data)[1]}
            below = {path for path in below if places[path] not in validated}
        found |= below
    return found


def _split(run: Run) -> str:
    return repr([run.config["data"].get(key) for key in _SPLIT])
