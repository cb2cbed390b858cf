"""Curves over training: what TensorBoard holds of the runs, as plots of a line a method with a band over its seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.drawing import OUTSIDE, Plot, Style, add_legend, canvas
from discrete_ae.compare.methods import Method

_SOFT = (0, (1, 1))


class Curve(NamedTuple):
    """A scalar over training."""

    steps: NDArray[np.int64]
    """Increasing, each once."""
    values: NDArray[np.float64]


Curves = Mapping[str, Mapping[str, Curve]]
"""By name of the run and tag."""


class _Panel(NamedTuple):
    tag: str
    label: str
    log: bool = False
    soft: str = ""
    """Tag of the same through the forward of training."""


class _OverSteps(NamedTuple):
    name: str
    title: str
    panels: tuple[_Panel, ...]
    description: str


OVER_STEPS = (
    _OverSteps(
        "learning_curves",
        "Learning curves",
        (
            _Panel("val/reconstruction", "validation reconstruction", soft="val/soft_reconstruction"),
            _Panel("val/si_sdr_db", "validation SI-SDR, dB"),
        ),
        "Validation during training, through hard codes, from the first validation after a step on; lines are means "
        "over seeds, bands reach from the least to the greatest. Dotted lines are through the training-time forward "
        "where it differs: the gap is what is lost when codes become hard.",
    ),
    _OverSteps(
        "code_use",
        "Use of the codebooks over training",
        (_Panel("val/codes/usage", "share of entries used"), _Panel("val/codes/perplexity", "perplexity")),
        "How the use of the codebooks went in the course of training, over the validation set: the share of entries "
        "used at least once, and the perplexity of the codes, means over codebooks.",
    ),
    _OverSteps(
        "gradient_norms",
        "Gradients over training",
        (_Panel("train/gradient_norm", "gradient norm", log=True),),
        "Norm of the gradient of all weights before it is clipped, at the logged steps; lines are means over seeds, "
        "bands reach from the least to the greatest.",
    ),
)
"""The plots over the steps of training."""


def read_curves(run: Path) -> dict[str, Curve]:
    """Return the curves of a run's folder by tag; those that were not logged, or not to TensorBoard, are missing.

    Where a run was continued, a step may have been logged twice: what was logged last counts.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    if not any(run.glob("events.out.tfevents.*")):
        return {}
    # 0 keeps every scalar; 1 keeps one of what is large and not wanted here.
    keep = {"scalars": 0, "images": 1, "audio": 1, "histograms": 1, "compressedHistograms": 1, "tensors": 1}
    events = EventAccumulator(str(run), size_guidance=keep).Reload()
    curves = {}
    for tag in {tag for plot in OVER_STEPS for panel in plot.panels for tag in (panel.tag, panel.soft)}:
        if tag in events.Tags()["scalars"]:
            by_step = {event.step: event.value for event in events.Scalars(tag)}
            steps = sorted(by_step)
            curves[tag] = Curve(np.array(steps), np.array([by_step[step] for step in steps], np.float64))
    return curves


def band(curves: Sequence[Curve]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the steps (N,) that all curves have, and their mean, least and greatest there (3, N)."""
    steps = curves[0].steps
    for curve in curves[1:]:
        steps = np.intersect1d(steps, curve.steps)
    values = np.stack([curve.values[np.isin(curve.steps, steps)] for curve in curves])
    return steps, np.stack([values.mean(0), values.min(0), values.max(0)])


def over_steps(plot: _OverSteps, comparison: Comparison, curves: Curves, styled: Mapping[str, Style]) -> Plot | None:
    """Draw scalars over the steps of training; None where nothing was logged."""
    shown = [method for method in comparison.methods if _of(curves, method, plot.panels[0].tag)]
    if not shown:
        return None
    has_soft = any(_of(curves, method, panel.soft) for method in shown for panel in plot.panels)
    soft = [Line2D([], [], color=OUTSIDE, linestyle=_SOFT, label="soft, as in training")] if has_soft else []
    figure, every = canvas(3.0 * len(plot.panels) + 0.6, len(plot.panels), entries=len(shown) + len(soft))
    for axes, panel in zip(every, plot.panels, strict=True):
        for i, method in enumerate(shown):
            style = styled[method.label]
            if found := _of(curves, method, panel.tag):
                steps, (mean, low, high) = band(found)
                axes.plot(
                    steps, mean, color=style.color, linestyle=style.line, marker=style.marker, markersize=5,
                    markevery=(i / len(shown) * 0.2, 0.2), linewidth=1.5,
                )  # fmt: skip
                axes.fill_between(steps, low, high, color=style.color, alpha=0.15, linewidth=0)
            if found := _of(curves, method, panel.soft):
                steps, (mean, _, _) = band(found)
                axes.plot(steps, mean, color=style.color, linestyle=_SOFT, linewidth=1.2)
        axes.set(ylabel=panel.label)
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
        if panel.log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            axes.yaxis.set_minor_formatter("{x:g}")
    every[-1].set_xlabel("training step")
    add_legend(figure, {method.label: styled[method.label] for method in shown}, soft)
    return Plot(plot.name, plot.title, plot.description, figure)


def _of(curves: Curves, method: Method, tag: str) -> list[Curve]:
    """Return those of the runs that have it, without the validation before the first step, which says nothing."""
    found = [curve for run in method.trainings if (curve := curves.get(run.name, {}).get(tag)) is not None]
    afters = (curve.steps > 0 if len(curve.steps) > 1 else curve.steps >= 0 for curve in found)
    return [Curve(curve.steps[after], curve.values[after]) for curve, after in zip(found, afters, strict=True)]
