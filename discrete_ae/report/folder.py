"""The folder that a comparison is written into: what in it is ours, and what was computed before and still holds."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from discrete_ae.errors import DataError
from discrete_ae.evaluation.recordings import Source
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.paths import Kind, kind_of
from discrete_ae.report.gradients import Agreement
from discrete_ae.report.page.content import Clip, Version
from discrete_ae.writing import unwritable, write_whole

MARKER = "report.json"
FORMAT = "discrete-ae comparison"
VERSION = 1
_KEY = "computed_from"  # in the settings of an evaluation


def claim(folder: Path, title: str, *, force: bool) -> None:
    """Make the folder, or take one that an earlier comparison was written into; what is in it stays.

    Raises:
        DataError: it cannot be written; without `force`, it holds something else.
    """
    kind = kind_of(folder)
    if kind not in (Kind.NOTHING, Kind.FOLDER):
        raise unwritable(folder, "it is no folder")
    try:
        is_foreign = kind is Kind.FOLDER and any(folder.iterdir()) and not _is_ours(folder)
    except OSError as error:
        raise unwritable(folder, error.strerror) from error
    if is_foreign and not force:
        raise DataError(
            f"{folder}: holds something other than a comparison; give another folder, or --force to add to it"
        )
    content = {"format": FORMAT, "version": VERSION, "title": title}
    write_whole(folder / MARKER, (json.dumps(content) + "\n").encode())


def fingerprint(*parts: Any) -> str:
    """Of plain data, from which something is computed."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def state_of(sources: Sequence[Source]) -> list[tuple[str, int, int]]:
    """Name, size and time of change of every recording; size -1 of one that cannot be looked at."""
    found = []
    for source in sources:
        try:
            status = source.path.stat()
            found.append((source.name, status.st_size, status.st_mtime_ns))
        except OSError:
            found.append((source.name, -1, 0))
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


def kept_agreements(path: Path, key: str, compute: Callable[[], list[Agreement]], *, anew: bool) -> list[Agreement]:
    """The same of gradients."""
    if not anew and kind_of(path) is Kind.FILE:
        try:
            found = json.loads(path.read_bytes())
            if found["key"] == key:
                return [Agreement(*(float(value) for value in segment)) for segment in found["segments"]]
        except (OSError, ValueError, KeyError, TypeError):
            pass
    agreements = compute()
    # float() reads "nan" too, which JSON has no number for.
    content = {"key": key, "segments": [[repr(value) for value in segment] for segment in agreements]}
    write_whole(path, (json.dumps(content) + "\n").encode())
    return agreements


def write_clips(folder: Path, clips: Sequence[Clip], sample_rate: int) -> None:
    """Write every version as FLAC, and clips.json, which says what they are; those of an earlier comparison go.

    Raises:
        DataError: something cannot be written.
    """
    described = []
    written = set()
    for i, clip in enumerate(clips):
        versions = []
        for version in clip.versions:
            file = f"clip{i + 1}/{version.key}.flac"
            write_whole(folder / file, version.flac)
            written.add(folder / file)
            versions.append(_described(version, file))
        described.append({"name": clip.name, "duration_s": clip.duration_s, "versions": versions})
    content = {"sample_rate": sample_rate, "clips": described}
    write_whole(folder / "clips.json", (json.dumps(content, indent=1) + "\n").encode())
    for old in set(folder.glob("clip*/*.flac")) - written:
        old.unlink()


def _described(version: Version, file: str) -> dict[str, str]:
    return {"key": version.key, "label": version.label, "file": file}


def _is_ours(folder: Path) -> bool:
    try:
        content = json.loads((folder / MARKER).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT
