"""What TensorBoard saw of the runs: scalars over the steps, a line a method, with a band over its seeds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.curves import Curve, band
from discrete_ae.compare.figures import OUTSIDE, SOFT, Plot, Style, add_legend, canvas, handles
from discrete_ae.compare.runs import Run

Curves = Mapping[str, Mapping[str, Curve]]
"""By name of the run and tag."""


class _Panel(NamedTuple):
    tag: str
    label: str
    log: bool = False
    soft: str = ""
    """Tag of the same through the forward of training."""


def learning(comparison: Comparison, curves: Curves, styled: Mapping[str, Style]) -> Plot | None:
    """The validations of the runs; None where nothing was logged."""
    panels = (
        _Panel("val/reconstruction", "validation reconstruction", soft="val/soft_reconstruction"),
        _Panel("val/si_sdr_db", "validation SI-SDR, dB"),
    )
    description = (
        "What training saw on its validation segments, through hard codes, from the first validation after a step on; "
        "lines are means over seeds, bands reach from the least to the greatest. Dotted lines are through the "
        "training-time forward where it differs: the gap is what is lost when codes become hard."
    )
    return _over_steps("learning_curves", "Learning curves", description, panels, comparison, curves, styled)


def code_use(comparison: Comparison, curves: Curves, styled: Mapping[str, Style]) -> Plot | None:
    """Use of the codebooks over training; None where nothing was logged."""
    panels = (
        _Panel("val/codes/usage", "share of entries used"),
        _Panel("val/codes/perplexity", "perplexity"),
    )
    description = (
        "How the use of the codebooks went in the course of training, over the validation set: the share of entries "
        "used at least once, and the perplexity of the codes, means over codebooks."
    )
    return _over_steps(
        "code_use", "Use of the codebooks over training", description, panels, comparison, curves, styled
    )


def gradient_norms(comparison: Comparison, curves: Curves, styled: Mapping[str, Style]) -> Plot | None:
    """Gradient norms over training; None where nothing was logged."""
    panels = (_Panel("train/gradient_norm", "gradient norm", log=True),)
    description = (
        "Norm of the gradient of all weights before it is clipped, at the logged steps; lines are means over seeds, "
        "bands reach from the least to the greatest."
    )
    return _over_steps("gradient_norms", "Gradients over training", description, panels, comparison, curves, styled)


def _over_steps(
    name: str,
    title: str,
    description: str,
    panels: Sequence[_Panel],
    comparison: Comparison,
    curves: Curves,
    styled: Mapping[str, Style],
) -> Plot | None:
    shown = [method for method in comparison.methods if _of(curves, method.runs, panels[0].tag)]
    if not shown:
        return None

    def draw() -> Canvas:
        entries = handles({method.label: styled[method.label] for method in shown}, lines=True)
        soft = any(_of(curves, method.runs, panel.soft) for method in shown for panel in panels)
        if soft:
            entries.append(Line2D([], [], color=OUTSIDE, linestyle=SOFT, label="soft, as in training"))
        figure, every = canvas(3.0 * len(panels) + 0.6, len(panels), entries=len(entries))
        for axes, panel in zip(every, panels, strict=True):
            for method in shown:
                style = styled[method.label]
                if found := _of(curves, method.runs, panel.tag):
                    steps, mean, low, high = band(found)
                    place = shown.index(method) / len(shown)
                    axes.plot(
                        steps, mean, color=style.color, linestyle=style.line, marker=style.marker, markersize=5,
                        markevery=(place * 0.2, 0.2), linewidth=1.5,
                    )  # fmt: skip
                    axes.fill_between(steps, low, high, color=style.color, alpha=0.15, linewidth=0)
                if found := _of(curves, method.runs, panel.soft):
                    steps, mean, _, _ = band(found)
                    axes.plot(steps, mean, color=style.color, linestyle=SOFT, linewidth=1.2)
            axes.set(ylabel=panel.label)
            if panel.log:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter("{x:g}")
                axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
                axes.yaxis.set_minor_formatter("{x:g}")
        every[-1].set_xlabel("training step")
        add_legend(figure, entries)
        return figure

    return Plot(name, title, description, draw)


def _of(curves: Curves, runs: Sequence[Run], tag: str) -> list[Curve]:
    """Of the runs that have it, without the validation before the first step, which says nothing of the method."""
    found = []
    for run in runs:
        if (curve := curves.get(run.name, {}).get(tag)) is not None:
            after = curve.steps > 0 if len(curve.steps) > 1 else np.ones(len(curve.steps), bool)
            found.append(Curve(curve.steps[after], curve.values[after]))
    return found
