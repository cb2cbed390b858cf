"""The recordings of a data set, under the names that results have them by."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from discrete_ae.data.completeness import require_complete
from discrete_ae.data.files import SUFFIXES, AudioFile, probe, unreadable, walk
from discrete_ae.errors import DataError
from discrete_ae.paths import Kind, kind_of


class Source(NamedTuple):
    """One recording."""

    path: Path
    name: str
    """Below the data folder, with slashes; no two have the same."""


class Found(NamedTuple):
    """What was found."""

    sources: list[Source]
    """Sorted by name."""
    problems: list[DataError]
    """The inputs that are not there or hold no recording, and the folders in them that cannot be read."""


def find_sources(inputs: Sequence[str | Path]) -> Found:
    """The recordings that are given, and those below the folders that are given, by suffix, hidden ones left out.

    A recording of a folder is named by its path below it, with the folder's own name in front where several inputs are
    given; one that is given itself by its name. What would have the name of another has its whole path for a name.
    """
    found: dict[Path, str] = {}
    problems: list[DataError] = []
    for path in map(Path, inputs):
        try:
            found |= {source.path: source.name for source in _below(path, len(inputs) == 1, problems)}
        except DataError as error:
            problems.append(error)
    counts = Counter(found.values())
    sources = [Source(path, path.as_posix() if counts[name] > 1 else name) for path, name in found.items()]
    return Found(sorted(sources, key=lambda source: source.name), problems)


def opened(path: Path, channels: int) -> AudioFile:
    """Header of a recording that is whole, and fits a codec of so many channels: 1 codes each channel alone.

    Raises:
        DataError: it cannot be read, was cut off, or has another number of channels.
    """
    file = probe(path)
    require_complete(path)
    if channels != 1 and file.channels not in (1, channels):
        raise DataError(
            f"{path}: has {file.channels} channels, the model takes {channels}; convert it to {channels} channels"
        )
    return file


def _below(path: Path, is_alone: bool, problems: list[DataError]) -> list[Source]:
    kind = kind_of(path)
    if kind is Kind.NOTHING:
        raise DataError(f"{path}: no such file or folder; check the name")
    if kind is not Kind.FOLDER:
        return [Source(path, path.name)]
    closed: list[OSError] = []
    files = [file for file in walk(path, closed.append) if file.suffix.lower() in SUFFIXES]
    problems += map(unreadable, closed)
    if not files and not closed:
        raise DataError(f"{path}: no .wav, .flac, .ogg, .opus, .mp3 files in it or below; give another folder")
    name = Path() if is_alone else Path(path.absolute().name)
    return [Source(file, (name / file.relative_to(path)).as_posix()) for file in files]
