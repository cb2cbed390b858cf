"""How the plots of a comparison look: a method has its color, marker and line in all of them.

In SVG what is ink is `currentColor` on a transparent background, and text stays text; PNG has the ink on white.
"""

import io
import re
from collections.abc import Container, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

COLORS = ("#3b7fd9", "#dd5f1e", "#2b9348", "#8f6bd6", "#d6455d", "#1590a5", "#9c6f3f", "#d152a6", "#8a8a12", "#5966e0")
"""Each at least 3 : 1 against white and against the page's dark background, as WCAG 2.2 asks of graphics."""
OUTSIDE = "#7d7f85"
"""Color of what is no method: the model without quantization, baselines."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
_LINES = ("-", "--", ":", "-.")
_WIDTH = 7.4
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
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    "grid.color": _INK,
}


class Style(NamedTuple):
    """Look of a method in all plots."""

    color: str
    marker: str
    line: Any
    """As matplotlib names it."""


@dataclass(frozen=True)
class Plot:
    """A plot with what is said of it."""

    name: str
    """Stem of its files."""
    title: str
    description: str
    """In words, for those who do not see it, and below it for all."""
    figure: Figure

    @cached_property
    def svg(self) -> str:
        """From `<svg` on; what is ink in it is `currentColor`, its background transparent."""
        file = io.StringIO()
        # The salt keeps names inside the picture the same from one drawing to the next.
        with rc_context({**_RC, "svg.hashsalt": self.name}):
            self.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        text = file.getvalue()
        text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
        return text.replace(_INK, "currentColor")

    @cached_property
    def png(self) -> bytes:
        """On white."""
        file = io.BytesIO()
        with look():
            self.figure.savefig(file, format="png", dpi=160, facecolor="white")
        return file.getvalue()


def styles(labels: Sequence[str], without_codes: Sequence[str] = ()) -> dict[str, Style]:
    """Return the styles of methods by label; no two alike up to 110 of them. Those without codes are grey."""
    found = {}
    coded = [label for label in labels if label not in without_codes]
    for i, label in enumerate(coded):
        line = _LINES[i // len(COLORS) % len(_LINES)]
        found[label] = Style(COLORS[i % len(COLORS)], _MARKERS[i % len(_MARKERS)], line)
    for i, label in enumerate(label for label in labels if label in without_codes):
        found[label] = Style(OUTSIDE, _MARKERS[i % len(_MARKERS)], _LINES[(i + 1) % len(_LINES)])
    return found


def look() -> AbstractContextManager[None]:
    """Return a context in which what is drawn has the look of a comparison."""
    return rc_context(_RC)


def canvas(height: float, panels: int = 1, *, entries: int = 0) -> tuple[Figure, list[Axes]]:
    """Return a figure at least so high, in inches, and as its legend needs, with its axes below one another."""
    figure = Figure(figsize=(_WIDTH, max(height, 0.21 * entries + 0.4)), layout="constrained")
    return figure, list(figure.subplots(panels, 1, squeeze=False)[:, 0])


def add_legend(
    figure: Figure, of: Mapping[str, Style], others: Sequence[Line2D] = (), *, lines: Container[str] | None = None
) -> None:
    """Add a legend right of all axes, where it hides nothing: methods by marker, those in `lines` by line too; others.

    None for `lines` is all.
    """
    lined: dict[str, Any] = {
        label: style.line if lines is None or label in lines else "" for label, style in of.items()
    }
    entries = [
        Line2D([], [], color=style.color, marker=style.marker, linestyle=lined[label], label=label)
        for label, style in of.items()
    ]
    figure.legend(handles=[*entries, *others], loc="outside right upper")
