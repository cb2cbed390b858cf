"""The folder that a comparison is written into: what in it is ours."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from discrete_ae.compare.page.content import Clip
from discrete_ae.errors import DataError
from discrete_ae.paths import Kind, kind_of
from discrete_ae.records import Record
from discrete_ae.writing import unwritable, write_whole

MARKER = "report.json"


class Marker(Record):
    """What the folder says of the comparison in it."""

    format: Literal["discrete-ae comparison"] = "discrete-ae comparison"
    version: Literal[1] = 1
    title: str
    files: tuple[str, ...]
    """That it consists of, below the folder, with slashes."""


def claim(folder: Path, title: str, *, force: bool) -> None:
    """Make the folder, or take one that an earlier comparison was written into; what is in it stays for now.

    Raises:
        DataError: it cannot be written; without `force`, it holds something else.
    """
    if kind_of(folder) not in (Kind.NOTHING, Kind.FOLDER):
        raise unwritable(folder, "it is no folder")
    is_ours = _marker(folder) is not None
    if not force and not is_ours and folder.is_dir() and any(folder.iterdir()):
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
    """
    before = _written(folder)
    _mark(folder, title, before | set(files))  # so that what follows is known to be ours if it is broken off
    for name, content in files.items():
        write_whole(folder / name, content)
    for name in before - set(files):
        (folder / name).unlink(missing_ok=True)
    _mark(folder, title, set(files))


def clip_files(clips: Sequence[Clip], title: str, sample_rate: int) -> dict[str, bytes]:
    """Return every version as FLAC, and clips.json, which says what they are, by path below the folder of clips."""
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
    marker = Marker(title=title, files=tuple(sorted(files)))
    write_whole(folder / MARKER, (marker.model_dump_json(indent=1) + "\n").encode())


def _written(folder: Path) -> set[str]:
    """What of the folder an earlier comparison says that it wrote; nothing outside it."""
    marker = _marker(folder)
    paths = [PurePosixPath(name) for name in marker.files] if marker else []
    return {path.as_posix() for path in paths if path.parts and not path.is_absolute() and ".." not in path.parts}


def _marker(folder: Path) -> Marker | None:
    try:
        return Marker.parse((folder / MARKER).read_bytes())
    except (OSError, ValueError):
        return None
