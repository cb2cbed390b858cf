"""The folder that a comparison is written into: what in it is ours, and what was computed before and still holds."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from discrete_ae.compare.page.content import Clip
from discrete_ae.errors import DataError
from discrete_ae.evaluation.recordings import Source
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.paths import Kind, kind_of
from discrete_ae.writing import unwritable, write_whole

MARKER = "report.json"
FORMAT = "discrete-ae comparison"
VERSION = 1
_KEY = "computed_from"  # in the settings of an evaluation


def claim(folder: Path, title: str, *, force: bool) -> None:
    """Make the folder, or take one that an earlier comparison was written into; what is in it stays for now.

    Raises:
        DataError: it cannot be written; without `force`, it holds something else.
    """
    kind = kind_of(folder)
    if kind not in (Kind.NOTHING, Kind.FOLDER):
        raise unwritable(folder, "it is no folder")
    try:
        is_foreign = kind is Kind.FOLDER and any(folder.iterdir()) and _marker(folder) is None
    except OSError as error:
        raise unwritable(folder, error.strerror) from error
    if is_foreign and not force:
        raise DataError(
            f"{folder}: holds something other than a comparison; give another folder, or --force to add to it"
        )
    _mark(folder, title, _written(folder))


def write_files(folder: Path, title: str, files: Mapping[str, bytes]) -> None:
    """Write what a comparison consists of; what an earlier one wrote here and this one does not goes, and nothing else.

    Args:
        folder: of `claim`.
        title: as there.
        files: by path below the folder, with slashes; written in this order.

    Raises:
        DataError: something cannot be written; it is marked as ours nevertheless.
    """
    before = _written(folder)
    _mark(folder, title, before | set(files))
    for name, content in files.items():
        write_whole(folder / name, content)
    for name in before - set(files):
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(folder / name, error.strerror) from error
    _mark(folder, title, set(files))


def fingerprint(*parts: Any) -> str:
    """Of plain data, from which something is computed."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def state_of(sources: Sequence[Source]) -> list[tuple[str, str, int, int]]:
    """Name, place, size and time of change of every recording; size -1 of one that cannot be looked at."""
    found = []
    for source in sources:
        place = os.path.realpath(source.path)
        try:
            status = source.path.stat()
            found.append((source.name, place, status.st_size, status.st_mtime_ns))
        except OSError:
            found.append((source.name, place, -1, 0))
    return found


def kept_evaluation(path: Path, key: str, compute: Callable[[], Evaluation], *, anew: bool) -> Evaluation:
    """The evaluation in the file if it was computed from what the key says, else a new one, which is kept there.

    Raises:
        DataError: it cannot be computed, or not be written.
    """
    if not anew and kind_of(path) is Kind.FILE:
        try:
            found = Evaluation.read_json(path)
        except DataError:  # of another version, or damaged
            found = None
        if found is not None and found.settings.get(_KEY) == key:
            return found
    evaluation = compute()
    evaluation = replace(evaluation, settings={**evaluation.settings, _KEY: key})
    evaluation.write_json(path)
    return evaluation


def clip_files(clips: Sequence[Clip], title: str, sample_rate: int) -> dict[str, bytes]:
    """Every version as FLAC, and clips.json, which says what they are, by path below the folder of clips."""
    files, described = {}, []
    for i, clip in enumerate(clips):
        versions = []
        for version in clip.versions:
            name = f"clip{i + 1}/{version.key}.flac"
            files[name] = version.flac
            versions.append({"key": version.key, "label": version.label, "file": name})
        described.append({"name": clip.name, "duration_s": clip.duration_s, "versions": versions})
    content = {"title": title, "sample_rate": sample_rate, "clips": described}
    return {**files, "clips.json": (json.dumps(content, indent=1) + "\n").encode()}


def _mark(folder: Path, title: str, files: Collection[str]) -> None:
    content = {"format": FORMAT, "version": VERSION, "title": title, "files": sorted(files)}
    write_whole(folder / MARKER, (json.dumps(content, indent=1) + "\n").encode())


def _written(folder: Path) -> set[str]:
    """What of the folder an earlier comparison says that it wrote; nothing outside it."""
    names = (_marker(folder) or {}).get("files")
    paths = [PurePosixPath(name) for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return {path.as_posix() for path in paths if path.parts and not path.is_absolute() and ".." not in path.parts}


def _marker(folder: Path) -> dict[str, Any] | None:
    """What is said of the comparison in it; None where it is none."""
    try:
        content = json.loads((folder / MARKER).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None
