"""Results of an evaluation: a JSON file of everything, which `compare` reads, and CSV of one row a recording.

docs/evaluation.md tells of the file, for codecs that are not of this package too. The run that a model comes from is
read from its folder.
"""

import csv
import io
import json
import math
import re
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
"""In the folder of a run that failed: why, in one line."""
CHECKPOINTS = ("best", "last")
# A folder is called <quantizer>-3.2kbps-seed0; sweeps append what else they vary.
_AFTER_QUANTIZER = re.compile(r"-(?:seed\d|[\d.]+(?:e\+?\d+)?kbps|unquantized|invalid).*$")
FORMAT = "discrete-ae evaluation"
_LONG = ("code_counts", "files")

Positive = Annotated[float, Field(gt=0)]
Figures = dict[str, int | float | None]


DECODED = "decoded_codebooks"
"""Key in the configuration of a run that was decoded from fewer codebooks than it has: how many."""


class Run(Record):
    """The training that a model comes from."""

    name: str
    """That of its folder; with as many of the folders above as tell it from the other runs of a comparison."""
    quantizer: str
    """The option that was chosen, such as "fourier"; of another program whatever names the method."""
    seed: int = 0
    config: dict[str, Any] = Field(default_factory=dict)
    """Nested plain data of its config.yaml."""
    folder: str = ""
    """Where it lay, empty if unknown."""
    checkpoint: str = ""
    """Below the folder."""

    def decoded_from(self, num_codebooks: int | None) -> "Run":
        """Return the run decoded from its first codebooks, another rate of one training; None is the run itself."""
        if num_codebooks is None:
            return self
        config = {**self.config, DECODED: num_codebooks}
        return self.model_copy(update={"name": f"{self.name}-{num_codebooks}codebooks", "config": config})


class FileScores(Record):
    """The scores of one recording."""

    path: str
    """Below the data folder, with slashes."""
    duration_s: Positive
    scores: Figures
    """By name of `scores.PER_FILE`; None where a score is not defined for this recording."""
    sha256: str | None = None
    """Of the recording's file, by which others know that they measured the same."""


class Failure(Record):
    """A recording that could not be coded, or an input that is not there."""

    path: str
    reason: str
    """One line that names it."""
    sha256: str | None = None


class Excerpt(Record):
    """A stretch of a recording to listen to."""

    recording: str
    start_s: Annotated[float, Field(ge=0)]
    duration_s: Positive

    @property
    def place(self) -> tuple[str, float, float]:
        """The recording, start and duration: the same for every codec."""
        return self.recording, self.start_s, self.duration_s


class SavedClip(Excerpt):
    """An excerpt as a codec decoded it, at the codec's sample rate."""

    decoded: str
    """Audio file, below the folder of the JSON file."""
    original: str
    """Audio file, likewise."""


class Evaluation(Record):
    """The evaluation of one codec over one data set."""

    format: Literal["discrete-ae evaluation"] = "discrete-ae evaluation"
    version: Literal[1] = 1
    codec: str
    """The checkpoint's path as it was given, or a name such as "opus 6 kbps"."""
    sample_rate: Annotated[int, Field(gt=0)]
    """In Hz, at which reconstructions were compared."""
    overall: Figures = Field(default_factory=dict)
    """By name of `scores.OVERALL`; None where there is no such thing, as usage without codes."""
    model_hash: str | None = None
    run: Run | None = None
    """None of a model that lies outside its run, and of what was not trained here: a baseline in a comparison."""
    keeps_waveform: bool = True
    """Whether it is meant to give back the waveform, so that SI-SDR says something of it."""
    settings: dict[str, str | int | float | None] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    """Of this package, of every score, and of what computes it."""
    clips: tuple[SavedClip, ...] = ()
    failures: tuple[Failure, ...] = ()
    code_counts: tuple[tuple[Annotated[int, Field(ge=0)], ...], ...] = ()
    """How often each entry of each codebook was used, over all recordings; () without codes."""
    files: tuple[FileScores, ...]
    """Recordings that could not be coded are not among them."""

    @property
    def title(self) -> str:
        """One line that names the codec and says on what it was evaluated."""
        count, seconds = len(self.files), math.fsum(file.duration_s for file in self.files)
        recordings, duration = counted(count, "recording"), f"{seconds:,.1f} s"
        alone = ", each channel alone" if self.settings.get("channels") == 1 else ""
        used, there = self.settings.get("codebooks"), self.settings.get("codebooks_of_model")
        fewer = "" if used == there else f", {used} of {there} codebooks"
        return f"{self.codec}: {recordings}, {duration}, compared at {self.sample_rate} Hz{alone}{fewer}"

    def count(self, name: str) -> int:
        """Return the number of recordings that have a score."""
        return int(np.count_nonzero(~np.isnan(self.values(name))))

    def values(self, name: str) -> np.ndarray:
        """Return a score of every recording (F,), in the order of `files`; NaN where there is none."""
        found = [file.scores.get(name) for file in self.files]
        return np.array([math.nan if value is None else value for value in found], dtype=np.float64)

    def means(self) -> dict[str, Interval]:
        """Return the means over recordings, each counting alike, of every score, with their 95 % intervals."""
        names = [quantity.name for quantity in PER_FILE if any(quantity.name in file.scores for file in self.files)]
        return {name: mean_interval(self.values(name)) for name in names}

    def rows(self, missing: Sequence[str] = ()) -> list[tuple[str, ...]]:
        """Return a table: of every score label, mean, interval, number of recordings, unit and which way is better.

        Args:
            missing: names of scores that were not computed, as rows of dashes.
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
        """Write everything; see `read_json`. The means with their intervals are in it for people, and not read back."""
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
            DataError: it is no evaluation, or names clips outside its own folder.
        """
        found = cls.read(path, "give a file that discrete-ae evaluate wrote, or one as in docs/evaluation.md")
        folder = path.parent.resolve()
        for name in (name for clip in found.clips for name in (clip.decoded, clip.original)):
            if not (folder / name).resolve().is_relative_to(folder):
                raise DataError(f"{path}: the clip {name} lies outside its folder; put clips beside the file")
        return found

    def write_csv(self, path: Path) -> None:
        """Write one row a recording: path, duration_s, and every score; empty where it is None."""
        names = list(self.means())
        rows = ([one.path, one.duration_s, *(one.scores.get(name) for name in names)] for one in self.files)
        write_whole(path, as_csv([["path", "duration_s", *names], *rows]))


def as_csv(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows as a file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _json(value: Any, on_lines: bool) -> str:
    """Return JSON on one line, or with one line an item."""
    if not on_lines:
        return json.dumps(value, allow_nan=False)
    return "[" + ",".join("\n" + json.dumps(item, allow_nan=False) for item in value) + "\n]"


class _Loader(yaml.SafeLoader):
    """Takes no aliases: a few lines of them can stand for any number of values."""

    def compose_node(self, parent: object, index: object) -> object:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it names a part by an alias, which training never writes")
        return super().compose_node(parent, index)


def read_run(folder: Path, checkpoint: str = "best") -> Run:
    """Read the run in a folder, with the checkpoint that is wanted, or the other one where that is missing.

    Raises:
        DataError: it is no run, it failed, or it has no checkpoint; said without naming the folder.
    """
    try:
        if (error := folder / ERROR_NAME).exists():
            raise DataError(f"failed: {' '.join(error.read_text(encoding='utf-8', errors='replace').split())}")
        config = yaml.load((folder / CONFIG_NAME).read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"its {CONFIG_NAME} cannot be read ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(config, dict) or not all(
        isinstance(config.get(key), dict) for key in ("model", "data", "trainer")
    ):
        raise DataError(f"its {CONFIG_NAME} is not one of discrete-ae train")
    names = [f"checkpoints/{name}.ckpt" for name in sorted(CHECKPOINTS, key=lambda name: name != checkpoint)]
    there = [name for name in names if (folder / name).is_file()]
    if not there:
        raise DataError("no checkpoint; it was broken off before its first validation, or still runs")
    choices = config.get("choices")
    chosen = choices.get("quantizer") if isinstance(choices, dict) else None
    return Run(
        name=in_utf8(folder.name),
        quantizer=str(chosen) if chosen else in_utf8(_AFTER_QUANTIZER.sub("", folder.name)),
        seed=config["seed"] if isinstance(config.get("seed"), int) else 0,
        config=config,
        folder=in_utf8(str(folder)),
        checkpoint=there[0],
    )


def run_of(checkpoint: Path) -> Run | None:
    """Return the run in whose folder a checkpoint lies, None where it lies in none."""
    folder = checkpoint.absolute().parent.parent
    if is_on_hub(checkpoint) or not (folder / CONFIG_NAME).is_file():
        return None
    try:
        run = read_run(folder, checkpoint.stem)
    except DataError:
        return None
    return run.model_copy(update={"checkpoint": checkpoint.absolute().relative_to(folder).as_posix()})
