"""Plots of a comparison: how they look, in every one alike, and what each shows.

A method has its color, marker and line in all of them. In SVG what is ink is `currentColor` on a transparent
background, and text stays text; PNG is black on white.
"""

import io
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from discrete_ae.compare.comparison import Comparison, Value
from discrete_ae.compare.curves import Curve, Curves, band
from discrete_ae.compare.findings import listed
from discrete_ae.compare.methods import run_of
from discrete_ae.compare.page.content import Figure
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.scores import QUANTITIES

COLORS = ("#3b7fd9", "#dd5f1e", "#2b9348", "#8f6bd6", "#d6455d", "#1590a5", "#9c6f3f", "#d152a6", "#8a8a12", "#5966e0")
"""Each at least 3 : 1 against white and against the page's dark background, as WCAG 2.2 asks of graphics."""
OUTSIDE = "#7d7f85"
"""Of what is no method: the model without quantization, baselines."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
BASELINE_MARKERS = ("*", "P", "X", "d", "h", "p")
LINES = ("-", "--", ":", "-.")
SOFT = (0, (1, 1))
WIDTH = 7.4

RATE = "entropy_coded_bitrate_bps"
_OF_WAVEFORM = "si_sdr_db"
_POINTS, _FLOOR = 256, 1e-3  # of the curves of frequencies
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


def render_all(plots: Sequence[Plot]) -> tuple[list[Figure], dict[str, bytes]]:
    """Return what stands on a page of plots, and each as PNG and as SVG, by name of the file."""
    pictures = [(plot, render(plot)) for plot in plots]
    files = {f"{plot.name}.png": picture.png for plot, picture in pictures}
    files |= {f"{plot.name}.svg": picture.svg.encode() for plot, picture in pictures}
    return [Figure(plot.title, picture.svg, plot.description) for plot, picture in pictures], files


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


def plots_of(comparison: Comparison, name: str, curves: Curves) -> list[Plot]:
    """Return all plots for which there is something to draw, the rate against a quantity of PER_FILE first."""
    without_codes = [method.label for method in comparison.methods if method.nominal_bitrate_bps is None]
    styled = styles([method.label for method in comparison.methods], without_codes)
    found = [rate_distortion(comparison, name, styled), codebook_usage(comparison, styled)]
    learning, *others = (over_steps(plot, comparison, curves, styled) for plot in OVER_STEPS)
    return [plot for plot in (found[0], learning, found[1], *others) if plot is not None]


class Point(NamedTuple):
    """A method or baseline in the plane of rate and distortion."""

    label: str
    rate: float
    value: float


def rate_distortion(comparison: Comparison, name: str, styled: Mapping[str, Style]) -> Plot:
    """Every run and every method in the plane of its entropy-coded bitrate and a quantity of PER_FILE."""
    quantity = QUANTITIES[name]
    values = {method.label: comparison.value(method.label, name) for method in comparison.methods}
    rates = {method.label: comparison.value(method.label, RATE) for method in comparison.methods}
    points = [Point(label, rates[label].mean / 1000, value.mean) for label, value in values.items()]
    front = pareto_front(points, higher_is_better=bool(quantity.higher_is_better))
    shown = [baseline for baseline in comparison.baselines if baseline.keeps_waveform or name != _OF_WAVEFORM]
    baselines = _points(comparison, shown, name)

    coded = {label: styled[label] for label, rate in rates.items() if not math.isnan(rate.mean)}
    bounds = {label: value.mean for label, value in values.items() if label not in coded and not math.isnan(value.mean)}

    def draw() -> Canvas:
        # What is outside the methods would leave them a corner of their own plot.
        panels = 2 if baselines or bounds else 1
        figure, every = canvas(3.6 * panels + 1.0, panels, entries=len(coded) + len(baselines) + len(bounds) + 1)
        entries = handles(coded, lines=False)
        if len(front) > 1:
            entries.append(Line2D([], [], color=OUTSIDE, linewidth=1.2, label="Pareto front"))
        for axes in every:
            if len(front) > 1:
                steps = [point.rate for point in front], [point.value for point in front]
                axes.step(*steps, where="post", color=OUTSIDE, linewidth=1.2, zorder=1)
            for label, style in coded.items():
                for point in _runs(comparison, label, name):
                    axes.plot(point.rate, point.value, style.marker, color=style.color, markersize=4, alpha=0.45)
                _with_bars(axes, rates[label], values[label], style)
        for label, value in bounds.items():
            look = {"color": OUTSIDE, "linewidth": 1.2, "linestyle": styled[label].line}
            every[-1].axhline(value, **look)
            entries.append(Line2D([], [], label=label, **look))
        for point, marker in zip(baselines, itertools.cycle(BASELINE_MARKERS), strict=False):
            look = {"color": OUTSIDE, "marker": marker, "markersize": 9, "linestyle": ""}
            every[-1].plot(point.rate, point.value, **look)
            entries.append(Line2D([], [], label=point.label, **look))
        for axes in every:
            axes.set_ylabel(", ".join(filter(None, [quantity.label, quantity.unit])))
            axes.margins(0.08)
        every[-1].set_xlabel("entropy-coded bitrate, kbps")
        add_legend(figure, entries)
        return figure

    better = "higher" if quantity.higher_is_better else "lower"
    words = [
        f"Mean {quantity.label} over recordings ({better} is better) against the bits that the entropy-coded codes "
        "take. Small markers are runs, large ones means over seeds, with bars of one standard deviation.",
        "Above the methods alone, below them with what is not one of them." if baselines or bounds else "",
        f"On the Pareto front of the methods: {listed([point.label for point in front])}." if front else "",
    ]
    hidden = [baseline for baseline in comparison.baselines if baseline not in shown]
    if left_out := [point.label for point in _points(comparison, hidden, name)]:
        words.append(f"{listed(left_out)} is left out: the waveform of a vocoder is not the original's.")
    return Plot("rate_distortion", "Rate and distortion", " ".join(filter(None, words)), draw)


def _points(comparison: Comparison, baselines: Iterable[Evaluation], name: str) -> list[Point]:
    points = []
    for baseline in baselines:
        rate, value = (comparison.value(baseline.codec, of).mean for of in (RATE, name))
        if not math.isnan(rate + value):
            points.append(Point(baseline.codec, rate / 1000, value))
    return points


def _runs(comparison: Comparison, label: str, name: str) -> list[Point]:
    values = comparison.scores(label, name)
    runs = comparison.of_label(label)
    return [
        Point(label, (run.overall.get(RATE) or math.nan) / 1000, float(row.mean()) if len(row) else math.nan)
        for run, row in zip(runs, values, strict=True)
    ]


def _with_bars(axes: Axes, rate: Value, value: Value, style: Style) -> None:
    bars = [0.0 if math.isnan(spread) else spread for spread in (rate.spread / 1000, value.spread)]
    axes.errorbar(
        rate.mean / 1000, value.mean, xerr=bars[0], yerr=bars[1], fmt=style.marker, color=style.color, markersize=8,
        elinewidth=1.2, capsize=2, zorder=3,
    )  # fmt: skip


def pareto_front(points: Sequence[Point], *, higher_is_better: bool) -> list[Point]:
    """Return the points that no other one equals or beats in both, being better in one; by increasing rate.

    Points with NaN are left out. Of equal points all are on the front.
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


def rank_frequencies(evaluation: Evaluation) -> NDArray[np.float64]:
    """Frequencies of the entries from the most to the least used, mean over codebooks, times their number: (_POINTS,).

    At the middles of _POINTS equal parts of the ranks, so that codebooks of any size compare; 1 everywhere if all
    entries are used alike. NaN without codes.
    """
    curves = []
    for counts in evaluation.code_counts:
        ordered = np.sort(np.array(counts, np.float64))[::-1]
        if total := ordered.sum():
            ranks = ((np.arange(_POINTS) + 0.5) * len(ordered) / _POINTS).astype(np.int64)
            curves.append(ordered[ranks] / total * len(ordered))
    return np.mean(curves, axis=0) if curves else np.full(_POINTS, math.nan)


def codebook_usage(comparison: Comparison, styled: Mapping[str, Style]) -> Plot | None:
    """Frequencies by rank, and the share of entries used; None where nothing has codes."""
    evaluations = {method.label: comparison.of_label(method.label) for method in comparison.methods}
    shown = {
        label: [rank_frequencies(evaluation) for evaluation in of_one if evaluation.code_counts]
        for label, of_one in evaluations.items()
    }
    shown = {label: curves for label, curves in shown.items() if curves}
    if not shown:
        return None

    def draw() -> Canvas:
        used = {label: styled[label] for label in shown}
        figure, (curves, bars) = canvas(max(3.0 + 0.3 * len(shown), 5.2), 2, entries=len(shown))
        ranks = (np.arange(_POINTS) + 0.5) / _POINTS
        for i, (label, style) in enumerate(used.items()):
            mean = np.mean(shown[label], axis=0)
            curves.plot(
                ranks, np.maximum(mean, _FLOOR), color=style.color, linestyle=style.line, marker=style.marker,
                markersize=5, markevery=(i / len(used) * 0.2, 0.2), linewidth=1.5,
            )  # fmt: skip
        curves.axhline(1, color=curves.spines["left"].get_edgecolor(), linewidth=0.8, alpha=0.5)
        curves.set_yscale("log")
        curves.yaxis.set_major_formatter("{x:g}")
        curves.yaxis.set_minor_formatter(NullFormatter())
        curves.set(xlabel="entries, from the most to the least used", title="frequency × number of entries")
        curves.set_xlim(0, 1)
        for place, (label, style) in enumerate(used.items()):
            usage, evenness = comparison.value(label, "usage"), _evenness(comparison, label)
            bars.barh(place, _or_0(usage.mean), xerr=_or_0(usage.spread), color=style.color, alpha=0.35,
                      error_kw={"elinewidth": 1.2, "capsize": 2, "ecolor": style.color})  # fmt: skip
            bars.plot(evenness, place, style.marker, color=style.color)
        bars.set_yticks(range(len(used)), list(used))
        bars.set(xlim=(0, 1.02), ylim=(len(used) - 0.4, -0.6), title="usage (bars), perplexity / entries (markers)")
        bars.tick_params(axis="y", length=0)
        bars.grid(axis="y", visible=False)
        add_legend(figure, handles(used, lines=True))
        return figure

    description = (
        "Over all recordings. Above, the frequency of entries by rank, mean over codebooks and seeds: a flat line "
        f"at 1 is a codebook whose entries are used alike; what is never used lies at the bottom, {_FLOOR:g}. "
        "Below, the share of entries used at least once, with its spread over seeds, and the perplexity as a share of "
        "them."
    )
    return Plot("codebook_usage", "Use of the codebooks", description, draw)


def _evenness(comparison: Comparison, label: str) -> float:
    """Perplexity as a share of the entries, mean over codebooks in the latter."""
    shares = [
        perplexity / float(np.mean([len(counts) for counts in evaluation.code_counts]))
        for evaluation in comparison.of_label(label)
        if evaluation.code_counts and (perplexity := evaluation.overall.get("perplexity")) is not None
    ]
    return float(np.mean(shares)) if shares else math.nan


def _or_0(value: float) -> float:
    return 0.0 if math.isnan(value) else value


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
        "What training saw on its validation segments, through hard codes, from the first validation after a step on; "
        "lines are means over seeds, bands reach from the least to the greatest. Dotted lines are through the "
        "training-time forward where it differs: the gap is what is lost when codes become hard.",
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
"""What TensorBoard saw of the runs: scalars over the steps, a line a method, with a band over its seeds."""


def over_steps(plot: _OverSteps, comparison: Comparison, curves: Curves, styled: Mapping[str, Style]) -> Plot | None:
    """Draw scalars over the steps of training; None where nothing was logged."""
    panels = plot.panels
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

    return Plot(plot.name, plot.title, plot.description, draw)


def _of(curves: Curves, runs: Sequence[Evaluation], tag: str) -> list[Curve]:
    """Of the runs that have it, without the validation before the first step, which says nothing of the method."""
    found = [curve for run in runs if (curve := curves.get(run_of(run).name, {}).get(tag)) is not None]
    afters = (curve.steps > 0 if len(curve.steps) > 1 else curve.steps >= 0 for curve in found)
    return [Curve(curve.steps[after], curve.values[after]) for curve, after in zip(found, afters, strict=True)]
