"""Arguments: what passes, unchanged, and what is refused by name."""

import math
import re

import numpy as np
import pytest
import torch

from discrete_ae import checks
from discrete_ae.checks import finite, in_unit_interval, not_negative, positive, true_or_false, whole_number

NAN, INF = math.nan, math.inf


def at_least_2(name, value):
    return whole_number(name, value, least=2)


@pytest.mark.parametrize(
    ("check", "values"),
    [
        (positive, [1, 0.5, 1e-300, 1e300]),
        (in_unit_interval, [0, 0.0, 1e-300, 0.5, 1, 1.0]),
        (at_least_2, [2, 3, 2.0, 1e6]),
        (finite, [-1e300, -1, 0, 0.5]),
        (true_or_false, [True, False]),
    ],
)
def test_what_is_in_range_passes_unchanged(check, values):
    assert [check("count", value) for value in values] == values


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (positive, np.int64(4), 4),
        (positive, np.array(0.5), 0.5),
        (in_unit_interval, np.float32(0.5), 0.5),
        (not_negative, np.float64(0), 0.0),
        (finite, np.float16(-2), -2.0),
        (at_least_2, np.uint8(200), 200),
        (true_or_false, np.bool_(True), True),
        (checks.sample_rate, np.int32(8000), 8000),
    ],
)
def test_scalars_of_numpy_become_plain_numbers(check, value, expected):
    found = check("count", value)
    assert (type(found), found) == (type(expected), expected)


def test_a_whole_float_becomes_an_int():
    assert type(whole_number("count", 3.0, least=1)) is int
    assert type(whole_number("count", 3, least=1)) is int


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        *[
            (check, flag, "number.*")
            for check in (positive, not_negative, at_least_2)
            for flag in (True, np.bool_(True))
        ],
        *[(positive, value, "above 0") for value in (np.array([4]), np.int64(0), np.True_, torch.tensor(4.0))],
        *[(positive, value, "above 0") for value in (0, -1, -1e-300, NAN, INF, -INF, "one", None, [1])],
        *[(in_unit_interval, v, r"in \[0, 1\]") for v in (-1e-300, 1.0000001, 2, NAN, INF, -INF, "half", None, [0.5])],
        *[(finite, v, "a finite number") for v in (NAN, INF, -INF, "foo", None, True, [1.0])],
        *[(true_or_false, v, "true or false") for v in ("maybe", "false", 0, 1, None, np.str_("true"), np.int64(1))],
        *[(at_least_2, v, "whole number of at least 2") for v in (1, 0, -3, 2.5, NAN, INF, -INF, "two", None, [2])],
    ],
)
def test_the_rest_is_refused_by_name(check, value, expected):
    with pytest.raises(ValueError, match=rf"^count: expected .*{expected}, got {re.escape(repr(value))}$"):
        check("count", value)


def test_sample_rates_are_whole_hertz_in_range():
    assert [checks.sample_rate("rate", rate) for rate in (100, 44100, 768_000)] == [100, 44100, 768_000]
    for wrong in (99, 768_001, 0, -1, 2**70, 8000.0, 8000.5, True, "8000", None):
        with pytest.raises(ValueError, match="rate: expected whole Hz from 100 to 768000, got "):
            checks.sample_rate("rate", wrong)
