"""Whether the gradients that runs were trained by point where the loss's own steps point."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure as Canvas

from discrete_ae.compare.figures import OUTSIDE, Plot, Style, canvas
from discrete_ae.compare.gradients import Agreement

OWN = "own"
"""Name of the candidate that is a run's own rounding."""


def gradient_agreement(found: Mapping[str, Sequence[Sequence[Agreement]]], styled: Mapping[str, Style]) -> Plot | None:
    """Bars of the cosine; None where no method has a rounding.

    Args:
        found: by label of a method, for each run the agreement on each segment.
        styled: by label.
    """
    means = {label: [_mean([one.cosine for one in segments]) for segments in runs] for label, runs in found.items()}
    means = {label: runs for label, runs in means.items() if not all(map(math.isnan, runs))}
    if not means:
        return None
    slopes = {label: _mean([one.slope_cosine for run in found[label] for one in run]) for label in means}

    def draw() -> Canvas:
        order = sorted(means, key=lambda label: -float(np.nanmean(means[label])))
        figure, (axes,) = canvas(0.34 * len(order) + 1.3)
        for place, label in enumerate(order):
            color = styled[label].color
            axes.barh(place, np.nanmean(means[label]), color=color, alpha=0.35)
            axes.plot(means[label], [place] * len(means[label]), styled[label].marker, color=color, markersize=5)
        axes.plot(
            [slopes[label] for label in order], range(len(order)), "D", color=OUTSIDE, markerfacecolor="none",
            label="the slope alone", linestyle="",
        )  # fmt: skip
        axes.set_yticks(range(len(order)), order)
        axes.axvline(0, color=OUTSIDE, linewidth=0.8)
        axes.set(xlabel="cosine with the loss's steps", ylim=(len(order) - 0.4, -0.6))
        axes.set_xlim(right=1.02)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper right")
        return figure

    segments = max(len(run) for runs in found.values() for run in runs)
    description = (
        "Cosine between the gradient that a method's own rounding gives, as it stands in the checkpoint, and what a "
        f"step from the integer below to the one above does to the loss, on {segments} segments of a second; 1 would "
        "point the same way. Bars are means, markers runs; diamonds are what the shape of the slope would leave if the "
        "loss were linear between integers. Methods without a scalar rounding have no bar."
    )
    return Plot("gradient_agreement", "Gradients against the loss's steps", description, draw)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
