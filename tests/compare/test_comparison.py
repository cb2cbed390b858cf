"""Means, spreads and verdicts, against hand arithmetic and simulated chance."""

import math

import numpy as np
import pytest

from discrete_ae.compare.comparison import Basis, Comparison, Verdict
from tests.compare.comparisons import make_comparison, make_evaluation, make_rates


def test_mean_and_spread_by_hand():
    comparison = make_comparison({"ste": {0: [1.0, 2.0, 6.0], 1: [2.0, 3.0, 7.0]}, "vq": {0: [0.0, 0.0, 3.0]}})
    # Means of the runs 3 and 4: mean 3.5, sample standard deviation sqrt(2 * 0.5 ** 2 / 1).
    assert comparison.value("ste", "mel_distance") == pytest.approx((3.5, math.sqrt(0.5)))
    mean, spread = comparison.value("vq", "mel_distance")
    assert mean == 1.0
    assert math.isnan(spread)
    assert comparison.value("ste", "parameters") == (2_000_000.0, 0.0)
    assert math.isnan(comparison.value("ste", "pesq").mean)


def test_recordings_that_not_all_have_are_left_out_for_all():
    comparison = make_comparison({"ste": {0: [1.0, 2.0, 6.0]}, "vq": {0: [4.0, 4.0, 4.0]}})
    short = make_evaluation({"mel_distance": [5.0, 7.0]}, paths=["b.wav", "d.wav"], codec="opus")
    comparison = Comparison(comparison.methods, (short,))
    assert comparison.paths == ("b.wav",)
    assert comparison.left_out == ("a.wav", "c.wav", "d.wav")
    assert [comparison.value(label, "mel_distance").mean for label in ("ste", "vq", "opus")] == [2.0, 4.0, 5.0]


def test_a_score_counts_on_the_recordings_where_all_that_have_it_have_it():
    comparison = make_comparison(
        {"ste": {0: [1.0, None, 6.0], 1: [3.0, 9.0, 8.0]}, "vq": {0: [None, 1.0, 2.0]}, "identity": {0: [None] * 3}}
    )
    assert comparison.scores("ste", "mel_distance").tolist() == [[6.0], [8.0]]
    assert comparison.value("vq", "mel_distance").mean == 2.0
    assert math.isnan(comparison.value("identity", "mel_distance").mean)  # and takes no recording from the others


FILES = np.array([1.0, 2.0, 4.0, 3.0, 2.0, 3.0])


def shifted(*by, seeds=None):
    """Scores of seeds, each shifted by so much."""
    return {seed: list(FILES + shift) for seed, shift in zip(seeds or range(len(by)), by, strict=True)}


def difference(first, second, name="mel_distance"):
    comparison = make_comparison({"first": first, "second": second}, name)
    methods = {method.label: method for method in comparison.methods}
    found = comparison.difference(methods["first"], methods["second"], name)
    back = comparison.difference(methods["second"], methods["first"], name)
    # Nothing depends on which is named first.
    assert back.mean == pytest.approx(-found.mean, nan_ok=True)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low), rel=0.1, nan_ok=True)
    opposite = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    assert back.verdict == opposite.get(found.verdict, found.verdict)
    return found


@pytest.mark.parametrize("second", [(0, 1, 2), (3, 4, 5), (2, 3, 4)])  # all in common, none, and one
def test_a_constant_difference_beyond_the_spread_is_told(second):
    offsets = (0.0, 0.1, -0.1)
    found = difference(shifted(*offsets), shifted(*(0.5 + offset for offset in offsets), seeds=second))
    assert found.mean == pytest.approx(-0.5)
    assert found.spread == pytest.approx(0.1)  # of 0, 0.1, -0.1, in both
    assert found.verdict is Verdict.BETTER  # a distance: lower is better
    assert found.over_seeds
    if second == (0, 1, 2):
        assert (found.low, found.high) == pytest.approx((-0.5, -0.5))
        assert found.student == pytest.approx(0.0, abs=1e-12)  # all seeds have the same difference
        assert (found.seeds, found.agreeing, found.files) == ((0, 1, 2), 3, 6)
    else:  # drawn apart, and held against Welch
        assert found.low < -0.5 < found.high < 0
        assert (found.basis, found.counts, found.agreeing) == (Basis.APART, (3, 3), 0)
        assert found.student == pytest.approx(2.776445 * math.sqrt(2 * 0.01 / 3), rel=1e-6)  # 4 degrees of freedom


def test_what_is_not_told_apart():
    # Differences 1, 2 and 6: mean 3, standard deviation sqrt(7), and t 4.303 for 2 degrees of freedom.
    found = difference(shifted(0, 0, 0), shifted(1, 2, 6))
    assert abs(found.mean) < found.student == pytest.approx(4.302653 * math.sqrt(7 / 3))
    assert (found.high < 0, found.agreeing) == (True, 3)
    assert abs(found.mean) > found.spread == pytest.approx(math.sqrt(7 / 2))
    # Every seed and every recording says 0.5, but seeds of one method differ by more.
    within = difference(shifted(0, 2), shifted(0.5, 2.5))
    assert within.low == within.high == pytest.approx(-0.5)
    assert within.spread == pytest.approx(math.sqrt(2))
    # The interval over recordings holds 0.
    around_zero = [3.0, -2.0, 2.0, -1.0, 1.0, -2.0]
    held = difference({0: [0.0] * 6, 1: [0.0] * 6}, {0: around_zero, 1: around_zero})
    assert held.low < 0 < held.high
    assert {one.verdict for one in (found, within, held)} == {Verdict.NOT_TOLD_APART}
    nothing = difference({0: [1.0, 2.0]}, {0: [None, None]})
    assert (nothing.verdict, math.isnan(nothing.mean)) == (Verdict.NOT_COMPARED, True)


@pytest.mark.parametrize(("shifts", "verdict"), [((1,), "WORSE"), ((1, 9), "NOT_TOLD_APART"), ((1, 2), "WORSE")])
def test_one_seed_is_held_against_one_or_the_mean_and_the_spread_of_several(shifts, verdict):
    found = difference(shifted(0), shifted(*shifts), "si_sdr_db")  # a ratio: higher is better
    assert (found.mean, found.counts, found.over_seeds) == (-np.mean(shifts), (1, len(shifts)), False)
    spread = np.std(shifts, ddof=1) if len(shifts) > 1 else math.nan  # 5.7 of a difference of 5, 0.7 of one of 1.5
    assert found.spread == pytest.approx(spread, nan_ok=True)
    assert found.verdict is Verdict[verdict]


@pytest.mark.parametrize("seeds", [1, 2])
def test_six_recordings_are_the_fewest_that_tell_methods_apart(seeds):
    # All differences have the same sign by chance in 2 / 2^5 = 6.25 % of cases of 5, and 3.1 % of cases of 6.
    verdicts = []
    for count in (5, 6):
        first = {seed: [0.4, 0.5, 0.4, 0.5, 0.4, 0.5][:count] for seed in range(seeds)}
        second = {seed: [value + 0.2 for value in values] for seed, values in first.items()}
        verdicts.append(difference(first, second).verdict)
    assert verdicts == [Verdict.NOT_TOLD_APART, Verdict.BETTER]


@pytest.mark.parametrize("second", [(0, 1, 2), (3, 4, 5)])
def test_equal_methods_are_rarely_told_apart(second):
    # 3 seeds, 9 recordings, and nothing but noise, that of seeds twice as large.
    random_numbers = np.random.default_rng(0)
    told, by_bootstrap = 0, 0
    for _ in range(200):
        scores = random_numbers.normal(size=(2, 3, 1)) + 0.5 * random_numbers.normal(size=(2, 3, 9))
        methods = zip("ab", scores, ((0, 1, 2), second), strict=True)
        comparison = make_comparison(
            {name: dict(zip(seeds, of_one.tolist(), strict=True)) for name, of_one, seeds in methods}
        )
        (found,) = comparison.differences("mel_distance")
        told += found.verdict is not Verdict.NOT_TOLD_APART
        by_bootstrap += not found.low <= 0 <= found.high
    assert told <= 0.06 * 200
    assert by_bootstrap >= 0.15 * 200  # were this not so, the conditions beside it would not be needed


def test_a_model_is_not_compared_with_itself_at_another_rate():
    comparison = make_rates({"rvq": {0.8: 3.0, 1.6: 2.0}, "ste": {0.8: 3.5, 1.6: 2.5, 3.2: 1.0}})
    pairs = {(one.first, one.second) for one in comparison.differences("mel_distance")}
    rvq, ste = (
        [f"{name} ({rate} kbps)" for rate in rates] for name, rates in (("rvq", (0.8, 1.6)), ("ste", (0.8, 1.6, 3.2)))
    )
    assert pairs == {(one, other) for one in rvq for other in ste}
    assert [(one.label, one.nominal_bitrate_bps) for one in comparison.trained.methods] == [
        ("rvq (0.8 to 1.6 kbps)", 1600.0),
        ("ste (0.8 to 3.2 kbps)", 3200.0),
    ]
