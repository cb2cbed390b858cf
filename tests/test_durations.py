"""Durations in words, by hand."""

import pytest

from discrete_ae.durations import about, in_words


@pytest.mark.parametrize(
    ("seconds", "exact", "estimate"),
    [
        (0.2, "0 s", "less than a minute"),
        (29.0, "29 s", "less than a minute"),
        (59.4, "59 s", "about 1 min"),
        (59.6, "1 min", "about 1 min"),
        (130.0, "2 min 10 s", "about 2 min"),
        (3599.6, "1 h", "about 1 h"),
        (3700.0, "1 h 2 min", "about 1 h 2 min"),
        (90000.0, "25 h", "about 25 h"),
    ],
)
def test_durations(seconds, exact, estimate):
    assert (in_words(seconds), about(seconds)) == (exact, estimate)
