"""A summary as it is read: the cells of its table, and what must be known beside them."""

import math

from discrete_ae.compare.listening.anchor import MID
from discrete_ae.compare.listening.summary import ConditionSummary, Summary
from discrete_ae.statistics import Interval

HEADINGS = ("", "mean\n(95 %)", "median\n(quartiles)", "behind the best\nmethod (95 %)", "ratings")

_FEW_LISTENERS = 5
_FEW_CLIPS = 5  # BS.1534-3 §7.1


def cells(row: ConditionSummary) -> tuple[str, ...]:
    """A condition's line of the table, under `HEADINGS`."""
    quartiles = " to ".join(f"{value:.0f}" for value in row.quartiles)
    return (
        row.label,
        _interval(row.mean),
        f"{row.median:.0f} ({quartiles})",
        _interval(row.behind),
        str(row.ratings),
    )


def remarks(summary: Summary) -> list[str]:
    """Sentences: who was left out and why, and what the intervals do not say."""
    if not summary.conditions:
        return ["Nothing is rated yet."]
    listeners, clips = (max(getattr(row, name) for row in summary.conditions) for name in ("listeners", "clips"))
    found = [f"Ratings of {_count(clips, 'clip')} by {_count(listeners, 'listener')}."]
    if summary.all_excluded:
        found += [f"{listener}: {reason}." for listener, reason in summary.excluded]
        found.append("By these ratings every listener would be left out; the figures have all of them, and say little.")
    else:
        found += [f"{listener} was left out: {reason}." for listener, reason in summary.excluded]
    if listeners == 1:
        found.append("The intervals are of other clips for this one listener; of other listeners they say nothing.")
    elif listeners < _FEW_LISTENERS:
        found.append(f"With {listeners} listeners the intervals are too narrow: a bootstrap needs more to draw from.")
    if clips < _FEW_CLIPS:
        found.append(f"BS.1534-3 wants at least {_FEW_CLIPS} clips.")
    if any(not math.isnan(row.behind.mean) for row in summary.conditions):
        found.append(
            "Behind the best method: on the same clips, by the same listeners. Where the interval holds 0, the two "
            "cannot be told apart. The best was chosen by the same ratings: of many methods that are alike, some "
            "intervals miss 0 by chance."
        )
    if all(row.condition != MID for row in summary.conditions):
        found.append("No mid anchor was rated: listeners are left out by their ratings of the hidden reference alone.")
    return found


def _interval(interval: Interval) -> str:
    if math.isnan(interval.mean):
        return ""
    mean, low, high = (f"{value:z.0f}".replace("-", "−") for value in interval)
    return mean if math.isnan(interval.low) else f"{mean} ({low} to {high})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
