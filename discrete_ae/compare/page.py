"""A page as one HTML file: styles, programs, pictures and recordings are in it, and it may load nothing.

How it looks is in the folder `web` beside this file.
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
"""Key of the version that all others are made of."""
WEB = Path(__file__).parent / "web"
SECTIONS = {
    "findings": "Differences",
    "rows": "Table",
    "figures": "Plots",
    "clips": "Listening",
    "notes": "Limits",
    "command": "Command",
}
"""Attributes of a page that are sections of it, in their order, by their names in the line of links."""


class Cell(NamedTuple):
    """One figure of the table."""

    value: float | None
    """What the table is sorted by; None sorts last."""
    text: str
    """What is read, such as "4.02 ± 0.11"; a dash where there is no value."""
    is_best: bool = False
    """Whether it stands out as the best of its column."""


class Row(NamedTuple):
    """One method, or one baseline."""

    label: str
    cells: dict[str, Cell]
    """By name of a column."""
    remark: str = ""
    """What it is if it is not a method: it does not compete."""
    note: str = ""
    """Such as "3 seeds"."""


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
    findings: list[str]
    """Sentences: which differences are larger than the spread, and which are not."""
    pairs: Mapping[str, list[tuple[str, ...]]]
    """By label of a score, below the findings, folded up: both methods, their difference, its interval, the verdict."""
    columns: list[Quantity]
    rows: list[Row]
    """The best first, in the column `sorted_by`."""
    sorted_by: str
    """Name of a column."""
    figures: list[Plot]
    clips: list[Clip]
    notes: list[str]
    """Sentences: what the figures do and do not show, what was skipped, runs that failed."""
    minor: Collection[str] = field(default=())
    """Names of columns that are shown only on demand; not that by which the rows come sorted, nor on paper."""
    command: str = ""
    """That made the page."""
    version: str = ""
    """Of the program."""


def render(page: Page) -> str:
    """Return the HTML of the page, in which a section without content is left out.

    Texts may hold anything; the SVG of a figure is taken as it is.
    """
    names = ["start.js", "report.js", *(["player.js", "grid.js", "blind.js"] if page.clips else [])]
    scripts = [Markup((WEB / name).read_text(encoding="utf-8")) for name in names]
    filled = {key for key in SECTIONS if getattr(page, key)} | ({"findings"} if page.pairs else set())
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
            # Beside the methods, the hidden reference and the anchors are rated.
            most_methods=MAX_CONDITIONS - 1 - len(page.clips[0].anchors) if page.clips else 0,
            policy=_policy(scripts),
            style=Markup((WEB / "style.css").read_text(encoding="utf-8")),
            scripts=scripts,
        )
    )


def material(clips: Sequence[Clip]) -> str:
    """Return a digest of what there is to hear: ratings with different ones are of different sounds."""
    described = [
        [clip.name, *([version.key, _sha256(version.flac).hex()] for version in (*clip.versions, *clip.anchors))]
        for clip in clips
    ]
    return _sha256(json.dumps(described).encode()).hex()[:16]


def _environment() -> jinja2.Environment:
    """Return the environment of a template that escapes what it is given, and fails at a name that it is not given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    # A line may end behind the underscores of a name.
    environment.filters["breakable"] = lambda name: escape(name).replace("_", Markup("_<wbr>"))
    environment.filters["exact"] = lambda value: "" if value is None else repr(float(value))
    return environment


def _policy(scripts: Sequence[str]) -> str:
    """Return the content security policy of a page that loads nothing and runs these inline scripts and no others.

    Styles are allowed inline, since matplotlib writes them into its drawings; pictures as data.
    """
    hashes = " ".join(f"'sha256-{base64.b64encode(_sha256(script.encode())).decode()}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _confined(name: str, svg: str) -> str:
    """Return the drawing with its ids renamed and its styles confined, so that it does not meddle with others."""
    svg = re.sub(r'(?<=\bid=")(?=[^"])', f"{name}-", svg)
    svg = re.sub(r'(?<=href="#)|(?<=url\(#)', f"{name}-", svg)
    return re.sub(r"(<style[^>]*>\s*)\*", rf"\g<1>#{name} *", svg)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
