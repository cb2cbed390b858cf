"""The file of ratings: a CSV with one row for each rating of each listener, to which every finished trial is added."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from discrete_ae.errors import DataError
from discrete_ae.paths import Kind, kind_of
from discrete_ae.writing import written_whole

HIGHEST = 100
LONGEST_TEXT = 500
"""Characters of a name or a comment; what is longer is cut off."""


class Rating(NamedTuple):
    """A row of the file."""

    session: str
    """Unique."""
    listener: str
    """A name or an alias; may be empty."""
    time: str
    """When the trial was finished: UTC, ISO 8601."""
    report: str
    """Its title."""
    material: str
    """The `Material.digest` of what was heard."""
    seed: int
    """Of the session's orders."""
    trials: int
    """How many the session has."""
    trial: int
    """The place of the clip in the session, from 1 on."""
    clip: str
    position: int
    """The number under which the condition stood on the page, from 1 on."""
    condition: str
    """Key of what was rated."""
    label: str
    """The same as it is shown."""
    rating: int
    """0, bad, to 100, excellent: BS.1534-3 §5.4."""
    comment: str
    """On the trial, the same in all of its rows; may be empty."""

    @property
    def assessor(self) -> str:
        """Who rated: the listener, or the session where no name was given."""
        return self.listener or f"session {self.session}"


def read_ratings(path: Path) -> list[Rating]:
    """All ratings of a file; none where there is no file.

    Raises:
        DataError: it is no file of ratings, or damaged.
    """
    if kind_of(path) is Kind.NOTHING:
        return []
    try:
        return _parsed(path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise DataError(f"{path}: not readable as ratings ({reason}); give another file with --ratings") from error


def add_ratings(path: Path, ratings: Sequence[Rating]) -> None:
    """Add rows, all or none, and see them on the disk; makes the file, with its header, if there is none.

    Raises:
        DataError: the file cannot be written, another process is writing it, or it is damaged: it is then left as it
            is.
    """
    with written_whole(path) as temporary:
        # Read inside, where no other process writes: what one has added is kept, and one that comes meanwhile is told.
        text = _text([*read_ratings(path), *ratings])
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def one_line(text: str) -> str:
    """A name or a comment as it is kept: one line of bounded length."""
    return " ".join(text.split())[:LONGEST_TEXT]


def _text(ratings: Sequence[Rating]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Rating._fields, *ratings])
    return text.getvalue()


def _parsed(text: str, path: Path) -> list[Rating]:
    found = []
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (ValueError, csv.Error):
        header, rows = [], []
    if tuple(header) != Rating._fields:
        raise DataError(f"{path}: not a file of ratings (its first line is another); give another file with --ratings")
    for number, row in enumerate(rows, 2):
        try:
            rating = Rating(*row)  # type: ignore[arg-type]
            numbers = {name: int(getattr(rating, name)) for name in ("seed", "trials", "trial", "position", "rating")}
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: row {number} is damaged; mend it, or give another file with --ratings") from error
        if not 0 <= numbers["rating"] <= HIGHEST:
            raise DataError(f"{path}: row {number}: expected a rating from 0 to {HIGHEST}, got {numbers['rating']}")
        found.append(rating._replace(**numbers))  # type: ignore[arg-type]
    return found
