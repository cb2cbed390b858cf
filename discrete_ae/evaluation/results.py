"""What an evaluation found, as JSON for everything and CSV for one row a recording."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from discrete_ae.errors import DataError
from discrete_ae.evaluation.quantities import OVERALL, PER_FILE
from discrete_ae.paths import Kind, kind_of
from discrete_ae.statistics import Interval, mean_interval
from discrete_ae.writing import write_whole

FORMAT = "discrete-ae evaluation"
VERSION = 1
_LONG = ("code_counts", "files")


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

    def values(self, name: str) -> np.ndarray:
        """A score of every recording (F,), in the order of `files`; NaN where it is not defined, or was not asked for.

        Raises:
            ValueError: there is no such score of a recording.
        """
        if name not in {quantity.name for quantity in PER_FILE}:
            raise ValueError(f"name: expected one of quantities.PER_FILE, got {name!r}")
        found = [file.scores.get(name) for file in self.files]
        return np.array([np.nan if value is None else value for value in found], dtype=np.float64)

    def means(self) -> dict[str, Interval]:
        """Mean over recordings, each counting alike, of every score that was asked for, with its 95 % interval."""
        names = [quantity.name for quantity in PER_FILE if any(quantity.name in file.scores for file in self.files)]
        return {name: mean_interval(self.values(name)) for name in names}

    def write_json(self, path: Path) -> None:
        """Write everything; see `read_json`. The means with their intervals are in it for people, and not read back.

        Raises:
            DataError: it cannot be written.
        """
        means = {
            name: {
                "recordings": int(np.count_nonzero(~np.isnan(self.values(name)))),
                **{key: _or_none(value) for key, value in interval._asdict().items()},
            }
            for name, interval in self.means().items()
        }
        said = {"format": FORMAT, "version": VERSION, **asdict(self), "means": means}
        said |= {"code_counts": said.pop("code_counts"), "files": said.pop("files")}  # the longest parts last
        lines = [f"{json.dumps(key)}: {_json(value, key in _LONG)}" for key, value in said.items()]
        write_whole(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())

    @classmethod
    def read_json(cls, path: Path) -> "Evaluation":
        """Read what `write_json` wrote.

        Raises:
            DataError: the file is missing, or no evaluation.
        """
        if kind_of(path) is Kind.NOTHING:
            raise DataError(f"{path}: no such file; give what discrete-ae evaluate -o wrote")
        try:
            said = json.loads(path.read_bytes(), parse_constant=_refuse)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check the name") from error
        except (ValueError, RecursionError) as error:
            raise _no_evaluation(path, "no JSON") from error
        if not isinstance(said, dict) or said.get("format") != FORMAT:
            raise _no_evaluation(path, f'no "format": "{FORMAT}" in it')
        if said.get("version") != VERSION:
            raise DataError(
                f"{path}: has format version {said.get('version')!r}, this program reads {VERSION}; update discrete-ae"
            )
        try:
            return cls(
                codec=_typed(said["codec"], str),
                files=tuple(
                    FileScores(_typed(file["path"], str), _number(file["duration_s"]), _numbers(file["scores"]))
                    for file in _typed(said["files"], list)
                ),
                overall=_numbers(said["overall"]),
                code_counts=tuple(
                    tuple(_typed(count, int) for count in _typed(counts, list))
                    for counts in _typed(said["code_counts"], list)
                ),
                sample_rate=_typed(said["sample_rate"], int),
                model_hash=None if said["model_hash"] is None else _typed(said["model_hash"], str),
                versions={name: _typed(text, str) for name, text in _typed(said["versions"], dict).items()},
                settings={name: _setting(value) for name, value in _typed(said["settings"], dict).items()},
            )
        except (KeyError, TypeError) as error:
            reason = f"no {error} in it" if isinstance(error, KeyError) else str(error)
            raise _no_evaluation(path, reason) from error

    def write_csv(self, path: Path) -> None:
        """Write one row a recording: path, duration_s, and every score; empty where it is None.

        Raises:
            DataError: it cannot be written.
        """
        names = list(self.means())
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", "duration_s", *names])
        for file in self.files:
            scores = [file.scores.get(name) for name in names]
            writer.writerow([file.path, file.duration_s, *("" if score is None else score for score in scores)])
        # A name that is not UTF-8 comes out as the bytes that it consists of.
        write_whole(path, text.getvalue().encode(errors="surrogateescape"))


def overall_of(**values: float | None) -> dict[str, float | None]:
    """Figures by name of `quantities.OVERALL`, in its order, None where none is given.

    Raises:
        ValueError: a name that is not among them.
    """
    names = [quantity.name for quantity in OVERALL]
    if unknown := set(values) - set(names):
        raise ValueError(f"expected names of quantities.OVERALL, got {min(unknown)!r}")
    return {name: values.get(name) for name in names}


def _json(value: Any, on_lines: bool) -> str:
    """On one line, or one line an item."""
    if not on_lines:
        return json.dumps(value, allow_nan=False)
    return "[" + ",".join("\n" + json.dumps(item, allow_nan=False) for item in value) + "\n]"


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _no_evaluation(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: not what discrete-ae evaluate writes ({reason}); give a .json file of its -o")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"expected a finite number, got {constant}")


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"expected {kind.__name__}, got {repr(value)[:40]}")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"expected a number, got {repr(value)[:40]}")
    return value


def _numbers(values: Any) -> dict[str, float | None]:
    return {name: None if value is None else _number(value) for name, value in _typed(values, dict).items()}


def _setting(value: Any) -> str | int | float | None:
    return value if value is None or isinstance(value, str) else _number(value)
