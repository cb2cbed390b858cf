"""Summary of ratings from the blind test on a report's page: saved CSV files are read, means and intervals computed.

The test follows ITU-R BS.1534-3, "Method for the subjective assessment of intermediate quality level of audio
systems" (MUSHRA, 2015), https://www.itu.int/rec/R-REC-BS.1534, with these deviations:

- If the recordings have hardly more bandwidth than the mid anchor, the low anchor is the only anchor. Listeners are
  then not screened by their ratings of the mid anchor (§4.1.2, §5.1).
- Loudness is not adjusted. In §7.1 a panel may adjust it beforehand.
- Practice is optional, and consists of one clip with all of its conditions. In §5.2 training is mandatory.
- Listeners are not selected (§4.1). They choose level, room and headphones, which §8 prescribes.
- Only a whole clip can be looped, not a part of it (§5.3).
- The HTML source of the page reveals the conditions; the test is blind only for listeners who do not read the source.

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
"""Cutoff frequencies in Hz of the anchors, which are low-passed versions of the reference, by key (§5.1)."""
MAX_CONDITIONS = 12
"""Largest number of conditions, including hidden reference and anchors; more would overload a listener (§5.3)."""
HEADINGS = ("condition", "mean (95 %)", "median (quartiles)", "behind the best method (95 %)", "ratings")

# §4.1.2
_GRADE = 90
_TOLERATED_SHARE = 0.15
_SHARE_OF_LISTENERS = 0.25

_FEW_LISTENERS = 5
_FEW_CLIPS = 5  # §7.1


class Rating(Record):
    """One row of a ratings file, with the columns that are used here."""

    listener: str
    """A name or a code."""
    material: str
    """Digest of the sounds: `page.material`."""
    clip: str
    condition: str
    """Key of the rated version."""
    label: str
    """Label of the rated version."""
    rating: Annotated[int, Field(strict=False, ge=0, le=100)]
    """Rating from 0, bad, to 100, excellent (§5.4)."""


class Condition(NamedTuple):
    """One condition over all listeners and clips."""

    key: str
    label: str
    ratings: int
    """Number of rated pairs of listener and clip."""
    mean: Interval
    """Mean from 0 to 100; low and high are NaN with one listener and one clip."""
    median: float
    quartiles: tuple[float, float]
    behind: Interval
    """Mean rating of the best method minus that of this method, with its interval, where both were rated. NaN if they
    never were, and for the best method, the hidden reference and the anchors."""


class Summary(NamedTuple):
    """A summary of all ratings."""

    conditions: list[Condition]
    """Conditions, the highest mean first."""
    listeners: int
    """Number of listeners, including the excluded ones."""
    clips: int
    excluded: dict[str, str]
    """Listeners excluded by the post-screening, with the reason. If it excludes everyone, the figures include
    everyone."""


def read_ratings(paths: Sequence[Path]) -> list[Rating]:
    """Read ratings files saved by the page of a report.

    Raises:
        OSError: a file cannot be read.
        DataError: a file has no ratings, or the ratings are of different sounds.
    """
    found: list[Rating] = []
    for path in paths:
        try:
            text = path.read_bytes().decode("utf-8-sig")  # spreadsheets add this mark
            rows = [Rating.of(row) for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)]
        except (ValueError, csv.Error) as error:
            raise DataError(
                f"{path}: expected ratings saved by a report's page ({error}); give another file"
            ) from error
        if not rows:
            raise DataError(f"{path}: has no ratings; rate some clips in the blind test of a report")
        found += rows
        if found[0].material != rows[-1].material or len({row.material for row in rows}) > 1:
            raise DataError(f"{path}: has ratings of other sounds than {paths[0]}; give the ratings of one report")
    return found


def summarize(ratings: Sequence[Rating]) -> Summary:
    """Return the figures of every condition over the listeners who pass the post-screening.

    If a listener rated a clip and condition several times, the mean of these ratings is used.

    Args:
        ratings: ratings, at least one.
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
    """Return the table row of a condition, under `HEADINGS`."""
    low, high = condition.quartiles
    return (
        condition.label,
        _shown(condition.mean),
        f"{condition.median:.0f} ({low:.0f} to {high:.0f})",
        _shown(condition.behind),
        str(condition.ratings),
    )


def remarks(summary: Summary) -> list[str]:
    """Return sentences on excluded listeners, and on the limits of the intervals."""
    counted = summary.listeners - len(summary.excluded)
    found = [f"Clips: {summary.clips}. Listeners: {summary.listeners}."]
    fate = "Excluded" if counted else "Would be excluded"
    found += [f"{fate}: {who}, who {why}." for who, why in summary.excluded.items()]
    if not counted:
        counted = summary.listeners
        found.append("The post-screening would exclude every listener, so the figures include all and are unreliable.")
    if counted == 1:
        found.append("The intervals cover clips for this one listener; other listeners may differ.")
    elif counted < _FEW_LISTENERS:
        found.append(f"With {counted} listeners the intervals are too narrow: a bootstrap needs more listeners.")
    if summary.clips < _FEW_CLIPS:
        found.append(f"BS.1534-3 requires at least {_FEW_CLIPS} clips.")
    if any(not math.isnan(row.behind.mean) for row in summary.conditions):
        found.append(
            "Two methods cannot be told apart if the interval of their difference includes 0. The best method was "
            "chosen from the same ratings, so among many equal methods some intervals exclude 0 by chance."
        )
    if all(row.key != MID for row in summary.conditions):
        found.append("There is no mid anchor: listeners are only screened by their ratings of the hidden reference.")
    return found


def as_table(summary: Summary) -> list[list[str]]:
    """Return the figures as rows of a CSV file; the first row has the column names."""
    head = ["condition", "label", "ratings", "mean", "mean_low", "mean_high", "median", "lower_quartile"]
    rows = [[*head, "upper_quartile", "behind_best", "behind_best_low", "behind_best_high"]]
    for row in summary.conditions:
        figures = (*row.mean, row.median, *row.quartiles, *row.behind)
        shown = ["" if math.isnan(figure) else f"{figure:.2f}" for figure in figures]
        rows.append([row.key, row.label, str(row.ratings), *shown])
    return rows


def _table(ratings: Sequence[Rating], conditions: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
    """Return the listeners and their grades (L, K, C): the mean of repeated grades, NaN if there is no grade."""
    listeners, clips = sorted({rating.listener for rating in ratings}), sorted({rating.clip for rating in ratings})
    axes = ((listeners, "listener"), (clips, "clip"), (conditions, "condition"))
    places = tuple([names.index(getattr(rating, name)) for rating in ratings] for names, name in axes)
    total, count = np.zeros((2, len(listeners), len(clips), len(conditions)))
    np.add.at(total, places, [rating.rating for rating in ratings])
    np.add.at(count, places, 1)
    return listeners, np.where(count, total / np.maximum(count, 1), np.nan)


def _excluded(listeners: Sequence[str], grades: Mapping[str, NDArray[np.float64]]) -> dict[str, str]:
    """Return the listeners to exclude, with the reason, by the post-screening of §4.1.2.

    A listener is excluded who rates the hidden reference below 90, or the mid anchor above 90, in more than 15 % of the
    clips. For the mid anchor, a clip is ignored if more than a quarter of the listeners rate its mid anchor above 90,
    because the filter hardly changed the clip. `grades` has the grades (L, K) of each condition.
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
    """Return the medians of the lower and the upper half; the middle of an odd number of values is in both (§4.1.2)."""
    half = (len(ordered) + 1) // 2
    return float(np.median(ordered[:half])), float(np.median(ordered[len(ordered) - half :]))


def _shown(interval: Interval) -> str:
    if math.isnan(interval.mean):
        return ""
    mean, low, high = (f"{value:z.0f}".replace("-", "−") for value in interval)
    return mean if math.isnan(interval.low) else f"{mean} ({low} to {high})"
