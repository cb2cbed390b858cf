"""On which recordings runs are compared, and whether one of the runs was trained on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from discrete_ae.build import validation_recordings
from discrete_ae.compare.folder import fingerprint
from discrete_ae.compare.runs import Run
from discrete_ae.data import recordings_root
from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.recordings import Source


def recordings_of(runs: Sequence[Run]) -> tuple[list[Source], str]:
    """The recordings on which all runs were validated, and what they are, in words.

    Raises:
        UsageError: they are not the same for all.
        DataError: they are not there.
    """
    found: dict[str, tuple[Path, list[Path]]] = {}
    first: tuple[str, tuple[Path, list[Path]]] | None = None
    for run in runs:
        data: Mapping[str, Any] = run.config["data"]
        split = _split(data)
        if split not in found:
            try:
                found[split] = validation_recordings(data)
            except (DataError, UsageError) as error:
                raise type(error)(f"{error}; or give the recordings with --data (run {run.name})") from error
        if first is None:
            first = run.name, found[split]
        elif {path.resolve() for path in found[split][1]} != {path.resolve() for path in first[1][1]}:
            raise UsageError(
                f"{first[0]} and {run.name} were validated on different recordings; say with --data what to compare on"
            )
    assert first is not None
    root, paths = first[1]
    return sorted((Source(path, path.relative_to(root).as_posix()) for path in paths), key=lambda s: s.name), _said(
        root
    )


def trained_on(runs: Sequence[Run], sources: Sequence[Source]) -> set[Path]:
    """The recordings that one of the runs was trained on.

    Raises:
        DataError: the recordings of a run are below the same folder, and can no longer be read.
    """
    found: set[Path] = set()
    places = {source.path: source.path.resolve() for source in sources}
    settings = {_split(run.config["data"]): run.config["data"] for run in runs}
    for data in settings.values():
        root = Path(data["root"]).expanduser() if data.get("root") else recordings_root() / "train"
        below = {path for path, place in places.items() if place.is_relative_to(root.resolve())}
        if below and data.get("root") and not data.get("validation_root"):
            validated = {path.resolve() for path in validation_recordings(data)[1]}
            below = {path for path in below if places[path] not in validated}
        found |= below
    return found


def _split(data: Mapping[str, Any]) -> str:
    """What decides on which files train and which validate; the rest of it decides on crops and segments."""
    return fingerprint(*(data.get(key) for key in ("root", "validation_root", "validation_fraction", "channels")))


def _said(root: Path) -> str:
    """A folder on a page that may be given away."""
    is_own = root.resolve().is_relative_to(recordings_root().resolve())
    return "the project's own validation recordings" if is_own else f"the runs' validation recordings, {root.name}"
