"""The family of roundings in one figure: each method's soft staircase against the exact one, and its slope.

    python docs/draw_roundings.py [round|floor|ceil|trunc]

writes docs/rounding.png, or rounding_OP.png for another operation.
"""

import argparse
import math
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from discrete_ae.rounding import EXAMPLES, Op, Rounding

RANGE = 1.6
STEP = 1 / 512  # a power of two, so that the integers and the boundaries are among the points
COLUMNS = 4
COLORS = ("#2a7fba", "#d1603d")
EMITTED, IMITATED = "0.1", "0.72"  # the exact staircase where the forward emits it, and elsewhere
CENTER = {"round": 0.0, "floor": -0.5, "ceil": 0.5, "trunc": 0.0}  # of the staircase, at x = 0


class Panel(NamedTuple):
    """A method and the curves that show it."""

    title: str
    curves: dict[str, Rounding]
    """By what tells them apart; of one class, and with the forward of its defaults."""


def family(op: Op) -> list[Panel]:
    """Return a panel for every method of EXAMPLES, and for each of its kinds such as the weights of Fourier."""
    panels: dict[str, dict[str, Rounding]] = {}
    for cls, arguments in EXAMPLES:
        given = [name if value is True else value for name, value in arguments.items()]
        kinds = [word for word in given if isinstance(word, str)]
        numbers = [f"{name} = {value:g}" for name, value in arguments.items() if type(value) in (int, float)]
        curves = panels.setdefault(", ".join([cls.__name__, *kinds]), {})
        curves[", ".join(numbers) or "default"] = cls(**arguments, op=op)
    return [Panel(title, curves) for title, curves in panels.items()]


def forward_of(rounding: Rounding, x: Tensor) -> str:
    """Return what the training forward emits, found by calling it: "hard", "soft", "noisy" or "random integers"."""
    emitted = rounding.train()(x)
    if torch.equal(emitted, rounding.exact(x)):
        return "hard"
    if torch.equal(emitted, rounding.value(x)):
        return "soft"
    return "random integers" if torch.equal(emitted, emitted.round()) else "noisy"


def draw_family(op: Op) -> Figure:
    """Draw a panel per method: s(x) over the exact staircase, below it the slope s'(x) on the scale of its row."""
    panels = family(op)
    rows = math.ceil(len(panels) / COLUMNS)
    points = round(RANGE / STEP)
    x = torch.arange(-points, points + 1, dtype=torch.float64) * STEP
    figure = Figure(figsize=(11.2, 3.5 * rows + 0.5), layout="constrained")
    figure.suptitle(
        f"Differentiable {op}: the curve s(x), the exact staircase, and the slope s′(x) that the gradient uses\n"
        f"Black staircase: training emits {op}(x). Grey staircase: it emits the curve, or the dots.",
        fontsize=11,
    )
    axes = figure.subplots(2 * rows, COLUMNS, sharex=True, sharey="row", height_ratios=[3, 2] * rows, squeeze=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for i, panel in enumerate(panels):
            row, column = divmod(i, COLUMNS)
            _draw_panel(panel, x, axes[2 * row, column], axes[2 * row + 1, column])
    for curve, slope in zip(axes[::2].flat, axes[1::2].flat, strict=True):
        curve.set(yticks=range(-2, 3), ylim=(CENTER[op] - 2.3, CENTER[op] + 2.3))
        slope.tick_params(labelbottom=True)
    for curve, slope in zip(axes[::2, 0], axes[1::2, 0], strict=True):
        curve.set_ylabel("$s(x)$")
        slope.set_ylabel("$s'(x)$")
    for i in range(rows * COLUMNS):
        row, column = divmod(i, COLUMNS)
        if i >= len(panels):
            axes[2 * row, column].set_visible(False)
            axes[2 * row + 1, column].set_visible(False)
        elif i + COLUMNS >= len(panels):  # the last of its column
            axes[2 * row + 1, column].set_xlabel("$x$", labelpad=0)
    figure.align_ylabels()
    return figure


def _draw_panel(panel: Panel, x: Tensor, curve: Axes, slope: Axes) -> None:
    first = next(iter(panel.curves.values()))
    forward = forward_of(first, x)
    # The title leaves its second line to a text of another weight.
    curve.set_title(f"{panel.title}\n", fontsize=10.5, fontweight="bold")
    curve.text(0.5, 1.03, f"forward: {forward}", transform=curve.transAxes, ha="center", fontsize=9.5)
    _plot(curve, x, first.exact(x), EMITTED if forward == "hard" else IMITATED, 1.8, "exact")
    if forward in ("noisy", "random integers"):
        some = x[:: x.numel() // 150]
        curve.plot(some, first.train()(some), ".", color=COLORS[0], markersize=2.5, alpha=0.5, label="_samples")
    for color, (label, rounding) in zip(COLORS, panel.curves.items(), strict=False):
        _plot(curve, x, rounding.value(x), color, 1.3, label)
        _plot(slope, x, rounding.slope(x), color, 1.3, label, broken=False)
    handles = [line for line in curve.lines if line.get_label() in panel.curves]
    curve.legend(handles=handles, loc="upper left", fontsize=9.5, frameon=False, handlelength=1.2, borderpad=0.1)
    slope.axhline(0, color="0.5", linewidth=0.8, zorder=0)
    for axes in (curve, slope):
        axes.set(xlim=(-RANGE, RANGE), xticks=(-1, 0, 1))
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, length=2)


def _plot(axes: Axes, x: Tensor, y: Tensor, color: str, width: float, label: str, *, broken: bool = True) -> None:
    """Plot a line, broken where y jumps: steeper there than any slope of the family."""
    x_line, y_line = x.numpy(), y.numpy()
    if broken:
        jumps = np.flatnonzero(np.abs(np.diff(y_line)) > 0.05) + 1
        x_line, y_line = np.insert(x_line, jumps, np.nan), np.insert(y_line, jumps, np.nan)
    axes.plot(x_line, y_line, color=color, linewidth=width, label=label)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operation", nargs="?", choices=get_args(Op), default="round")
    operation = parser.parse_args().operation
    name = "rounding.png" if operation == "round" else f"rounding_{operation}.png"
    draw_family(operation).savefig(Path(__file__).with_name(name), dpi=140)
