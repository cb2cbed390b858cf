"""Bootstrap intervals against closed forms."""

import math

import numpy as np
import pytest

from discrete_ae.statistics import RESAMPLES, mean_interval, paired_difference, resampled_means

# The variance of RESAMPLES draws has a relative standard error of sqrt(2 / RESAMPLES), 1.4 %; 6 % is four of them.
OF_VARIANCE = 0.06


def test_interval_of_many_values_is_the_normal_one():
    values = np.random.default_rng(1).standard_normal(2000) * 3 + 5
    mean, low, high = mean_interval(values)
    error = values.std() / math.sqrt(len(values))
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_resampled_means_of_two_values_are_binomial():
    # Of the values 0 and 1, two drawn with replacement have the mean 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4.
    drawn = resampled_means(np.array([[0.0, 1.0]]))
    assert set(np.unique(drawn)) == {0.0, 0.5, 1.0}
    for value, share in ((0.0, 0.25), (0.5, 0.5), (1.0, 0.25)):
        assert np.mean(drawn == value) == pytest.approx(share, abs=4 * math.sqrt(share / RESAMPLES))


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(2).exponential(size=30)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_nan_is_left_out():
    values = np.array([1.0, np.nan, 4.0, 2.0, np.nan])
    assert mean_interval(values) == mean_interval(np.array([1.0, 4.0, 2.0]))


def test_nothing_and_a_single_value():
    for nothing in (np.array([]), np.array([np.nan, np.nan])):
        assert all(map(math.isnan, mean_interval(nothing)))
    mean, low, high = mean_interval(np.array([np.nan, 7.0]))
    assert mean == 7.0
    assert math.isnan(low)
    assert math.isnan(high)


def test_constant_difference_has_no_width():
    second = np.random.default_rng(3).standard_normal((3, 20))
    mean, low, high = paired_difference(second + 0.25, second)
    assert (mean, low, high) == pytest.approx((0.25, 0.25, 0.25))


def test_what_is_paired_cancels():
    random = np.random.default_rng(4)
    hard = 100 * random.standard_normal(50)  # how hard a recording is, for both
    first, second = (hard + shift + random.standard_normal((1, 50)) for shift in (0.5, 0.0))
    _, low, high = paired_difference(first, second)
    assert high - low == pytest.approx(2 * 1.96 * (first - second).std() / math.sqrt(50), rel=0.1)


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
        assert resampled_means(values).var() == pytest.approx(expected, rel=OF_VARIANCE)


def test_one_seed_is_the_interval_over_files():
    random = np.random.default_rng(6)
    first, second = random.standard_normal((2, 1, 25))
    assert paired_difference(first, second) == pytest.approx(mean_interval((first - second)[0]))


def test_a_file_that_one_seed_lacks_is_left_out():
    random = np.random.default_rng(7)
    first, second = random.standard_normal((2, 3, 10))
    whole = paired_difference(np.delete(first, 4, axis=1), np.delete(second, 4, axis=1))
    first[1, 4] = np.nan
    assert paired_difference(first, second) == whole


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        paired_difference(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="one shape"):
        paired_difference(np.zeros(3), np.zeros(3))
