"""Content of a page in the form in which the template shows it."""

import base64
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from discrete_ae.compare.page.content import Cell, Clip, Column, Figure, Page, Row, Version

NO_CELL = Cell(None, "–")


class Head(NamedTuple):
    """Heading of a column."""

    label: str
    unit: str
    meaning: str
    better: str
    """"higher", "lower", or empty."""
    first: str
    """Which way the first press sorts, so that the best comes first."""
    sorted: str
    """Which way the rows come sorted by it; empty if they are not."""
    is_minor: bool


class TableCell(NamedTuple):
    """`value` is the number in full, empty where there is none."""

    value: str
    text: str
    is_best: bool
    is_minor: bool


class TableRow(NamedTuple):
    """`remark` says what it is if it is not a method."""

    label: str
    remark: str
    note: str
    cells: list[TableCell]


class Drawing(NamedTuple):
    """A figure, with an id that is its own."""

    id: str
    title: str
    svg: str
    description: str


class GridCell(NamedTuple):
    """A version of a clip, its files in base64."""

    version: Version
    audio_id: str
    audio: str
    picture: str


class GridRow(NamedTuple):
    """A clip in all its versions."""

    name: str
    duration_s: float
    cells: list[GridCell]


def heads(page: Page) -> list[Head]:
    """Headings of the table, that of the methods' names first."""
    return [Head("method", "", "", "", "ascending", "", is_minor=False)] + [
        Head(
            column.label,
            column.unit,
            column.meaning,
            {True: "higher", False: "lower", None: ""}[column.higher_is_better],
            _first(column),
            _order(page, column) if column.key == page.sorted_by else "",
            _is_minor(page, column),
        )
        for column in columns(page)
    ]


def columns(page: Page) -> list[Column]:
    """Of the table, those that are shown only on demand last."""
    return sorted(page.columns, key=lambda column: _is_minor(page, column))


def table_rows(page: Page) -> list[TableRow]:
    """Rows of the table in the order of the page."""
    shown = [(column, _best(page.rows, column), _is_minor(page, column)) for column in columns(page)]
    return [TableRow(row.label, _remark(row), row.note, [_cell(row, *about) for about in shown]) for row in page.rows]


def drawing(name: str, figure: Figure) -> Drawing:
    """The figure with its ids renamed and its styles confined, so that it does not meddle with others on the page."""
    svg = re.sub(r'(?<=\bid=")(?=[^"])', f"{name}-", figure.svg)
    svg = re.sub(r'(?<=href="#)|(?<=url\(#)', f"{name}-", svg)
    svg = re.sub(r"(<style[^>]*>\s*)\*", rf"\g<1>#{name} *", svg)
    return Drawing(name, figure.title, svg, figure.description)


def grid(clips: Sequence[Clip]) -> list[GridRow]:
    """Rows of the listening grid.

    Raises:
        ValueError: the clips have not all the same versions, each once.
    """
    for clip in clips:
        keys, expected = ([version.key for version in of.versions] for of in (clip, clips[0]))
        if keys != expected or len(set(keys)) < len(keys):
            raise ValueError(f"clips have the same versions, each once: {expected}; {clip.name} has {keys}")
    return [
        GridRow(
            clip.name,
            clip.duration_s,
            [
                GridCell(version, f"audio-{row}-{column}", _base64(version.flac), _base64(version.spectrogram_png))
                for column, version in enumerate(clip.versions, 1)
            ],
        )
        for row, clip in enumerate(clips, 1)
    ]


def _remark(row: Row) -> str:
    return "baseline" if row.is_baseline else "upper bound" if row.is_bound else ""


def _is_minor(page: Page, column: Column) -> bool:
    return column.is_minor and column.key != page.sorted_by


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _best(rows: Sequence[Row], column: Column) -> float | None:
    """Best value of the methods; None if there are not two to choose from, or neither way is better."""
    found = [row.cells.get(column.key, NO_CELL).value for row in rows if not _remark(row)]
    values = [value for value in found if value is not None and _known(value)]
    if column.higher_is_better is None or len(values) < 2:
        return None
    return max(values) if column.higher_is_better else min(values)


def _cell(row: Row, column: Column, best: float | None, is_minor: bool) -> TableCell:
    cell = row.cells.get(column.key, NO_CELL)
    value = repr(float(cell.value)) if cell.value is not None and _known(cell.value) else ""
    is_best = best is not None and not _remark(row) and cell.value == best if cell.is_best is None else cell.is_best
    return TableCell(value, cell.text, is_best, is_minor)


def _first(column: Column) -> str:
    return "ascending" if column.higher_is_better is False else "descending"


def _order(page: Page, column: Column) -> str:
    """Which way the rows come sorted, as their values say."""
    values = [row.cells.get(column.key, NO_CELL).value for row in page.rows]
    known = [value for value in values if value is not None and _known(value)]
    rising, falling = known == sorted(known), known == sorted(known, reverse=True)
    return _first(column) if rising == falling else "ascending" if rising else "descending"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
