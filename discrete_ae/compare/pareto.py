"""Which points of rate and distortion no other one beats."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """A method or baseline in the plane of rate and distortion."""

    label: str
    rate: float
    value: float


def pareto_front(points: Sequence[Point], *, higher_is_better: bool) -> list[Point]:
    """The points that no other one equals or beats in both, being better in one; by increasing rate.

    Points with NaN are left out. Of equal points all are on the front.
    """
    sign = 1.0 if higher_is_better else -1.0
    known = [point for point in points if not math.isnan(point.rate + point.value)]
    front = [
        point
        for point in known
        if not any(
            other.rate <= point.rate
            and sign * other.value >= sign * point.value
            and (other.rate, other.value) != (point.rate, point.value)
            for other in known
        )
    ]
    return sorted(front, key=lambda point: (point.rate, point.label))
