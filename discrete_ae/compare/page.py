"""The page of a report: one HTML file with its styles, scripts, pictures and recordings, which may load nothing else.

The folder `web` next to this module has the template, the styles and the scripts.
"""

import base64
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup, escape

from discrete_ae.compare.drawing import Plot
from discrete_ae.compare.ratings import MAX_CONDITIONS
from discrete_ae.evaluation.scores import Quantity

ORIGINAL = "original"
"""Key of the original among the versions of a clip."""
WEB = Path(__file__).parent / "web"
SECTIONS = {
    "rows": "Results",
    "findings": "Differences",
    "figures": "Plots",
    "clips": "Listening",
    "notes": "Limits",
    "command": "Command",
}
"""Names of the sections in the navigation links, in their order, by attribute of `Page`."""


class Cell(NamedTuple):
    """One figure of the table."""

    value: float | None
    """Value by which the table is sorted; None comes last."""
    text: str
    """Text of the cell, such as "4.02 ± 0.11"; a dash for a missing value."""
    is_best: bool = False
    """True if the cell is highlighted as the best of its column."""


class Row(NamedTuple):
    """One method, or one baseline."""

    label: str
    cells: dict[str, Cell]
    """Cells by name of their column."""
    remark: str = ""
    """Kind of a row that does not compete, such as "other codec"; empty for a method."""
    note: str = ""
    """A note such as "3 seeds"."""


class Version(NamedTuple):
    """One rendering of a clip."""

    key: str
    """`ORIGINAL`, or a name shared by all clips."""
    label: str
    flac: bytes
    spectrogram_png: bytes
    """Empty for an anchor."""
    note: str
    """A note such as "3.2 kbps, SI-SDR 4.1 dB"; may be empty."""


class Clip(NamedTuple):
    """An excerpt of a recording in every version; all versions have one length and sample rate."""

    name: str
    duration_s: float
    versions: tuple[Version, ...]
    """Versions, the original first; all clips have the same keys in the same order."""
    anchors: tuple[Version, ...] = ()
    """Low-passed originals for the blind test only: `ratings.ANCHORS`."""


@dataclass(frozen=True)
class Page:
    """The content of a page, from top to bottom."""

    title: str
    headline: str
    """One sentence: the result."""
    facts: Mapping[str, str]
    """Facts on the comparison by heading."""
    columns: list[Quantity]
    rows: list[Row]
    """Rows of the table, the best first in the column `sorted_by`."""
    sorted_by: str
    """Name of a column."""
    findings: list[str]
    """Sentences on the differences between methods."""
    pairs: Mapping[str, list[tuple[str, ...]]]
    """Tables of differences by title; the first table is unfolded. A row has both methods, their difference, its
    interval and the verdict."""
    method: list[str]
    """Folded paragraphs on how differences are judged."""
    figures: list[Plot]
    clips: list[Clip]
    notes: list[str]
    """Sentences: limits of the comparison, and runs and recordings that were skipped."""
    not_drawn: str = ""
    """Sentence on plots that are left out."""
    minor: Collection[str] = field(default=())
    """Names of columns that are hidden at first, and in print; the column `sorted_by` is always shown."""
    command: str = ""
    """The command that made the page."""
    version: str = ""
    """Version of the program."""


def render(page: Page) -> str:
    """Return the HTML of the page without its empty sections.

    Texts are escaped; the SVG of a figure is inserted unchanged.
    """
    names = ["start.js", "report.js", *(["player.js", "grid.js", "blind.js"] if page.clips else [])]
    scripts = [Markup((WEB / name).read_text(encoding="utf-8")) for name in names]
    filled = {key for key in SECTIONS if getattr(page, key)} | ({"findings"} if page.pairs or page.method else set())
    minor = {column.name for column in page.columns if column.name in page.minor and column.name != page.sorted_by}
    return (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            sections={key: name for key, name in SECTIONS.items() if key in filled},
            columns=sorted(page.columns, key=lambda column: column.name in minor),
            minor=minor,
            drawings=[_confined(f"figure-{number}", figure.svg) for number, figure in enumerate(page.figures, 1)],
            material=material(page.clips),
            # The hidden reference and the anchors are rated too.
            most_methods=MAX_CONDITIONS - 1 - len(page.clips[0].anchors) if page.clips else 0,
            policy=_policy(scripts),
            style=Markup((WEB / "style.css").read_text(encoding="utf-8")),
            scripts=scripts,
        )
    )


def material(clips: Sequence[Clip]) -> str:
    """Return a digest of all clips and anchors; ratings of different sounds have different digests."""
    described = [
        [clip.name, *([version.key, _sha256(version.flac).hex()] for version in (*clip.versions, *clip.anchors))]
        for clip in clips
    ]
    return _sha256(json.dumps(described).encode()).hex()[:16]


def _environment() -> jinja2.Environment:
    """Return the template environment, which escapes all values and rejects undefined names."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    # Allow a line break after an underscore.
    environment.filters["breakable"] = lambda name: escape(name).replace("_", Markup("_<wbr>"))
    environment.filters["exact"] = lambda value: "" if value is None else repr(float(value))
    return environment


def _policy(scripts: Sequence[str]) -> str:
    """Return a content security policy that allows only these inline scripts, inline styles, and pictures as data URLs.

    Inline styles are needed because matplotlib writes them into its drawings.
    """
    hashes = " ".join(f"'sha256-{base64.b64encode(_sha256(script.encode())).decode()}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _confined(name: str, svg: str) -> str:
    """Return the drawing with unique ids and local styles, so that drawings do not affect one another."""
    svg = re.sub(r'(?<=\bid=")(?=[^"])', f"{name}-", svg)
    svg = re.sub(r'(?<=href="#)|(?<=url\(#)', f"{name}-", svg)
    return re.sub(r"(<style[^>]*>\s*)\*", rf"\g<1>#{name} *", svg)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
