"""How plots of a comparison look, in every one alike: a method has its color, marker and line; SVG follows the page.

In SVG what is ink is `currentColor` on a transparent background, and text stays text; PNG is black on white.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

COLORS = ("#3b7fd9", "#dd5f1e", "#2b9348", "#8f6bd6", "#d6455d", "#1590a5", "#9c6f3f", "#d152a6", "#8a8a12", "#5966e0")
"""Each at least 3 : 1 against white and against the page's dark background, as WCAG 2.2 asks of graphics."""
OUTSIDE = "#7d7f85"
"""Of what is no method: the model without quantization, baselines."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
BASELINE_MARKERS = ("*", "P", "X", "d", "h", "p")
LINES = ("-", "--", ":", "-.")
SOFT = (0, (1, 1))
WIDTH = 7.4

_INK = "#010204"  # stands for currentColor until the picture is text
_RC: dict[Any, Any] = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.linestyle": "-",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "text.parse_math": False,  # labels hold what users wrote, and two "$" are no formula
}
_INKED: tuple[Any, ...] = (
    "text.color",
    "axes.edgecolor",
    "axes.labelcolor",
    "xtick.color",
    "ytick.color",
    "grid.color",
)


class Style(NamedTuple):
    """Of a method, in all plots."""

    color: str
    marker: str
    line: Any
    """As matplotlib names it."""


class Plot(NamedTuple):
    """What is to be drawn."""

    name: str
    """Of its files."""
    title: str
    description: str
    """In words."""
    draw: Callable[[], Canvas]


class Picture(NamedTuple):
    """A plot as it was drawn."""

    svg: str
    """From `<svg` on."""
    png: bytes


def styles(labels: Sequence[str], without_codes: Sequence[str] = ()) -> dict[str, Style]:
    """Of methods by label, in the order given; no two alike up to 110 of them. Those without codes are grey."""
    found = {}
    coded = [label for label in labels if label not in without_codes]
    for i, label in enumerate(coded):
        found[label] = Style(COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], LINES[i // len(COLORS) % len(LINES)])
    for i, label in enumerate(label for label in labels if label in without_codes):
        found[label] = Style(OUTSIDE, MARKERS[i % len(MARKERS)], LINES[(i + 1) % len(LINES)])
    return found


def render(plot: Plot) -> Picture:
    """Draw twice: to stand in a page of any color, and on white."""
    svg, png = io.StringIO(), io.BytesIO()
    # The salt keeps names inside the picture the same from one drawing to the next.
    with rc_context({**_RC, **dict.fromkeys(_INKED, _INK), "svg.hashsalt": plot.name}):
        plot.draw().savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    with rc_context({**_RC, **dict.fromkeys(_INKED, "black")}):
        plot.draw().savefig(png, format="png", dpi=160, facecolor="white")
    text = svg.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return Picture(text.replace(_INK, "currentColor"), png.getvalue())


def handles(of: dict[str, Style], *, lines: bool) -> list[Line2D]:
    """Entries of a legend: a marker each, or a line with a marker."""
    return [
        Line2D([], [], color=style.color, marker=style.marker, linestyle=style.line if lines else "", label=label)
        for label, style in of.items()
    ]


def add_legend(figure: Canvas, entries: Sequence[Line2D]) -> None:
    """Right of all axes, where it hides nothing."""
    figure.legend(handles=list(entries), loc="outside right upper")


def canvas(height: float, panels: int = 1, *, entries: int = 0) -> tuple[Canvas, list[Axes]]:
    """A figure of the width that all have, in inches, as high as its legend needs, and its axes below one another."""
    figure = Canvas(figsize=(WIDTH, max(height, 0.21 * entries + 0.4)), layout="constrained")
    return figure, list(figure.subplots(panels, 1, squeeze=False)[:, 0])
