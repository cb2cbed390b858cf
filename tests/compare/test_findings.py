"""Words: every claim in them is the verdict of a difference, and none is left out."""

import itertools

import numpy as np

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.findings import amount, findings, sentence
from tests.compare.comparisons import make_comparison, make_evaluation, make_methods, make_run

FILES = np.array([1.0, 2.0, 4.0, 3.0])


def seeds(offset, count=3, scatter=0.01):
    """Of a method whose runs lie evenly around an offset."""
    return {seed: list(FILES + offset + scatter * (seed - (count - 1) / 2)) for seed in range(count)}


def test_a_difference_in_words():
    comparison = make_comparison({"fourier": seeds(0.5), "sigmoid": seeds(0.08)}, "si_sdr_db")
    (found,) = comparison.differences("si_sdr_db")
    assert sentence(found) == (
        "fourier is better than sigmoid by 0.42 dB SI-SDR (95 % interval 0.42 to 0.42, all 3 seeds)."
    )
    first, second = comparison.methods
    back = comparison.difference(second, first, "si_sdr_db")
    assert sentence(back) == sentence(found).replace("fourier is better than sigmoid", "sigmoid is worse than fourier")


def test_the_interval_of_a_negative_difference_is_turned_round():
    values = {"fourier": {0: [1.0, 2.0, 4.0, 3.0]}, "sigmoid": {0: [1.3, 2.1, 4.6, 3.9]}}
    (found,) = make_comparison(values).differences("mel_distance")
    assert found.low < found.high < 0
    assert amount(found) == (
        f"{-found.mean:.3f} mel distance (95 % interval {-found.high:.3f} to {-found.low:.3f}, "
        "of these two checkpoints only)"
    )


def test_the_best_is_that_of_the_trained_methods_where_baselines_stand_beside_them():
    values = {"fourier": seeds(0.5), "ste": seeds(0.505)}
    best, *_ = findings(make_comparison(values, "si_sdr_db", baselines={"opus": seeds(0.9)[0]}), "si_sdr_db")
    assert best.startswith("ste has the best mean SI-SDR of the trained methods")


def test_words_of_three_methods():
    comparison = make_comparison({"fourier": seeds(0.5), "sigmoid": seeds(0.08), "ste": seeds(0.505)}, "si_sdr_db")
    best, alike, worse, against, *rest = findings(comparison, "si_sdr_db")
    assert best == "ste has the best mean SI-SDR, 3.01 ± 0.01 dB (higher is better)."
    assert alike == "fourier cannot be told apart from ste."
    assert worse == "sigmoid is worse than ste by 0.42 dB SI-SDR (95 % interval 0.42 to 0.42, all 3 seeds)."
    assert against.startswith("3 pairs were compared. Of methods with several seeds")
    assert rest == []


def test_all_are_held_against_the_straight_through_estimator_where_it_is_not_the_best():
    scores = {"fourier": seeds(0.0), "ste": seeds(0.4), "vq": seeds(0.404), "rvq": seeds(1.0)}
    words = findings(make_comparison(scores), "mel_distance")
    assert (
        "Held against ste: fourier (by 0.400) is better; rvq (by 0.600) is worse; vq cannot be told apart from it."
        in words
    )


def test_what_does_not_quantize_is_the_bound_and_not_the_best():
    words = findings(
        make_comparison({"identity": seeds(3), "ste": seeds(0), "vq": seeds(-1)}, "si_sdr_db"), "si_sdr_db"
    )
    assert words[0].startswith("ste has the best mean")
    bound = [line for line in words if "identity" in line]
    assert bound == [
        "ste is worse than identity by 3.00 dB SI-SDR (95 % interval 3.00 to 3.00, all 3 seeds): identity does not "
        "quantize and is the upper bound."
    ]


def test_rates_are_compared_each_by_themselves():
    scores = {"ste": seeds(0.0), "vq": seeds(0.1), "rvq": seeds(0.5), "lfq": seeds(0.7)}
    rates = {"ste": 6400.0, "vq": 6400.0, "rvq": 3200.0, "lfq": 3200.0}
    words = findings(make_comparison(scores, rates=rates), "mel_distance")
    assert words[0].startswith("At 3.2 kbps, rvq (3.2 kbps) has the best mean")
    assert words[2].startswith("At 6.4 kbps, ste (6.4 kbps) has the best mean")
    assert not any("rvq" in line and "ste" in line for line in words)


def test_one_seed_is_said_to_be_one():
    words = findings(make_comparison({"ste": seeds(0, 1), "vq": seeds(1, 1), "rvq": seeds(0.0, 1)}), "mel_distance")
    assert any("of these two checkpoints only" in line for line in words)
    assert "another training of the same method might turn it round" in words[-1]
    assert words[1] == "ste cannot be told apart from rvq on these recordings."  # the means are equal: by label
    assert "in twenty" not in words[-1]  # by how many checkpoints differ by chance is not known


def test_one_method_has_nothing_to_be_compared_with():
    assert findings(make_comparison({"ste": seeds(0)}), "mel_distance") == [
        "There is one method alone, and nothing to compare it with."
    ]


def test_how_often_chance_tells_methods_apart_is_said_of_seeds_alone():
    several, one = {"ste": seeds(0), "vq": seeds(1)}, {"rvq": seeds(2, 1)}
    pair, mixed = (findings(make_comparison(scores), "mel_distance")[-1] for scores in (several, several | one))
    assert pair.startswith("One pair was compared.")
    assert "one in twenty" in pair
    assert "best mean was chosen" not in pair
    assert "one seed" not in pair
    assert mixed.startswith("3 pairs were compared.")
    assert "best mean was chosen by the same data" in mixed
    assert "Where a method has one seed" in mixed


def test_winners_by_other_quantities_are_named():
    runs = []
    for name, (a, b, c, d) in {"ste": (1, 2, 3, 4), "vq": (2, 3, 4, 5)}.items():
        scores = {"mel_distance": [a] * 3, "si_sdr_db": [b] * 3, "pesq": [c] * 3, "stft_distance": [d] * 3}
        runs.append(make_evaluation(scores, run=make_run(name, name)))
    words = findings(Comparison(make_methods(runs)), "mel_distance")
    (line,) = [line for line in words if "other quantities" in line]
    assert line.startswith("The best means by other quantities: ste by STFT distance and vq by SI-SDR and PESQ;")


def test_words_name_no_pair_that_was_not_told():
    random = np.random.default_rng(0)
    scores = {f"q{i}": {s: list(random.normal(size=4) + i / 3) for s in range(3)} for i in range(6)}
    comparison = make_comparison(scores)
    words = " ".join(findings(comparison, "mel_distance"))
    for first, second in itertools.permutations(comparison.methods, 2):
        for verdict in ("better", "worse"):
            if f"{first.label} is {verdict} than {second.label} by" in words:
                assert comparison.difference(first, second, "mel_distance").verdict == verdict
