"""What a page shows; how it looks is in the template beside this file."""

from dataclasses import dataclass, field
from typing import NamedTuple

ORIGINAL = "original"
"""Key of the version that all others are made of."""


class Column(NamedTuple):
    """A column of the table."""

    key: str
    label: str
    unit: str
    higher_is_better: bool | None
    meaning: str
    is_minor: bool = False
    """Whether it is shown only on demand; not that by which the rows come sorted, nor on paper."""


class Cell(NamedTuple):
    """One figure of the table."""

    value: float | None
    """What the table is sorted by; None sorts last."""
    text: str
    """What is read, such as "4.02 ± 0.11"; a dash where there is no value."""
    is_best: bool | None = None
    """Whether it stands out as the best of its column; None: it does if its value is the best of the methods."""


class Row(NamedTuple):
    """One method, or one baseline."""

    label: str
    cells: dict[str, Cell]
    """By key of a column."""
    is_baseline: bool
    note: str
    """Such as "3 seeds"; may be empty."""
    is_bound: bool = False
    """The model without quantization: like a baseline, no candidate for the best of a column."""

    @property
    def remark(self) -> str:
        """What it is if it is not a method."""
        return "baseline" if self.is_baseline else "upper bound" if self.is_bound else ""


class PairRow(NamedTuple):
    """How two methods differ in one quantity, in words."""

    first: str
    second: str
    quantity: str
    """Its label."""
    difference: str
    """Of the first less the second, such as "−0.42 dB"."""
    interval: str
    """Such as "−0.53 to −0.31"; a dash where there is none."""
    verdict: str
    """Such as "better"."""


class Figure(NamedTuple):
    """A plot."""

    title: str
    svg: str
    """From `<svg` on; what is drawn in black of text and axes is `currentColor`, its background transparent."""
    description: str
    """In words, for those who do not see it, and below it for all."""


class Version(NamedTuple):
    """One rendering of a clip."""

    key: str
    """`ORIGINAL`, or a name that is the same in every clip."""
    label: str
    flac: bytes
    spectrogram_png: bytes
    """Empty of an anchor."""
    note: str
    """Such as "3.2 kbps, SI-SDR 4.1 dB"; may be empty."""


class Clip(NamedTuple):
    """A stretch of a recording, in every version, all of one length and sample rate."""

    name: str
    duration_s: float
    versions: tuple[Version, ...]
    """The original first; all clips have the same keys in the same order."""
    anchors: tuple[Version, ...] = ()
    """Low-passed originals, which are heard in the blind test only: `ratings.ANCHORS`."""


@dataclass(frozen=True)
class Page:
    """Everything on it, from top to bottom."""

    title: str
    summary: list[str]
    """Sentences: what was compared, on what, how long, by how many seeds."""
    columns: list[Column]
    rows: list[Row]
    """The best first, in the column `sorted_by`."""
    sorted_by: str
    """Key of a column."""
    findings: list[str]
    """Sentences: which differences are larger than the spread, and which are not."""
    figures: list[Figure]
    clips: list[Clip]
    notes: list[str]
    """Sentences: what the figures do and do not show, what was skipped, runs that failed."""
    commands: list[str] = field(default_factory=list)
    """That made the page."""
    version: str = ""
    """Of the program."""
    pairs: list[PairRow] = field(default_factory=list)
    """Below the findings, folded up."""
