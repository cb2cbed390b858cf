"""The recordings of a data set: their names, their segments, and excerpts for listening.

Long recordings are scored as the mean over segments. This bounds memory, and PESQ and STOI were designed for short
recordings.

Axes: C channels, n samples.
"""

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from discrete_ae.data.files import SUFFIXES, AudioFile, accept, files_of, probe
from discrete_ae.data.reading import Audio, stream_audio
from discrete_ae.errors import DataError
from discrete_ae.evaluation.results import Excerpt
from discrete_ae.paths import in_utf8

MIN_SEGMENT_S = 1.0
"""Minimum length of the last segment; a shorter remainder is added to the segment before it."""
_STEP_S = 0.25  # resolution of the loudness


@dataclass(frozen=True)
class Source:
    """One recording."""

    path: Path
    name: str
    """Unique path below the data folder, with slashes; bytes that are not UTF-8 are escaped."""

    @cached_property
    def sha256(self) -> str | None:
        """Hash of the file; None if it cannot be read."""
        try:
            if self.path.is_file():
                with self.path.open("rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            pass
        return None

    @property
    def duration_s(self) -> float:
        """Duration from the header; 0 if it cannot be read."""
        try:
            return probe(self.path).duration_s
        except DataError:
            return 0.0


class Found(NamedTuple):
    """Recordings found in a list of inputs."""

    sources: list[Source]
    """Sorted by name."""
    problems: list[DataError]
    """Inputs that are missing or hold no recording, and subfolders that cannot be read."""


def find_sources(inputs: Sequence[str | Path]) -> Found:
    """Find recordings: given files, files with audio suffixes below given folders, and files that match patterns.

    Hidden files are skipped. A recording in a folder is named by its path below the folder; with several inputs, the
    folder's name comes first. A match of a pattern such as corpus/**/*.wav is named by its path from the first
    wildcard on. A given file is named by its file name. Recordings whose names would be equal are named by full paths.
    """
    found: dict[Path, str] = {}
    problems: list[DataError] = []
    for path in map(Path, inputs):
        try:
            files = files_of(path, SUFFIXES, problems, alone=len(inputs) == 1)
            found |= {file: (folder / file.name).as_posix() for file, folder in files}
        except DataError as error:
            problems.append(error)
    return Found(named_sources(found), problems)


def without_doubt(found: Found) -> Found:
    """Move recordings that cannot be read, or whose length differs from that in the header, to the problems."""
    sources, problems = [], list(found.problems)
    for source in found.sources:
        try:
            accept(probe(source.path), strict=True)
            sources.append(source)
        except DataError as error:
            problems.append(error)
    return Found(sources, problems)


def named_sources(names: dict[Path, str]) -> list[Source]:
    """Return recordings sorted by name; those with equal names are named by their paths instead."""
    counts = Counter(names.values())
    sources = [Source(path, in_utf8(path.as_posix() if counts[name] > 1 else name)) for path, name in names.items()]
    return sorted(sources, key=lambda source: source.name)


def segment_lengths(num_samples: int, sample_rate: int, segment_seconds: float) -> list[int]:
    """Return the lengths of a recording's segments in samples, which add up to `num_samples` >= 1."""
    length = max(1, round(min(segment_seconds * sample_rate, num_samples)))
    count, rest = divmod(num_samples, length)
    lengths = [length] * count
    if 0 < rest < MIN_SEGMENT_S * sample_rate:
        lengths[-1] += rest
    elif rest:
        lengths.append(rest)
    return lengths


def cut(blocks: Iterable[Audio], lengths: Iterable[int]) -> Iterator[Audio]:
    """Regroup blocks (C, n) into segments of the given lengths; the last one is shorter if blocks end early."""
    parts: list[Audio] = []
    missing = iter(lengths)
    wanted, there = next(missing, 0), 0
    for block in blocks:
        start = 0
        while wanted and there + block.shape[1] - start >= wanted:
            stop = start + wanted - there
            yield np.concatenate([*parts, block[:, start:stop]], axis=1)
            parts, there, start, wanted = [], 0, stop, next(missing, 0)
        parts.append(block[:, start:])
        there += block.shape[1] - start
    if there and wanted:
        yield np.concatenate(parts, axis=1)


def choose_excerpts(sources: Sequence[Source], count: int, seconds: float) -> list[Excerpt]:
    """Choose at most `count` excerpts of at most `seconds`: the loudest ones of recordings spread evenly over the list.

    If there are fewer recordings than `count`, each is divided into equal parts, none shorter than an excerpt. The
    choice is deterministic. Recordings that cannot be read are skipped.
    """
    sources = [source for source in sources if source.duration_s]
    chosen = [sources[(2 * i + 1) * len(sources) // (2 * count)] for i in range(count)] if sources else []
    excerpts = []
    for source in dict.fromkeys(chosen):
        file = probe(source.path)
        parts = max(min(chosen.count(source), int(file.duration_s / seconds)), 1)
        try:
            starts = loudest(file, parts, seconds)
        except DataError:  # the evaluation reports it
            continue
        length = min(seconds, file.duration_s)
        excerpts += [Excerpt(recording=source.name, start_s=start, duration_s=length) for start in starts]
    return excerpts


def loudest(file: AudioFile, parts: int, seconds: float) -> list[float]:
    """Return the start, in seconds, of the excerpt with the most energy within each of the equal parts of a recording.

    Raises:
        DataError: the recording cannot be read.
    """
    part_s = file.duration_s / parts
    if part_s <= seconds:
        return [i * part_s for i in range(parts)]
    step = round(_STEP_S * file.sample_rate)
    blocks = cut(stream_audio(file, file.sample_rate), itertools.repeat(step))
    energies = np.array([float(np.square(block.astype(np.float64)).sum()) for block in blocks])
    step_s = step / file.sample_rate
    window = max(int(seconds / step_s), 1)
    sums = np.convolve(energies, np.ones(window), mode="valid")
    starts = []
    for i in range(parts):
        first, last = math.ceil(i * part_s / step_s), int(((i + 1) * part_s - seconds) / step_s)
        within = sums[first : last + 1]
        found = first + int(within.argmax()) if len(within) else first
        starts.append(min(found * step_s, (i + 1) * part_s - seconds))
    return starts
