"""Recordings cut into segments: nothing lost, nothing twice."""

import math

import numpy as np
import pytest

from discrete_ae.errors import UsageError
from discrete_ae.evaluation.segments import check_segment_seconds, cut, segment_lengths, weighted_mean


@pytest.mark.parametrize(
    ("num_samples", "lengths"),
    [
        (1, [1]),
        (99, [99]),
        (300, [300]),
        (399, [399]),  # 0.99 s more than a segment
        (400, [300, 100]),
        (899, [300, 300, 299]),
        (999, [300, 300, 399]),
    ],
)
def test_lengths_of_segments_of_3_seconds_at_100_hz(num_samples, lengths):
    assert segment_lengths(num_samples, 100, 3) == lengths


def test_a_segment_may_be_longer_than_any_recording():
    assert segment_lengths(100, 16000, 1e308) == [100]  # 1e308 s have more samples than a float can count


@pytest.mark.parametrize("seconds", [math.inf, -math.inf, math.nan, 0.99, -1.0])
def test_lengths_that_are_none(seconds):
    with pytest.raises(UsageError, match=f"a finite number of at least 1, got {seconds}"):
        check_segment_seconds(seconds)
    assert check_segment_seconds(1.0) == 1


def test_weighted_mean():
    assert weighted_mean([(1, 2.0), (3, 6.0), (5, None)]) == 5.0
    assert weighted_mean([(1, None)]) is None
    assert weighted_mean([]) is None
    assert math.isnan(weighted_mean([(1, 2.0), (1, math.nan), (1, None)]))  # a lost one is not left out


def test_cutting_does_not_depend_on_the_blocks():
    random = np.random.default_rng(0)
    signal = random.standard_normal((2, 1000)).astype(np.float32)
    expected = np.split(signal, [300, 310, 700], axis=1)
    for count in (0, 1, 5, 100):
        blocks = np.split(signal, np.sort(random.integers(0, 1001, count)), axis=1)  # some of them empty
        for found, wanted in zip(cut(blocks, [300, 10, 390, 300]), expected, strict=True):
            assert np.array_equal(found, wanted)


def test_a_signal_that_ends_early_shows():
    blocks = [np.zeros((1, 250), np.float32)]
    assert [part.shape for part in cut(blocks, [100, 100, 100])] == [(1, 100), (1, 100), (1, 50)]
    assert [part.shape for part in cut(blocks, [100, 150])] == [(1, 100), (1, 150)]
    assert list(cut([], [100])) == []
