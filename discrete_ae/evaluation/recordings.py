"""The recordings of a data set, under the names that results have them by."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from discrete_ae.data.files import SUFFIXES, AudioFile, files_of, probe, require_complete
from discrete_ae.errors import DataError


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
    """The recordings that are given, those below the folders that are given, by suffix, hidden ones left out, and those
    that patterns such as corpus/**/*.wav name.

    A recording of a folder is named by its path below it, with the folder's own name in front where several inputs are
    given; one of a pattern by its path from the first wildcard on; one that is given itself by its name. What would
    have the name of another has its whole path for a name.
    """
    found: dict[Path, str] = {}
    problems: list[DataError] = []
    for path in map(Path, inputs):
        try:
            files = files_of(path, SUFFIXES, problems, alone=len(inputs) == 1)
            found |= {file: (folder / file.name).as_posix() for file, folder in files}
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
