"""The look of a comparison's plots: a method has the same color, marker and line style in all plots.

In SVG, axes and text have the color `currentColor`, text remains text, and the background is transparent. PNG has a
white background.
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
"""Colors with a contrast of at least 3 : 1 to white and to the page's dark background, as WCAG 2.2 requires."""
OUTSIDE = "#7d7f85"
"""Color of the model without quantization and of baselines."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
_LINES = ("-", "--", ":", "-.")
_WIDTH = 7.4
_INK = "#010204"  # replaced by currentColor in the text of the SVG
_RC: dict[Any, Any] = {
    "font.size": 11,
    "font.family": "sans-serif",
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.linestyle": "-",
    "legend.frameon": False,
    "legend.fontsize": 10,
    "svg.fonttype": "none",
    "text.parse_math": False,  # labels contain user text, in which "$" does not begin a formula
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    "grid.color": _INK,
}


class Style(NamedTuple):
    """Look of a method in all plots."""

    color: str
    marker: str
    line: Any
    """Line style of matplotlib."""


@dataclass(frozen=True)
class Plot:
    """A plot with its title and caption."""

    name: str
    """Stem of its files."""
    title: str
    description: str
    """Caption below the plot, and its description for screen readers."""
    figure: Figure

    @cached_property
    def svg(self) -> str:
        """SVG text that begins with `<svg`, with axes and text in `currentColor` and a transparent background."""
        file = io.StringIO()
        # The salt makes ids inside the picture reproducible.
        with rc_context({**_RC, "svg.hashsalt": self.name}):
            self.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        text = file.getvalue()
        text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
        return text.replace(_INK, "currentColor")

    @cached_property
    def png(self) -> bytes:
        """PNG file with a white background."""
        file = io.BytesIO()
        with look():
            self.figure.savefig(file, format="png", dpi=160, facecolor="white")
        return file.getvalue()


def styles(labels: Sequence[str], without_codes: Sequence[str] = ()) -> dict[str, Style]:
    """Return styles of methods by label, all different for up to 110 methods; methods without codes are gray."""
    found = {}
    coded = [label for label in labels if label not in without_codes]
    for i, label in enumerate(coded):
        line = _LINES[i // len(COLORS) % len(_LINES)]
        found[label] = Style(COLORS[i % len(COLORS)], _MARKERS[i % len(_MARKERS)], line)
    for i, label in enumerate(label for label in labels if label in without_codes):
        found[label] = Style(OUTSIDE, _MARKERS[i % len(_MARKERS)], _LINES[(i + 1) % len(_LINES)])
    return found


def look() -> AbstractContextManager[None]:
    """Return a context that gives matplotlib the look of a comparison."""
    return rc_context(_RC)


def canvas(height: float, panels: int = 1, *, entries: int = 0) -> tuple[Figure, list[Axes]]:
    """Return a figure with stacked axes, at least `height` inches high, and high enough for `entries` of a legend."""
    figure = Figure(figsize=(_WIDTH, max(height, 0.21 * entries + 0.4)), layout="constrained")
    return figure, list(figure.subplots(panels, 1, squeeze=False)[:, 0])


def add_legend(
    figure: Figure, of: Mapping[str, Style], others: Sequence[Line2D] = (), *, lines: Container[str] | None = None
) -> None:
    """Add a legend to the right of all axes: methods with their markers, then `others`.

    Methods in `lines` also show their line; with None, all methods do.
    """
    lined: dict[str, Any] = {
        label: style.line if lines is None or label in lines else "" for label, style in of.items()
    }
    entries = [
        Line2D([], [], color=style.color, marker=style.marker, linestyle=lined[label], label=label)
        for label, style in of.items()
    ]
    figure.legend(handles=[*entries, *others], loc="outside right upper")
