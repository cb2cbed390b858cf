"""The comparison of gradients over several segments, as rows of text and as a picture."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

from discrete_ae.compare.gradients import BOUND, Agreement


class Spread(NamedTuple):
    """Mean and standard deviation over the segments; both NaN where no segment has a value."""

    mean: float
    std: float

    def __str__(self) -> str:
        return "–" if math.isnan(self.mean) else f"{self.mean:.2f} ± {self.std:.2f}"


class Summary(NamedTuple):
    """A rounding's agreement over all segments; the fields are those of Agreement."""

    name: str
    cosine: Spread
    norm_ratio: Spread
    right_sign: Spread
    slope_cosine: Spread


HEADINGS = ("rounding", "cosine", "norm ratio", "right sign", "slope alone")


def summarize(segments: Sequence[Mapping[str, Agreement]]) -> list[Summary]:
    """Agreement over the segments, sorted by cosine; where that is not defined, last.

    A segment where a rounding's gradient is 0 counts as cosine 0, unless that is so in all. A segment of reference 0 is
    left out.

    Args:
        segments: what `compare` gave for each, at least one.
    """
    segments = [segment for segment in segments if not math.isnan(segment[BOUND].norm_ratio)] or segments
    rows = []
    for name in segments[0]:
        columns = zip(*(segment[name] for segment in segments), strict=True)
        rows.append(Summary(name, *(_spread(values) for values in columns)))
    return sorted(rows, key=lambda row: -math.inf if math.isnan(row.cosine.mean) else row.cosine.mean, reverse=True)


def cells(row: Summary) -> list[str]:
    """The row as text under HEADINGS; a dash where there is no value."""
    return [row.name, *(str(value) for value in row[1:])]


def markdown(rows: Sequence[Summary], title: str) -> str:
    """The rows as a Markdown table below a line of text."""
    lines = [title, "", " | ".join(HEADINGS), " | ".join(["---", *["---:"] * (len(HEADINGS) - 1)])]
    lines += [" | ".join(cells(row)) for row in rows]
    return "\n".join(f"| {line} |" if " | " in line else line for line in lines) + "\n"


def draw_gradients(rows: Sequence[Summary], title: str) -> Figure:
    """Bars of the cosine with its spread over the segments, best on top; the norm ratio beside it."""
    figure = Figure(figsize=(9.0, 0.32 * len(rows) + 1.7), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    cosines, ratios = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    places = range(len(rows))
    colors = ["0.75" if row.name == BOUND else "tab:blue" for row in rows]
    line = {"ecolor": "0.25", "elinewidth": 1, "capsize": 2}

    cosines.barh(places, [_or_0(row.cosine.mean) for row in rows], xerr=[_or_0(row.cosine.std) for row in rows],
                 color=colors, error_kw=line)  # fmt: skip
    cosines.plot([row.slope_cosine.mean for row in rows], places, "D", color="tab:orange", markeredgecolor="white",
                 label="if dL/dq were exact: the slope alone")  # fmt: skip
    cosines.set_yticks(places, [row.name for row in rows])
    cosines.set(xlabel="cosine with the loss's steps", xlim=(None, 1.05), ylim=(len(rows) - 0.4, -0.6))
    cosines.axvline(0, color="0.25", linewidth=0.8)
    cosines.legend(loc="lower right", fontsize="small")

    shown = [row.norm_ratio.mean for row in rows if row.norm_ratio.mean > 0]
    low, high = math.floor(math.log2(min([*shown, 0.5]))) - 0.5, math.ceil(math.log2(max([*shown, 2.0]))) + 0.5
    ratios.set_xscale("log", base=2)
    ratios.set(xlabel="norm ratio |estimate| / |reference|", xlim=(2**low, 2**high))
    ratios.xaxis.set_major_formatter("{x:g}")
    ratios.axvline(1, color="0.6", linewidth=0.8, linestyle="--")
    for place, row, color in zip(places, rows, colors, strict=True):
        mean, std = row.norm_ratio
        if mean > 0:
            down = min(std, mean - 2**low / 2)  # a logarithmic axis has no place for 0 and below
            ratios.errorbar(mean, place, xerr=[[down], [std]], fmt="o", color=color, **line)
    for place, row in enumerate(rows):
        if math.isnan(row.cosine.mean):
            cosines.text(0.01, place, "no gradient at any coordinate", va="center", fontsize="small", color="0.4")
    for axes in (cosines, ratios):
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    return figure


def _spread(values: Sequence[float]) -> Spread:
    if all(math.isnan(value) for value in values):
        return Spread(math.nan, math.nan)
    known = torch.tensor(values, dtype=torch.float64).nan_to_num(0.0)
    return Spread(float(known.mean()), float(known.std(correction=0)))


def _or_0(value: float) -> float:
    return 0.0 if math.isnan(value) else value
