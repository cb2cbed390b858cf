"""What an evaluation found, as JSON for everything and CSV for one row a recording."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileScores:
    """Of one recording."""

    path: str
    """Below the data folder, with slashes."""
    duration_s: float
    scores: Mapping[str, float | None]
    """By name of `quantities.PER_FILE`; None where a score is not defined for this recording."""


@dataclass(frozen=True)
class Evaluation:
    """Of one codec over one data set."""

    codec: str
    """The checkpoint's path as it was given, or a baseline's name such as "opus 6 kbps"."""
    files: tuple[FileScores, ...]
    """Sorted by path; recordings that could not be coded are not among them."""
    overall: Mapping[str, float | None]
    """By name of `quantities.OVERALL`; None where there is no such thing, as usage without codes."""
    code_counts: tuple[tuple[int, ...], ...]
    """How often each entry of each codebook was used, over all recordings; () without codes."""
    sample_rate: int
    """In Hz, at which reconstructions were compared."""
    model_hash: str | None
    versions: Mapping[str, str]
    """Of this package, of every score, and of what computes it."""
    settings: Mapping[str, str | int | float | None]

    def write_json(self, path: Path) -> None:
        """Write everything; see `read_json`.

        Raises:
            DataError: it cannot be written.
        """
        raise NotImplementedError

    @classmethod
    def read_json(cls, path: Path) -> "Evaluation":
        """Read what `write_json` wrote.

        Raises:
            DataError: the file is missing, or no evaluation.
        """
        raise NotImplementedError

    def write_csv(self, path: Path) -> None:
        """Write one row a recording: path, duration_s, and every score; empty where it is None.

        Raises:
            DataError: it cannot be written.
        """
        raise NotImplementedError
