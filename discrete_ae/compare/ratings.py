"""Ratings of the blind test on a report's page: from the CSV files that it saves to means with their intervals.

The test is that of ITU-R BS.1534-3, "Method for the subjective assessment of intermediate quality level of audio
systems" (MUSHRA, 2015), https://www.itu.int/rec/R-REC-BS.1534, but for this:

- One anchor in place of two where the recordings have hardly more band than the mid anchor would have; then the
  post-screening by the mid anchor falls away (§4.1.2, §5.1).
- Loudness is left as the report has it; §7.1 has it adjusted by a panel beforehand.
- Practice is one clip with all of its conditions, and may be skipped; §5.2 makes training mandatory.
- Level, room and transducer are the listener's (§8 prescribes them), and nobody selects the listeners (§4.1).
- No part of a clip can be looped by itself, only the whole (§5.3).
- Whoever reads the source of the page can tell the conditions apart; it is blind to those who listen.

Axes: L listeners, K clips, C conditions.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from discrete_ae.errors import DataError
from discrete_ae.records import Record
from discrete_ae.statistics import Interval, crossed_interval

REFERENCE = "reference"
"""Key of the hidden reference among the conditions."""
MID = "mid_anchor"
ANCHORS = {"low_anchor": 3500.0, MID: 7000.0}
"""The frequencies in Hz at which the low-passed versions of the reference end, by key (§5.1)."""
MAX_CONDITIONS = 12
"""Hidden reference and anchors included: more overload a listener (§5.3)."""
HEADINGS = ("condition", "mean (95 %)", "median (quartiles)", "behind the best method (95 %)", "ratings")

# §4.1.2
_GRADE = 90
_TOLERATED_SHARE = 0.15
_SHARE_OF_LISTENERS = 0.25

_FEW_LISTENERS = 5
_FEW_CLIPS = 5  # §7.1


class Rating(Record):
    """A row of a file of ratings, so far as it is summarized."""

    listener: str
    """A name or a code."""
    material: str
    """Digest of what was heard: `render.material`."""
    clip: str
    condition: str
    """Key of what was rated."""
    label: str
    """The same as it is shown."""
    rating: Annotated[int, Field(strict=False, ge=0, le=100)]
    """0, bad, to 100, excellent (§5.4)."""


class Condition(NamedTuple):
    """One condition over all listeners and clips."""

    key: str
    label: str
    ratings: int
    """Clips rated by listeners, each pair once."""
    mean: Interval
    """0 to 100. Low and high are NaN with one listener and one clip."""
    median: float
    quartiles: tuple[float, float]
    behind: Interval
    """Mean of the best-rated method minus this one, where both were rated, with its interval; NaN where nothing was
    rated beside it, and for the best method, the hidden reference and the anchors."""


class Summary(NamedTuple):
    """Of all ratings."""

    conditions: list[Condition]
    """The highest mean first."""
    listeners: int
    """All, those left out included."""
    clips: int
    excluded: dict[str, str]
    """Listeners whom the post-screening leaves out, with the reason. If it leaves nobody, the figures are of all."""


def read_ratings(paths: Sequence[Path]) -> list[Rating]:
    """Read the files that a report's page saved.

    Raises:
        OSError: one cannot be read.
        DataError: one holds no ratings, or they are of different sounds.
    """
    found: list[Rating] = []
    for path in paths:
        try:
            text = path.read_bytes().decode("utf-8-sig")  # which a spreadsheet adds
            rows = [Rating.of(row) for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)]
        except (ValueError, csv.Error) as error:
            raise DataError(f"{path}: not ratings as a report's page saves them ({error}); give others") from error
        if not rows:
            raise DataError(f"{path}: holds no ratings; rate some clips in the blind test of a report")
        found += rows
        if found[0].material != rows[-1].material or len({row.material for row in rows}) > 1:
            raise DataError(f"{path}: not all is of the sounds of {paths[0]}; give the ratings of one report")
    return found


def summarize(ratings: Sequence[Rating]) -> Summary:
    """Return the figures of every condition, over the listeners that the post-screening leaves.

    What a listener rated several times on one clip counts once, by its mean.

    Args:
        ratings: at least one.
    """
    labels = {rating.condition: rating.label for rating in ratings}
    listeners, grades = _table(ratings, list(labels))
    excluded = _excluded(listeners, dict(zip(labels, np.moveaxis(grades, 2, 0), strict=True)))
    kept = [i for i, who in enumerate(listeners) if who not in excluded] or list(range(len(listeners)))
    of = {key: grades[kept, :, i] for i, key in enumerate(labels) if not np.isnan(grades[kept, :, i]).all()}
    order = sorted(of, key=lambda key: -np.nanmean(of[key]))
    methods = [key for key in order if key != REFERENCE and key not in ANCHORS]
    conditions = []
    for key in order:
        known = np.sort(of[key][~np.isnan(of[key])])
        mean = crossed_interval(of[key])
        behind = crossed_interval((of[methods[0]] if key in methods[1:] else np.nan) - of[key])
        conditions.append(
            Condition(key, labels[key], len(known), mean, float(np.median(known)), _quartiles(known), behind)
        )
    return Summary(conditions, len(listeners), grades.shape[1], excluded)


def cells(condition: Condition) -> tuple[str, ...]:
    """Return a condition's line of the table, under `HEADINGS`."""
    low, high = condition.quartiles
    return (
        condition.label,
        _shown(condition.mean),
        f"{condition.median:.0f} ({low:.0f} to {high:.0f})",
        _shown(condition.behind),
        str(condition.ratings),
    )


def remarks(summary: Summary) -> list[str]:
    """Return sentences: who was left out and why, and what the intervals do not say."""
    counted = summary.listeners - len(summary.excluded)
    found = [f"Clips: {summary.clips}. Listeners: {summary.listeners}."]
    fate = "Left out" if counted else "Would be left out"
    found += [f"{fate}: {who}, who {why}." for who, why in summary.excluded.items()]
    if not counted:
        counted = summary.listeners
        found.append("The post-screening would leave out every listener: the figures are of all, and say little.")
    if counted == 1:
        found.append("The intervals are over clips for this one listener; of other listeners they say nothing.")
    elif counted < _FEW_LISTENERS:
        found.append(f"With {counted} listeners the intervals are too narrow: a bootstrap needs more to draw from.")
    if summary.clips < _FEW_CLIPS:
        found.append(f"BS.1534-3 wants at least {_FEW_CLIPS} clips.")
    if any(not math.isnan(row.behind.mean) for row in summary.conditions):
        found.append(
            "Two methods cannot be told apart where the interval of the difference holds 0. The best one was chosen by "
            "the same ratings: of many methods that are alike, some intervals miss 0 by chance."
        )
    if all(row.key != MID for row in summary.conditions):
        found.append("There is no mid anchor: listeners are left out by their ratings of the hidden reference alone.")
    return found


def as_table(summary: Summary) -> list[list[str]]:
    """Return the figures as rows of a CSV file, the first one with the names of the columns."""
    head = ["condition", "label", "ratings", "mean", "mean_low", "mean_high", "median", "lower_quartile"]
    rows = [[*head, "upper_quartile", "behind_best", "behind_best_low", "behind_best_high"]]
    for row in summary.conditions:
        figures = (*row.mean, row.median, *row.quartiles, *row.behind)
        shown = ["" if math.isnan(figure) else f"{figure:.2f}" for figure in figures]
        rows.append([row.key, row.label, str(row.ratings), *shown])
    return rows


def _table(ratings: Sequence[Rating], conditions: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
    """Return the listeners and their grades (L, K, C), NaN where there is none; the mean of several."""
    listeners, clips = sorted({rating.listener for rating in ratings}), sorted({rating.clip for rating in ratings})
    axes = ((listeners, "listener"), (clips, "clip"), (conditions, "condition"))
    places = tuple([names.index(getattr(rating, name)) for rating in ratings] for names, name in axes)
    total, count = np.zeros((2, len(listeners), len(clips), len(conditions)))
    np.add.at(total, places, [rating.rating for rating in ratings])
    np.add.at(count, places, 1)
    return listeners, np.where(count, total / np.maximum(count, 1), np.nan)


def _excluded(listeners: Sequence[str], grades: Mapping[str, NDArray[np.float64]]) -> dict[str, str]:
    """Return the listeners to leave out, with the reason, by the post-screening of §4.1.2.

    They rate the hidden reference below 90 in more than 15 % of the clips, or the mid anchor above 90 in more than 15 %
    of them. A clip on which more than a quarter of the listeners do the latter was hardly changed by the filter, and
    does not count. `grades` are (L, K) of each condition.
    """
    nothing = np.full((len(listeners), 1), np.nan)
    reference, mid = grades.get(REFERENCE, nothing), grades.get(MID, nothing)
    was_changed = (mid > _GRADE).sum(0) <= _SHARE_OF_LISTENERS * (~np.isnan(mid)).sum(0)
    mid = np.where(was_changed, mid, np.nan)
    found = {}
    for what, rated, faults in (
        (f"rated the mid anchor above {_GRADE}", mid, mid > _GRADE),
        (f"rated the hidden reference below {_GRADE}", reference, reference < _GRADE),
    ):
        for who, count, total in zip(listeners, faults.sum(1), (~np.isnan(rated)).sum(1), strict=True):
            if count > _TOLERATED_SHARE * total:
                found[who] = f"{what} in {count} of {total} clips"
    return found


def _quartiles(ordered: NDArray[np.float64]) -> tuple[float, float]:
    """Return the medians of the lower and of the upper half, which share the middle one of an odd number (§4.1.2)."""
    half = (len(ordered) + 1) // 2
    return float(np.median(ordered[:half])), float(np.median(ordered[len(ordered) - half :]))


def _shown(interval: Interval) -> str:
    if math.isnan(interval.mean):
        return ""
    mean, low, high = (f"{value:z.0f}".replace("-", "−") for value in interval)
    return mean if math.isnan(interval.low) else f"{mean} ({low} to {high})"
