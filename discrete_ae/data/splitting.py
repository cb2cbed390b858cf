"""Split recordings into training and validation."""

import bisect
import hashlib
import itertools
import os
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from discrete_ae.data.files import AudioFile, by_threads, key_of
from discrete_ae.data.remote import is_url
from discrete_ae.errors import DataError
from discrete_ae.paths import Paths, listed


class Split(NamedTuple):
    """Two disjoint lists of files, each in the original order."""

    train: list[AudioFile]
    validation: list[AudioFile]


def split_by_hash(files: Sequence[AudioFile], root: Paths, validation_fraction: float, key: str = "data.") -> Split:
    """Split by the SHA-256 of each file's group, or else of its name in a tar or path relative to the nearest `root`.

    A file's side does not depend on the other files. It is the same in a folder and in tars made from the folder.
    Stretches of one file are on the same side.

    There is one exception, so that neither side is empty. If no hash is below the fraction, the file with the smallest
    hash is for validation; if all hashes are below, the file with the largest hash is for training.

    Args:
        files: the files to split.
        root: one or several folders to which the paths are relative.
        validation_fraction: share for validation, above 0 and below 1.
        key: prefix of the settings of these files in errors.

    Raises:
        DataError: there are fewer than two files or groups.
    """
    roots = [path.expanduser() for path in listed(root)]
    places = [_place(file.group or key_of(file, *roots)) for file in files]
    order = sorted(set(places))
    if len(order) < 2:
        unit = "group" if any(file.group for file in files) else "audio file"
        raise DataError(
            f"{roots[0]}: expected at least 2 {unit}s to split into training and validation, got {len(order)}; "
            f"add recordings, or give validation files with {key}validation_root"
        )
    threshold = min(max(validation_fraction, order[0]), order[-2])
    validates = [place <= threshold for place in places]
    return Split(
        train=[file for file, held_out in zip(files, validates, strict=True) if not held_out],
        validation=[file for file, held_out in zip(files, validates, strict=True) if held_out],
    )


def without(files: Sequence[AudioFile], others: Sequence[AudioFile]) -> list[AudioFile]:
    """Return the files that share no samples with `others`, even where the same file has different paths."""
    stretches: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)
    for other, same in zip(others, _identities(others), strict=True):
        if same:
            stretches[same, other.pieces].append(_stretch(other))
    # For each recording, the starts of its stretches, and the last stop of each stretch and those before it.
    taken = {}
    for recording, found in stretches.items():
        starts, stops = zip(*sorted(found), strict=True)
        taken[recording] = starts, [*itertools.accumulate(stops, max)]

    def is_free(file: AudioFile, same: Hashable) -> bool:
        starts, last_stops = taken.get((same, file.pieces), ((), []))
        start, stop = _stretch(file)
        count = bisect.bisect_left(starts, stop)  # number of stretches that start before the file's stop
        return not count or last_stops[count - 1] <= start

    return [file for file, same in zip(files, _identities(files), strict=True) if is_free(file, same)]


def _place(key: str) -> float:
    """Hash a key to a number in [0, 1), uniformly."""
    return int.from_bytes(hashlib.sha256(os.fsencode(key)).digest()[:6]) / 2**48


def _stretch(file: AudioFile) -> tuple[int, int]:
    """Return the first frame of a recording in its file, and the end of its frames."""
    first = file.first_frame or 0
    return first, first + file.num_frames


def _identities(files: Sequence[AudioFile]) -> list[Hashable]:
    """Return the identity of each file (its device and inode, or its URL); None if the file is missing."""

    def identity(path: str) -> Hashable:
        if is_url(path):
            return path
        try:
            found = os.stat(path)  # noqa: PTH116  a text
        except OSError:
            return None
        return found.st_dev, found.st_ino

    return by_threads(identity, [file.place for file in files])
