"""Intervals by bootstrap and by Student's t, against closed forms."""

import math

import numpy as np
import pytest

from discrete_ae import statistics
from discrete_ae.statistics import (
    RESAMPLES,
    crossed_interval,
    half_width,
    mean_interval,
    paired_difference,
    resampled,
    unpaired_difference,
    welch_half_width,
)

# The variance of RESAMPLES draws has a relative standard error of sqrt(2 / RESAMPLES), 1.4 %; 6 % is four of them.
OF_VARIANCE = 0.06


def test_resampled_means_of_two_values_are_binomial():
    # Of the values 0 and 1, two drawn with replacement have the mean 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4.
    drawn = resampled([np.array([[[0.0, 1.0]]])])
    assert set(np.unique(drawn)) == {0.0, 0.5, 1.0}
    for value, share in ((0.0, 0.25), (0.5, 0.5), (1.0, 0.25)):
        assert np.mean(drawn == value) == pytest.approx(share, abs=4 * math.sqrt(share / RESAMPLES))


def test_resampled_means_are_of_the_values_that_are_drawn(monkeypatch):
    tables = [np.random.default_rng(0).standard_normal((2, rows, 7)) for rows in (3, 4)]
    monkeypatch.setattr(statistics, "_AT_ONCE", 7 * 3000)
    monkeypatch.setattr(statistics, "_KEPT_FILES", 0)
    random, expected = np.random.default_rng(6), []
    for count in (3000, 3000, 3000, 1000):
        rows = [random.multinomial(len(table[0]), np.full(len(table[0]), 1 / len(table[0])), count) for table in tables]
        columns = random.integers(7, size=(count, 7))
        for i in range(count):
            means = [np.average(table, axis=1, weights=drawn[i]) for table, drawn in zip(tables, rows, strict=True)]
            expected.append(sum(means)[:, columns[i]].mean(axis=1))
    np.testing.assert_allclose(resampled(tables, seed=6), np.transpose(expected), rtol=0, atol=1e-12)


def test_values_of_the_same_shape_are_drawn_once(monkeypatch):
    values = np.random.default_rng(1).standard_normal((3, 11))
    found = crossed_interval(values, seed=8)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: pytest.fail("drawn again"))
    assert crossed_interval(values, seed=8) == found
    assert crossed_interval(2 * values, seed=8) == pytest.approx([2 * value for value in found])


def test_what_is_paired_cancels_and_a_seed_repeats():
    random = np.random.default_rng(4)
    hard = 100 * random.standard_normal(50)  # how hard a recording is, for both
    first, second = (hard + shift + random.standard_normal((1, 50)) for shift in (0.5, 0.0))
    _, low, high = paired_difference(first, second)
    assert high - low == pytest.approx(2 * 1.96 * (first - second).std() / math.sqrt(50), rel=0.1)
    assert mean_interval(hard, seed=3) == mean_interval(hard, seed=3) != mean_interval(hard, seed=4)


def test_variance_over_seeds_and_files_is_the_sum_of_its_parts():
    # d = seed + file + interaction, each centred. A resample's mean has the variance var(seed) / S + var(file) / F +
    # var(interaction) / (S F): the counts of a multinomial of n have the covariance (identity - 1/n), and the sums over
    # a centred part vanish.
    random = np.random.default_rng(5)
    seeds, files = random.standard_normal(4) * 2, random.standard_normal(12) * 3
    both = random.standard_normal((4, 12)) * 5
    both -= both.mean(axis=0) + both.mean(axis=1, keepdims=True) - both.mean()
    seeds, files = seeds - seeds.mean(), files - files.mean()
    for parts in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)):
        values = parts[0] * seeds[:, None] + parts[1] * files + parts[2] * both
        expected = parts[0] * seeds.var() / 4 + parts[1] * files.var() / 12 + parts[2] * both.var() / 48
        assert resampled([values[None]]).var() == pytest.approx(expected, rel=OF_VARIANCE)


def test_seeds_that_are_not_paired_are_drawn_apart():
    # The resampled means of 0, 1 and of 10, 20 take the values 0, 1/2, 1 and 10, 15, 20, whose differences are all
    # different: nine values, those at the ends once in sixteen, beyond the 2.5 percentiles.
    ends = unpaired_difference(np.array([[0.0], [1.0]]), np.array([[10.0], [20.0]]))
    assert ends == (-14.5, -20.0, -9.0)


def test_files_are_drawn_together_for_seeds_that_are_not_paired():
    hard = 100 * np.random.default_rng(9).standard_normal(50)  # how hard a recording is, for both
    mean, low, high = unpaired_difference(np.stack([hard, hard]), np.stack([hard, hard, hard]) - 0.5)
    assert (mean, low, high) == pytest.approx((0.5, 0.5, 0.5))
    first = np.stack([hard, hard])
    first[0, 7] = np.nan  # a file that one seed lacks is left out for all
    assert unpaired_difference(first, np.stack([hard]) - 0.5) == pytest.approx((0.5, 0.5, 0.5))
    assert all(map(math.isnan, unpaired_difference(first[:, :0], first[:, :0])))


def test_students_and_welchs_intervals_by_hand():
    # Mean 3, standard deviation sqrt(7), of three values.
    first, second = np.array([1.0, 2.0, 6.0]), np.array([11.0, 12.0, 16.0])
    assert half_width(first) == pytest.approx(4.302653 * math.sqrt(7) / math.sqrt(3), rel=1e-6)
    # Of two samples alike in size and variance it is the two-sample t: sqrt(v / n + v / n), 2 n - 2 degrees of freedom.
    assert welch_half_width(first, second) == pytest.approx(2.776445 * math.sqrt(2 * 7 / 3), rel=1e-6)
    # Where one does not vary, the other is all there is.
    assert welch_half_width(first, np.zeros(5)) == pytest.approx(half_width(first))
    assert welch_half_width(np.ones(2), np.zeros(2)) == 0
    # Variances 1 and 4 of two: v = 0.5 + 2, freedom 2.5^2 / (0.5^2 + 2^2) = 1.47, rounded down to 1.
    few = np.array([-math.sqrt(0.5), math.sqrt(0.5)])
    assert welch_half_width(few, 2 * few) == pytest.approx(12.7062 * math.sqrt(2.5), rel=1e-5)


def test_interval_is_over_rows_and_columns():
    # Of sums of one number of the listener and one of the clip, the mean of a resample is the sum of two independent
    # means, with the variances var / L and var / K.
    random = np.random.default_rng(2)
    listeners, clips = random.normal(60, 12, (40, 1)), random.normal(0, 5, (1, 60))
    mean, low, high = crossed_interval(listeners + clips)
    expected = math.sqrt(listeners.var() / 40 + clips.var() / 60)
    assert mean == pytest.approx((listeners + clips).mean())
    assert high - low == pytest.approx(2 * 1.96 * expected, rel=0.05)


def test_intervals_of_what_was_not_rated():
    for nothing in (np.full((2, 3), np.nan), np.zeros((1, 0))):
        assert all(math.isnan(value) for value in crossed_interval(nothing))
    values = np.array([[np.nan, np.nan, np.nan], [70.0, np.nan, np.nan]])
    assert crossed_interval(values).mean == 70
    assert math.isnan(crossed_interval(values).low)
    holes = np.array([[10.0, np.nan], [np.nan, 30.0]])
    mean, low, high = crossed_interval(holes)
    assert (mean, low, high) == (20, 10, 30)  # three kinds of resamples have a rating: only one, only the other, both
