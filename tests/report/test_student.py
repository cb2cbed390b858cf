"""Student's t against closed forms and a printed table."""

import math

import numpy as np
import pytest

from discrete_ae.report.student import half_width, quantile


def test_one_and_two_degrees_of_freedom_have_closed_forms():
    # The distribution functions are 1/2 + atan(t) / pi and 1/2 + t / (2 sqrt(2 + t^2)).
    assert quantile(1) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-12)
    assert quantile(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-12)


@pytest.mark.parametrize(
    ("freedom", "printed"),
    [
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (6, 2.447),
        (9, 2.262),
        (10, 2.228),
        (29, 2.045),
        (120, 1.980),
        (10000, 1.960),
    ],
)
def test_quantiles_are_those_of_printed_tables(freedom, printed):
    assert quantile(freedom) == pytest.approx(printed, abs=5.1e-4)


def test_half_width_by_hand():
    # Mean 3, standard deviation sqrt(7), of three values.
    assert half_width(np.array([1.0, 2.0, 6.0])) == pytest.approx(4.302653 * math.sqrt(7) / math.sqrt(3), rel=1e-6)
