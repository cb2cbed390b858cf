"""How evenly the entries of the codebooks are used."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.figures import Plot, Style, add_legend, canvas, handles
from discrete_ae.evaluation.results import Evaluation

_POINTS = 256
_FLOOR = 1e-3


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
