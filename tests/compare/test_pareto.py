"""The Pareto front, against brute force."""

import math
import random

from discrete_ae.compare.pareto import Point, pareto_front


def test_pareto_front_by_brute_force():
    numbers = random.Random(0)
    for _ in range(200):
        points = [Point(str(i), numbers.randrange(6), numbers.randrange(6)) for i in range(numbers.randrange(1, 9))]
        for higher in (True, False):
            front = pareto_front(points, higher_is_better=higher)
            for point in points:
                beaten = [
                    other
                    for other in points
                    if (
                        other.rate < point.rate
                        and (other.value == point.value or (other.value > point.value) == higher)
                    )
                    or (
                        other.rate == point.rate
                        and other.value != point.value
                        and (other.value > point.value) == higher
                    )
                ]
                assert (point in front) == (not beaten)
            assert [point.rate for point in front] == sorted(point.rate for point in front)


def test_pareto_front_leaves_out_what_has_no_rate():
    points = [Point("identity", math.nan, 9.0), Point("ste", 3.0, 4.0)]
    assert pareto_front(points, higher_is_better=True) == points[1:]
