"""Checks of arguments: each returns the value, or raises a ValueError that names it and what was expected."""

import math

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 100, 768_000
"""Limits in Hz for recordings and models, from seismographs to the fastest converters. A resampler's memory grows with
the ratio of two rates, and is 80 MB for these two."""


def sample_rate(name: str, value: int) -> int:
    """Return a sample rate in whole Hz within the limits above."""
    # Not an integer of numpy: a rate is written to files as plain JSON.
    if not isinstance(value, int) or isinstance(value, bool) or not MIN_SAMPLE_RATE <= value <= MAX_SAMPLE_RATE:
        raise ValueError(f"{name}: expected whole Hz from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}, got {value!r:.40}")
    return value


def true_or_false(name: str, value: bool) -> bool:
    """Return a boolean; a word such as "maybe" would count as true in Python."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, got {value!r}")
    return value


def finite(name: str, value: float) -> float:
    """Return a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
    return float(value)


def positive(name: str, value: float) -> float:
    """Return a finite number above 0."""
    if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a finite number above 0, got {value!r}")
    return value


def not_negative(name: str, value: float) -> float:
    """Return a finite number of at least 0."""
    if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: expected a finite number of at least 0, got {value!r}")
    return value


def in_unit_interval(name: str, value: float) -> float:
    """Return a number in [0, 1]."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number in [0, 1], got {value!r}")
    return value


def whole_number(name: str, value: float, least: int) -> int:
    """Return a whole number of at least `least` as an int."""
    if not isinstance(value, int | float) or not value >= least or not float(value).is_integer():
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return int(value)
