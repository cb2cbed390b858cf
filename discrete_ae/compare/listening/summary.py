"""From ratings to figures: who is left out, and means with their intervals.

Axes: L listeners, K clips.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discrete_ae.compare.listening.anchor import CUTOFF_HZ, MID
from discrete_ae.compare.listening.material import REFERENCE
from discrete_ae.compare.listening.ratings import Rating
from discrete_ae.statistics import Interval, crossed_interval

# BS.1534-3 §4.1.2
_GRADE = 90
_TOLERATED_SHARE = 0.15
_SHARE_OF_LISTENERS = 0.25


class Exclusion(NamedTuple):
    """A listener whose ratings are left out."""

    listener: str
    reason: str


class ConditionSummary(NamedTuple):
    """One condition over all listeners and clips."""

    condition: str
    label: str
    ratings: int
    """Clips rated by listeners, each pair once."""
    listeners: int
    clips: int
    mean: Interval
    """0 to 100. Low and high are NaN with one listener and one clip."""
    median: float
    quartiles: tuple[float, float]
    behind: Interval
    """Mean of the best-rated method minus this one, where both were rated, with its interval; NaN where nothing was
    rated beside it, and for the best method, the hidden reference and the anchors."""


class Summary(NamedTuple):
    """Of a file of ratings."""

    conditions: list[ConditionSummary]
    """The highest mean first."""
    listeners: int
    """All, those left out included."""
    excluded: list[Exclusion]
    all_excluded: bool
    """Whether nobody would be left: then nobody is left out of the figures."""


def exclusions(ratings: Iterable[Rating]) -> list[Exclusion]:
    """Listeners to leave out, by the post-screening of BS.1534-3 §4.1.2.

    Those who rate the hidden reference below 90 in more than 15 % of the clips, or the mid anchor above 90 in more than
    15 % of them. A clip on which more than a quarter of the listeners do the latter was hardly changed by the filter,
    and does not count.
    """
    cells = _cells(ratings)
    found = []
    reference = {who: clips[REFERENCE] for who, clips in cells.items() if REFERENCE in clips}
    low = {who: [grade < _GRADE for grade in clips.values()] for who, clips in reference.items()}
    mid = {who: clips[MID] for who, clips in cells.items() if MID in clips}
    graded: dict[str, list[bool]] = defaultdict(list)
    for clips in mid.values():
        for clip, grade in clips.items():
            graded[clip].append(grade > _GRADE)
    unchanged = {clip for clip, above in graded.items() if np.mean(above) > _SHARE_OF_LISTENERS}
    high = {
        who: [grade > _GRADE for clip, grade in clips.items() if clip not in unchanged] for who, clips in mid.items()
    }
    for who in cells:
        for shares, what in ((low, "the hidden reference below"), (high, "the mid anchor above")):
            faults = shares.get(who, [])
            if faults and sum(faults) > _TOLERATED_SHARE * len(faults):
                found.append(Exclusion(who, f"rated {what} {_GRADE} in {sum(faults)} of {len(faults)} clips"))
                break
    return found


def summarize(ratings: Sequence[Rating]) -> Summary:
    """Figures of every condition, over the listeners that the post-screening leaves.

    What a listener rated several times on one clip counts once, by its mean.
    """
    excluded = exclusions(ratings)
    names = {name for name, _ in excluded}
    everyone = {rating.assessor for rating in ratings}
    all_excluded = bool(everyone) and everyone == names
    kept = [rating for rating in ratings if all_excluded or rating.assessor not in names]
    labels = {rating.condition: rating.label for rating in kept}
    grades = {condition: _matrix(kept, condition) for condition in labels}
    order = sorted(labels, key=lambda condition: -np.nanmean(grades[condition]))
    methods = [condition for condition in order if condition != REFERENCE and condition not in CUTOFF_HZ]
    rows = []
    for condition in order:
        values = grades[condition]
        cells = np.sort(values[~np.isnan(values)])
        compared = condition in methods[1:]
        rows.append(
            ConditionSummary(
                condition,
                labels[condition],
                len(cells),
                int((~np.isnan(values)).any(1).sum()),
                int((~np.isnan(values)).any(0).sum()),
                crossed_interval(values),
                float(np.median(cells)),
                _quartiles(cells),
                crossed_interval((grades[methods[0]] if compared else np.nan) - values),
            )
        )
    return Summary(rows, len(everyone), excluded, all_excluded)


def _cells(ratings: Iterable[Rating]) -> dict[str, dict[str, dict[str, float]]]:
    """By listener, condition and clip: the grade, or the mean of several."""
    several: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for rating in ratings:
        several[rating.assessor, rating.condition, rating.clip].append(rating.rating)
    cells: dict[str, dict[str, dict[str, float]]] = {}
    for (who, condition, clip), grades in several.items():
        cells.setdefault(who, {}).setdefault(condition, {})[clip] = float(np.mean(grades))
    return cells


def _matrix(ratings: Sequence[Rating], condition: str) -> NDArray[np.float64]:
    """Grades (L, K) of a condition, NaN where there is none; the rows and columns are the same for all conditions."""
    listeners = {who: i for i, who in enumerate(sorted({rating.assessor for rating in ratings}))}
    clips = {clip: k for k, clip in enumerate(sorted({rating.clip for rating in ratings}))}
    matrix = np.full((len(listeners), len(clips)), np.nan)
    for who, conditions in _cells(ratings).items():
        for clip, grade in conditions.get(condition, {}).items():
            matrix[listeners[who], clips[clip]] = grade
    return matrix


def _quartiles(ordered: NDArray[np.float64]) -> tuple[float, float]:
    """The medians of the lower and of the upper half, which share the middle one of an odd number (§4.1.2)."""
    half = (len(ordered) + 1) // 2
    return float(np.median(ordered[:half])), float(np.median(ordered[len(ordered) - half :]))
