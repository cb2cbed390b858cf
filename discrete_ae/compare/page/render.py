"""A page as one HTML file: styles, programs, pictures and recordings are in it, and it may load nothing."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from discrete_ae.compare.page.content import Clip, Column, Page, Row
from discrete_ae.compare.ratings import MAX_CONDITIONS

FOLDER = Path(__file__).parent
SECTIONS = {
    "findings": "Differences",
    "rows": "Table",
    "figures": "Plots",
    "clips": "Listening",
    "notes": "Limits",
    "commands": "Commands",
}
"""Attributes of a page that are sections of it, in their order, by their names in the line of links."""


def render(page: Page) -> str:
    """Return the HTML of the page, in which a section without content is left out.

    Texts may hold anything; the SVG of a figure is taken as it is.
    """
    names = ["start.js", "report.js", *(["player.js", "grid.js", "blind.js"] if page.clips else [])]
    scripts = [Markup((FOLDER / name).read_text(encoding="utf-8")) for name in names]
    filled = {key for key in SECTIONS if getattr(page, key)} | ({"findings"} if page.pairs else set())
    columns = [column._replace(is_minor=column.is_minor and column.key != page.sorted_by) for column in page.columns]
    return (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            sections={key: name for key, name in SECTIONS.items() if key in filled},
            columns=sorted(columns, key=lambda column: column.is_minor),
            best={column.key: best(page.rows, column) for column in columns},
            drawings=[_confined(f"figure-{number}", figure.svg) for number, figure in enumerate(page.figures, 1)],
            material=material(page.clips),
            # Beside the methods, the hidden reference and the anchors are rated.
            most_methods=MAX_CONDITIONS - 1 - len(page.clips[0].anchors) if page.clips else 0,
            policy=_policy(scripts),
            style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
            scripts=scripts,
        )
    )


def best(rows: Sequence[Row], column: Column) -> set[str]:
    """Return the labels of the rows that stand out in a column.

    They are those whose cells say so. Where no cell does, they are the methods with the best value, if there are two to
    choose from.
    """
    cells = {row.label: row.cells[column.key] for row in rows if column.key in row.cells}
    given = {label for label, cell in cells.items() if cell.is_best}
    methods = [row.label for row in rows if not row.remark and row.label in cells and cells[row.label].is_best is None]
    values = {label: value for label in methods if (value := cells[label].value) is not None}
    if given or column.higher_is_better is None or len(values) < 2:
        return given
    wanted = max(values.values()) if column.higher_is_better else min(values.values())
    return {label for label, value in values.items() if value == wanted}


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
        loader=jinja2.FileSystemLoader(FOLDER),
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
    rules = {
        "default-src": "'none'",
        "script-src": hashes,
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _confined(name: str, svg: str) -> str:
    """Return the drawing with its ids renamed and its styles confined, so that it does not meddle with others."""
    svg = re.sub(r'(?<=\bid=")(?=[^"])', f"{name}-", svg)
    svg = re.sub(r'(?<=href="#)|(?<=url\(#)', f"{name}-", svg)
    return re.sub(r"(<style[^>]*>\s*)\*", rf"\g<1>#{name} *", svg)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
