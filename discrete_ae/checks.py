"""Checks of arguments: each returns the value, or raises a ValueError with the argument's name and valid values."""

import math
from collections.abc import Callable
from typing import Any

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 100, 768_000
"""Limits in Hz for recordings and models, from seismographs to the fastest converters. A resampler's memory grows with
the ratio of two rates, and is 80 MB for these two."""


def sample_rate(name: str, value: int) -> int:
    """Return a sample rate in whole Hz within the limits above."""
    expected = f"whole Hz from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}"
    rate = _number(name, value, expected, lambda rate: MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE)
    if not isinstance(rate, int):
        raise _refusal(name, expected, value)
    return rate


def true_or_false(name: str, value: bool) -> bool:
    """Return a boolean; any other value, such as the string "maybe", is rejected."""
    flag = _plain(value)
    if not isinstance(flag, bool):
        raise _refusal(name, "true or false", value)
    return flag


def finite(name: str, value: float) -> float:
    """Return a finite number."""
    return float(_number(name, value, "a finite number", math.isfinite))


def positive(name: str, value: float) -> float:
    """Return a finite number above 0."""
    return _number(name, value, "a finite number above 0", lambda number: 0 < number < math.inf)


def not_negative(name: str, value: float) -> float:
    """Return a finite number of at least 0."""
    return _number(name, value, "a finite number of at least 0", lambda number: 0 <= number < math.inf)


def in_unit_interval(name: str, value: float) -> float:
    """Return a number in [0, 1]."""
    return _number(name, value, "a number in [0, 1]", lambda number: 0 <= number <= 1)


def whole_number(name: str, value: float, least: int) -> int:
    """Return a whole number of at least `least` as an int."""
    fits = lambda number: number >= least and float(number).is_integer()  # noqa: E731
    return int(_number(name, value, f"a whole number of at least {least}", fits))


def _number(name: str, value: float, expected: str, fits: Callable[[float], bool]) -> float:
    """Return the number if it fits; reject True and False."""
    number = _plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not fits(number):
        raise _refusal(name, expected, value)
    return number


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python number or boolean, which JSON can store; return other values unchanged."""
    # NumPy is not imported: roundings need torch alone.
    return value.item() if type(value).__module__ == "numpy" and value.ndim == 0 else value


def _refusal(name: str, expected: str, value: object) -> ValueError:
    return ValueError(f"{name}: expected {expected}, got {value!r:.60}")
