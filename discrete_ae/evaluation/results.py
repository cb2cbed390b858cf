"""Results of an evaluation: a JSON file with all results, which `compare` reads, and CSV with one row per recording.

docs/evaluation.md describes the JSON file, which other programs may write too. Facts about a model's training run are
read from the run's folder.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml  # type: ignore[import-untyped]
from pydantic import Field

from discrete_ae.errors import DataError, counted
from discrete_ae.evaluation.scores import PER_FILE, QUANTITIES
from discrete_ae.paths import CONFIG_NAME, in_utf8
from discrete_ae.records import Record
from discrete_ae.saving.hub import is_on_hub
from discrete_ae.statistics import Interval, mean_interval
from discrete_ae.writing import write_whole

ERROR_NAME = "error.txt"
"""File in the folder of a failed run with the reason in one line."""
CHECKPOINTS = ("best", "last")
_PARTS = ("model", "data", "trainer")  # of every config.yaml
FORMAT = "discrete-ae evaluation"
_LONG = ("code_counts", "files")
TABLE_HEADS = ("score of a recording", "mean", "95 % interval", "recordings", "unit", "better")
"""Heads of the rows of `Evaluation.rows`."""

Positive = Annotated[float, Field(gt=0)]
Figures = dict[str, int | float | None]


DECODED = "decoded_codebooks"
"""Key in a run's configuration: number of codebooks decoded, if the model was decoded from only some of them."""


class Run(Record):
    """The training run of a model."""

    name: str
    """Name of its folder, preceded by parent folders if a comparison needs them to make the name unique."""
    quantizer: str
    """Name of the quantizer option, such as "fourier"; another program may give any name for its method."""
    seed: int = 0
    config: dict[str, Any] = Field(default_factory=dict)
    """Nested plain data of its config.yaml."""
    folder: str = ""
    """Path of its folder, empty if unknown."""
    checkpoint: str = ""
    """Path of the checkpoint below the folder."""

    def decoded_from(self, num_codebooks: int | None) -> "Run":
        """Return the run, marked as decoded from only its first `num_codebooks` codebooks; None for all."""
        if num_codebooks is None:
            return self
        config = {**self.config, DECODED: num_codebooks}
        return self.model_copy(update={"name": f"{self.name}-{num_codebooks}codebooks", "config": config})


class FileScores(Record):
    """The scores of one recording."""

    path: str
    """Path below the data folder, with slashes."""
    duration_s: Positive
    scores: Figures
    """Values by name in `scores.PER_FILE`; None if a score is not defined for this recording."""
    sha256: str | None = None
    """Hash of the recording's file, which shows whether two evaluations used the same file."""


class Failure(Record):
    """A recording that could not be coded, or a missing input."""

    path: str
    reason: str
    """One line that names the recording or input."""
    sha256: str | None = None


class Excerpt(Record):
    """An excerpt of a recording for listening."""

    recording: str
    start_s: Annotated[float, Field(ge=0)]
    duration_s: Positive

    @property
    def place(self) -> tuple[str, float, float]:
        """Recording, start and duration, which are the same for every codec."""
        return self.recording, self.start_s, self.duration_s


class SavedClip(Excerpt):
    """An excerpt as a codec decoded it, at the codec's sample rate."""

    decoded: str
    """Path of the decoded audio file, relative to the folder of the JSON file."""
    original: str
    """Path of the original audio file, relative to the same folder."""


class Evaluation(Record):
    """The evaluation of one codec over one data set."""

    format: Literal["discrete-ae evaluation"] = "discrete-ae evaluation"
    version: Literal[1] = 1
    codec: str
    """Path of the checkpoint as given, or a name such as "opus 6 kbps"."""
    sample_rate: Annotated[int, Field(gt=0)]
    """Sample rate of the comparison, in Hz."""
    overall: Figures = Field(default_factory=dict)
    """Values by name in `scores.OVERALL`; None if not applicable, such as usage without codes."""
    model_hash: str | None = None
    run: Run | None = None
    """None for a model outside a run's folder, and for codecs that this package did not train, such as baselines."""
    keeps_waveform: bool = True
    """True if the codec aims to reproduce the waveform, so that SI-SDR is meaningful."""
    settings: dict[str, str | int | float | None] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of this package, of every score, and of the packages that compute them."""
    clips: tuple[SavedClip, ...] = ()
    failures: tuple[Failure, ...] = ()
    code_counts: tuple[tuple[Annotated[int, Field(ge=0)], ...], ...] = ()
    """Usage counts of the entries of each codebook, over all recordings; () without codes."""
    files: tuple[FileScores, ...]
    """Scores of the recordings that could be coded."""

    @property
    def title(self) -> str:
        """One line that names the codec and describes the evaluation."""
        count, seconds = len(self.files), math.fsum(file.duration_s for file in self.files)
        recordings, duration = counted(count, "recording"), f"{seconds:,.1f} s"
        alone = ", each channel alone" if self.settings.get("channels") == 1 else ""
        used, there = self.settings.get("codebooks"), self.settings.get("codebooks_of_model")
        fewer = "" if used == there else f", {used} of {there} codebooks"
        return f"{self.codec}: {recordings}, {duration}, compared at {self.sample_rate} Hz{alone}{fewer}"

    def count(self, name: str) -> int:
        """Return the number of recordings that have the score `name`."""
        return int(np.count_nonzero(~np.isnan(self.values(name))))

    def values(self, name: str) -> np.ndarray:
        """Return the score `name` of every recording (F,), in the order of `files`; NaN for missing values."""
        found = [file.scores.get(name) for file in self.files]
        return np.array([math.nan if value is None else value for value in found], dtype=np.float64)

    def means(self) -> dict[str, Interval]:
        """Return the unweighted mean over recordings of every score, with its 95 % interval."""
        names = [quantity.name for quantity in PER_FILE if any(quantity.name in file.scores for file in self.files)]
        return {name: mean_interval(self.values(name)) for name in names}

    def rows(self, missing: Sequence[str] = ()) -> list[tuple[str, ...]]:
        """Return a table row per score: label, mean, interval, number of recordings, unit, "higher" or "lower".

        Args:
            missing: names of scores that were not computed, shown as rows of dashes.
        """
        means = self.means()
        found: list[tuple[str, ...]] = []
        for quantity in (QUANTITIES[name] for name in (*means, *missing)):
            mean, low, high = map(quantity.shown, means.get(quantity.name, (None, None, None)))
            interval = "-" if low == "-" else f"{low} to {high}"
            better = {True: "higher", False: "lower", None: ""}[quantity.higher_is_better]
            found.append((quantity.label, mean, interval, str(self.count(quantity.name)), quantity.unit, better))
        return found

    def write_json(self, path: Path) -> None:
        """Write all results as JSON, for `read_json`. Means and intervals are for human readers, and not read back."""
        means = {
            name: {
                "recordings": self.count(name),
                **{key: None if math.isnan(value) else value for key, value in interval._asdict().items()},
            }
            for name, interval in self.means().items()
        }
        said = json.loads(self.model_dump_json())
        said = {**{key: said.pop(key) for key in list(said) if key not in _LONG}, "means": means, **said}
        lines = [f"{json.dumps(key)}: {_json(value, key in _LONG)}" for key, value in said.items()]
        write_whole(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())

    @classmethod
    def read_json(cls, path: Path) -> "Evaluation":
        """Read an evaluation that `write_json` or another program wrote.

        Raises:
            OSError: the file cannot be read.
            DataError: the file is not an evaluation, or names clips outside its own folder.
        """
        found = cls.read(path, "give a file that discrete-ae evaluate wrote, or one as docs/evaluation.md describes")
        folder = path.parent.resolve()
        for name in (name for clip in found.clips for name in (clip.decoded, clip.original)):
            if not (folder / name).resolve().is_relative_to(folder):
                raise DataError(f"{path}: the clip {name} is outside its folder; put clips beside the file")
        return found

    def write_csv(self, path: Path) -> None:
        """Write one row per recording: path, duration_s and every score. A value of None gives an empty cell."""
        names = list(self.means())
        rows = ([one.path, one.duration_s, *(one.scores.get(name) for name in names)] for one in self.files)
        write_whole(path, as_csv([["path", "duration_s", *names], *rows]))


def as_csv(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows as the bytes of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _json(value: Any, on_lines: bool) -> str:
    """Return JSON on one line or, if `on_lines`, with one line for each item."""
    if not on_lines:
        return json.dumps(value, allow_nan=False)
    return "[" + ",".join("\n" + json.dumps(item, allow_nan=False) for item in value) + "\n]"


class _Loader(yaml.SafeLoader):
    """A SafeLoader that rejects aliases: a few lines of them can expand to any number of values."""

    def compose_node(self, parent: object, index: object) -> object:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has a YAML alias, which training never writes")
        return super().compose_node(parent, index)


def read_run(folder: Path, checkpoint: str = "best") -> Run:
    """Read the run in a folder, with the checkpoint "best" or "last"; if that one is missing, with the other.

    Raises:
        DataError: the folder is not a run, the run failed, or it has no checkpoint. The message omits the folder.
    """
    try:
        if (error := folder / ERROR_NAME).exists():
            raise DataError(f"failed: {' '.join(error.read_text(encoding='utf-8', errors='replace').split())}")
        config = yaml.load((folder / CONFIG_NAME).read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"its {CONFIG_NAME} cannot be read ({' '.join(str(error).split())[:200]})") from error
    choices = isinstance(config, dict) and (config.get("choices") or {})
    if not isinstance(choices, dict) or not all(isinstance(config.get(key), dict) for key in _PARTS):
        raise DataError(f"its {CONFIG_NAME} was not written by discrete-ae train")
    names = [f"checkpoints/{name}.ckpt" for name in sorted(CHECKPOINTS, key=lambda name: name != checkpoint)]
    there = [name for name in names if (folder / name).is_file()]
    if not there:
        raise DataError("no checkpoint; the run was interrupted before its first validation, or is still running")
    return Run(
        name=in_utf8(folder.name),
        quantizer=in_utf8(str(choices.get("quantizer") or folder.name)),
        seed=config["seed"] if isinstance(config.get("seed"), int) else 0,
        config=config,
        folder=in_utf8(str(folder)),
        checkpoint=there[0],
    )


def run_of(checkpoint: Path) -> Run | None:
    """Return the run whose folder holds a checkpoint; None if there is no such run."""
    folder = checkpoint.absolute().parent.parent
    if is_on_hub(checkpoint) or not (folder / CONFIG_NAME).is_file():
        return None
    try:
        run = read_run(folder, checkpoint.stem)
    except DataError:
        return None
    return run.model_copy(update={"checkpoint": checkpoint.absolute().relative_to(folder).as_posix()})
