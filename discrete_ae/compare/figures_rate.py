"""Rate against distortion, with the methods' Pareto front."""

import itertools
import math
from collections.abc import Iterable, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from discrete_ae.compare.comparison import BaselineScores, Comparison, Value
from discrete_ae.compare.figures import BASELINE_MARKERS, OUTSIDE, Plot, Style, add_legend, canvas, handles
from discrete_ae.compare.findings import listed
from discrete_ae.compare.pareto import Point, pareto_front
from discrete_ae.evaluation.quantities import QUANTITIES

RATE = "entropy_coded_bitrate_bps"
_OF_WAVEFORM = "si_sdr_db"


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


def _points(comparison: Comparison, baselines: Iterable[BaselineScores], name: str) -> list[Point]:
    points = []
    for baseline in baselines:
        rate, value = (comparison.value(baseline.label, of).mean for of in (RATE, name))
        if not math.isnan(rate + value):
            points.append(Point(baseline.label, rate / 1000, value))
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
