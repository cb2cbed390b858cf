"""Plots of a comparison: scalars over training, distortion by rate, and the use of the codebooks.

Scalars come from the TensorBoard files of the runs; each method is one line with a band over its seeds.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.drawing import OUTSIDE, Plot, Style, add_legend, canvas, look, styles
from discrete_ae.compare.methods import Method
from discrete_ae.compare.words import listed
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.scores import QUANTITIES

_SOFT = (0, (1, 1))


class Curve(NamedTuple):
    """A scalar over training."""

    steps: NDArray[np.int64]
    """Steps, strictly increasing."""
    values: NDArray[np.float64]


Curves = Mapping[str, Mapping[str, Curve]]
"""Curves by name of the run and tag."""


class _Panel(NamedTuple):
    tag: str
    label: str
    log: bool = False
    soft: str = ""
    """Tag of the same scalar, computed through the forward pass of training; empty if it is not logged."""


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
        "Validation during training through integer codes; the validation before the first step is left out. Lines are "
        "means over seeds; bands span the seeds. Dotted lines are computed through the forward pass of training, if it "
        "differs. The gap between dotted and other line is the loss caused by rounding to codes.",
    ),
    _OverSteps(
        "code_use",
        "Use of the codebooks over training",
        (_Panel("val/codes/usage", "share of entries used"), _Panel("val/codes/perplexity", "perplexity")),
        "Use of the codebooks over the validation set: the share of entries used at least once, and the perplexity of "
        "the codes. Both are means over codebooks.",
    ),
    _OverSteps(
        "gradient_norms",
        "Gradients over training",
        (_Panel("train/gradient_norm", "gradient norm", log=True),),
        "Norm of the gradient of all weights before clipping, at the logged steps. Lines are means over seeds; bands "
        "span the seeds.",
    ),
)
"""Plots over the steps of training."""


def read_curves(run: Path) -> dict[str, Curve]:
    """Return the curves that a run logged to TensorBoard, by tag.

    A resumed run may have logged a step twice; the last value is used.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not any(run.glob("events.out.tfevents.*")):
        return {}
    # 0 keeps all scalars; 1 keeps a single item of the other kinds, which are large and not needed here.
    keep = {"scalars": 0, "images": 1, "audio": 1, "histograms": 1, "compressedHistograms": 1, "tensors": 1}
    events = EventAccumulator(str(run), size_guidance=keep).Reload()
    curves = {}
    for tag in {tag for plot in OVER_STEPS for panel in plot.panels for tag in (panel.tag, panel.soft)}:
        if tag in events.Tags()["scalars"]:
            by_step = {event.step: event.value for event in events.Scalars(tag)}
            steps = sorted(by_step)
            curves[tag] = Curve(np.array(steps), np.array([by_step[step] for step in steps], np.float64))
    return curves


class _Band(NamedTuple):
    """A scalar of several runs, at the steps (N,) that all runs share."""

    steps: NDArray[np.int64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def over_steps(plot: _OverSteps, comparison: Comparison, curves: Curves, styled: Mapping[str, Style]) -> Plot | None:
    """Draw scalars over the steps of training; return None if no method has more than one step."""
    shown = [method for method in comparison.methods if _band(curves, method, plot.panels[0])]
    if _most_steps(plot, comparison, curves) < 2:
        return None
    has_soft = any(_band(curves, method, panel, soft=True) for method in shown for panel in plot.panels)
    soft = [Line2D([], [], color=OUTSIDE, linestyle=_SOFT, label="soft, as in training")] if has_soft else []
    figure, every = canvas(3.0 * len(plot.panels) + 0.6, len(plot.panels), entries=len(shown) + len(soft))
    for axes, panel in zip(every, plot.panels, strict=True):
        for i, method in enumerate(shown):
            style = styled[method.label]
            if found := _band(curves, method, panel):
                spacing = (i / len(shown) * 0.2, 0.2) if len(found.steps) > 1 else 1
                axes.plot(
                    found.steps, found.mean, color=style.color, linestyle=style.line, marker=style.marker, markersize=5,
                    markevery=spacing, linewidth=1.5,
                )  # fmt: skip
                axes.fill_between(found.steps, found.low, found.high, color=style.color, alpha=0.15, linewidth=0)
            if found := _band(curves, method, panel, soft=True):
                dot = "." if len(found.steps) == 1 else ""
                axes.plot(found.steps, found.mean, color=style.color, linestyle=_SOFT, marker=dot, linewidth=1.2)
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


def _most_steps(plot: _OverSteps, comparison: Comparison, curves: Curves) -> int:
    """Return the largest number of steps of a method in the first panel of a plot."""
    bands = (_band(curves, method, plot.panels[0]) for method in comparison.methods)
    return max((len(band.steps) for band in bands if band), default=0)


def not_drawn(comparison: Comparison, curves: Curves) -> str:
    """Return a sentence on the plots over steps that are left out because they have a single step; empty if none is."""
    single = [plot for plot in OVER_STEPS if _most_steps(plot, comparison.trained, curves) == 1]
    names = listed([plot.title[0].lower() + plot.title[1:] for plot in single])
    return f"Not drawn, because each would have a single point: {names}. Longer runs have more." if names else ""


def _band(curves: Curves, method: Method, panel: _Panel, *, soft: bool = False) -> _Band | None:
    """Return the band of a method, without the validation before the first step.

    Return None if the band is empty: a scalar may be NaN throughout, as for silence, or the runs share no step.
    """
    found = []
    for run in method.trainings:
        curve = curves.get(run.name, {}).get(panel.soft if soft else panel.tag)
        if curve is not None:
            kept = (curve.steps > 0) | (len(curve.steps) == 1)
            kept &= np.isfinite(curve.values) & (curve.values > (0 if panel.log else -math.inf))
            found.append(Curve(curve.steps[kept], curve.values[kept]))
    found = [curve for curve in found if len(curve.steps)]
    if not found:
        return None
    steps = functools.reduce(np.intersect1d, (curve.steps for curve in found))
    values = np.stack([curve.values[np.isin(curve.steps, steps)] for curve in found])
    return _Band(steps, values.mean(0), values.min(0), values.max(0)) if len(steps) else None


RATE = "entropy_coded_bitrate_bps"
_OF_WAVEFORM = "si_sdr_db"
_BASELINE_MARKERS = ("*", "P", "X", "d", "h", "p")
_POINTS, _FLOOR = 256, 1e-3  # number of points, and least value, of the curves of frequencies


def plots_of(comparison: Comparison, name: str, curves: Curves) -> list[Plot]:
    """Return all plots that are not empty; the first shows a quantity of PER_FILE by rate."""
    trained = comparison.trained
    without_codes = [model.label for model in trained.methods if model.nominal_bitrate_bps is None]
    styled = styles([model.label for model in trained.methods], without_codes)
    with look():
        learning, *others = (over_steps(plot, trained, curves, styled) for plot in OVER_STEPS)
        found = [rate_distortion(comparison, name, styled), learning, codebook_usage(trained, styled), *others]
    return [plot for plot in found if plot is not None]


class Point(NamedTuple):
    """A method or a baseline in the plot of rate and distortion."""

    label: str
    rate: float
    """Bitrate in kbps; NaN without codes."""
    value: float


def rate_distortion(comparison: Comparison, name: str, styled: Mapping[str, Style]) -> Plot:
    """Plot a quantity of PER_FILE against the entropy-coded bitrate, for every run, method and baseline.

    The rates of one model are joined by a line; `styled` has one style for each model.
    """
    quantity, models = QUANTITIES[name], comparison.models
    look_of = {method.label: styled[model] for model, group in models.items() for method in group}
    points = {label: _point(comparison, label, name) for label in look_of}
    coded = {label: look_of[label] for label, point in points.items() if not math.isnan(point.rate)}
    shown = {model: styled[model] for model, group in models.items() if any(one.label in coded for one in group)}
    joined = comparison.several_rates
    bounds = [point for label, point in points.items() if label not in coded and not math.isnan(point.value)]
    front = pareto_front(list(points.values()), higher_is_better=bool(quantity.higher_is_better))
    beside = {baseline.codec: _point(comparison, baseline.codec, name) for baseline in comparison.baselines}
    plain = [label for label, point in beside.items() if math.isnan(point.rate)]
    for label in plain:
        beside[label] = beside[label]._replace(rate=comparison.value(label, "bitrate_bps").mean / 1000)
    known = {label: point for label, point in beside.items() if not math.isnan(point.rate + point.value)}
    vocoders = [one.codec for one in comparison.baselines if not one.keeps_waveform and one.codec in known]
    hidden = vocoders if name == _OF_WAVEFORM else []
    baselines = [point for label, point in known.items() if label not in hidden]
    of_fixed_length = [point.label for point in baselines if point.label in plain]

    # A second panel adds the other codecs, because in a single panel their values would squeeze the methods into a
    # corner.
    added = ["the other codecs"] * bool(baselines) + ["the upper bound"] * bool(bounds)
    panels = 2 if added else 1
    figure, every = canvas(3.6 * panels + 1.0, panels, entries=len(models) + len(baselines) + 1)
    entries = [Line2D([], [], color=OUTSIDE, linewidth=1.2, label="Pareto front")] if len(front) > 1 else []
    for axes in every:
        if len(front) > 1:
            steps = [point.rate for point in front], [point.value for point in front]
            axes.step(*steps, where="post", color=OUTSIDE, linewidth=1.2, zorder=1)
        for label, style in coded.items():
            _draw_method(axes, comparison, label, name, style)
        for model, group in joined.items():
            line = [(points[method.label].rate, points[method.label].value) for method in group]
            axes.plot(*zip(*line, strict=True), color=styled[model].color, linestyle=styled[model].line, linewidth=1.5)
        axes.set_ylabel(", ".join(filter(None, [quantity.label, quantity.unit])))
    for label, _, value in bounds:
        across: dict[str, Any] = {"color": OUTSIDE, "linewidth": 1.2, "linestyle": look_of[label].line}
        every[-1].axhline(value, **across)
        entries.append(Line2D([], [], label=label, **across))
    for (label, rate, value), marker in zip(baselines, itertools.cycle(_BASELINE_MARKERS), strict=False):
        marked: dict[str, Any] = {"color": OUTSIDE, "marker": marker, "markersize": 9, "linestyle": ""}
        every[-1].plot(rate, value, **marked)
        entries.append(Line2D([], [], label=label, **marked))
    for axes in every:
        axes.margins(0.08)
    every[-1].set_xlabel("entropy-coded bitrate, kbps")
    add_legend(figure, shown, entries, lines=joined)

    better = "higher" if quantity.higher_is_better else "lower"
    words = [
        f"Mean {quantity.label} over recordings ({better} is better) against the entropy-coded bitrate. Small markers "
        "are runs. Large markers are means over seeds, with bars of one standard deviation.",
        "Lines join the rates of one model, decoded from different numbers of codebooks." if joined else "",
        f"The upper panel has the methods only; the lower panel adds {listed(added)}." if added else "",
        f"On the Pareto front of the methods: {listed([point.label for point in front])}." if front else "",
        f"Without entropy coding: {listed(of_fixed_length)}." if of_fixed_length else "",
        f"Not shown: {listed(hidden)}, because a vocoder does not reproduce the waveform." if hidden else "",
    ]
    return Plot("rate_distortion", "Rate and distortion", " ".join(filter(None, words)), figure)


def _point(comparison: Comparison, label: str, name: str) -> Point:
    return Point(label, comparison.value(label, RATE).mean / 1000, comparison.value(label, name).mean)


def _draw_method(axes: Axes, comparison: Comparison, label: str, name: str, style: Style) -> None:
    rates, values = comparison.of_runs(label, RATE) / 1000, comparison.of_runs(label, name)
    axes.plot(rates, values, style.marker, color=style.color, markersize=4, alpha=0.45)
    rate, value = comparison.value(label, RATE), comparison.value(label, name)
    axes.errorbar(
        rate.mean / 1000, value.mean, xerr=rate.spread / 1000, yerr=value.spread, fmt=style.marker,
        color=style.color, markersize=8, elinewidth=1.2, capsize=2, zorder=3,
    )  # fmt: skip


def pareto_front(points: Sequence[Point], *, higher_is_better: bool) -> list[Point]:
    """Return the points that no other point dominates, by increasing rate.

    A point dominates another point if it is at least as good in both rate and value, and better in one of them. Points
    with NaN are left out. If equal points are on the front, all of them are returned.
    """
    known = [(point, point.value if higher_is_better else -point.value) for point in points]
    known = [(point, value) for point, value in known if not math.isnan(point.rate + value)]
    front = [
        point
        for point, value in known
        if not any(
            other.rate <= point.rate and better >= value and (other.rate, better) != (point.rate, value)
            for other, better in known
        )
    ]
    return sorted(front, key=lambda point: (point.rate, point.label))


def codebook_usage(comparison: Comparison, styled: Mapping[str, Style]) -> Plot | None:
    """Draw the frequencies of codebook entries by rank; return None if no run has codes."""
    runs = {label: [run for run in comparison.by_label[label] if any(map(any, run.code_counts))] for label in styled}
    used = {label: styled[label] for label, of_one in runs.items() if of_one}
    if not used:
        return None
    figure, (axes,) = canvas(3.6, entries=len(used))
    ranks = (np.arange(_POINTS) + 0.5) / _POINTS
    for place, (label, style) in enumerate(used.items()):
        mean = np.mean([rank_frequencies(run) for run in runs[label]], axis=0)
        axes.plot(
            ranks, np.maximum(mean, _FLOOR), color=style.color, linestyle=style.line, marker=style.marker,
            markersize=5, markevery=(place / len(used) * 0.2, 0.2), linewidth=1.5,
        )  # fmt: skip
    axes.axhline(1, color=axes.spines["left"].get_edgecolor(), linewidth=0.8, alpha=0.5)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="entries, from the most to the least used", ylabel="frequency × number of entries", xlim=(0, 1))
    add_legend(figure, used)
    description = (
        "Frequency of the codebook entries by rank over all recordings; means over codebooks and seeds. A flat line at "
        f"1 means that all entries are used equally. Unused entries are at the bottom, {_FLOOR:g}."
    )
    return Plot("codebook_usage", "Use of the codebooks", description, figure)


def rank_frequencies(evaluation: Evaluation) -> NDArray[np.float64]:
    """Return frequencies of codebook entries, multiplied by the number of entries: a mean over codebooks (_POINTS,).

    Entries are ordered from the most to the least used. The ranks are sampled at the centers of _POINTS equal parts, so
    that codebooks of different sizes can be compared. If all entries are used equally, the result is 1 everywhere.
    Codebooks without codes are left out; if none is left, the result is NaN.
    """
    curves = []
    for counts in evaluation.code_counts:
        ordered = np.sort(np.array(counts, np.float64))[::-1]
        if total := ordered.sum():
            ranks = ((np.arange(_POINTS) + 0.5) * len(ordered) / _POINTS).astype(np.int64)
            curves.append(ordered[ranks] / total * len(ordered))
    return np.mean(curves, axis=0) if curves else np.full(_POINTS, math.nan)
