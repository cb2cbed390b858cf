"""Words: every claim in them is the verdict of a difference, and none is left out; and what a reader is to mind."""

import itertools

import numpy as np

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.words import amount, findings, notes_of, sentence, summary_of
from tests.compare.comparisons import make_comparison, make_config, make_evaluation, make_methods, make_run

FILES = np.array([1.0, 2.0, 4.0, 3.0])


def seeds(offset, count=3, scatter=0.01):
    """Of a method whose runs lie evenly around an offset."""
    return {seed: list(FILES + offset + scatter * (seed - (count - 1) / 2)) for seed in range(count)}


def test_a_difference_in_words():
    comparison = make_comparison({"fourier": seeds(0.5), "sigmoid": seeds(0.08)}, "si_sdr_db")
    (found,) = comparison.differences("si_sdr_db")
    said = "fourier is better than sigmoid by 0.42 dB SI-SDR (95 % interval 0.42 to 0.42, all 3 seeds)."
    assert sentence(found) == said
    first, second = comparison.methods
    back = comparison.difference(second, first, "si_sdr_db")
    assert sentence(back) == said.replace("fourier is better than sigmoid", "sigmoid is worse than fourier")
    values = {"fourier": {0: [1.0, 2.0, 4.0, 3.0]}, "sigmoid": {0: [1.3, 2.1, 4.6, 3.9]}}
    (found,) = make_comparison(values).differences("mel_distance")
    assert found.low < found.high < 0
    assert f"{-found.mean:.3f} mel distance (95 % interval {-found.high:.3f} to {-found.low:.3f}," in amount(found)


def test_words_of_three_methods():
    scores = {"fourier": seeds(0.5), "sigmoid": seeds(0.08), "ste": seeds(0.505)}
    best, alike, worse, chance = findings(make_comparison(scores, "si_sdr_db"), "si_sdr_db")
    assert best == "ste has the best mean SI-SDR, 3.01 ± 0.01 dB (higher is better)."
    assert alike == "fourier cannot be told apart from ste."
    assert worse.startswith("sigmoid is worse than ste by 0.42 dB")
    assert chance.startswith("3 pairs were compared.")
    best, *_ = findings(make_comparison(scores, "si_sdr_db", baselines={"opus": seeds(0.9)[0]}), "si_sdr_db")
    assert best.startswith("ste has the best mean SI-SDR of the trained methods")


def test_what_does_not_quantize_is_the_bound_and_not_the_best():
    comparison = make_comparison({"identity": seeds(3), "ste": seeds(0), "vq": seeds(-1)}, "si_sdr_db")
    words = findings(comparison, "si_sdr_db")
    assert words[0].startswith("ste has the best mean")
    (bound,) = [line for line in words if "identity" in line]
    assert bound.startswith("ste is worse than identity by 3.00 dB SI-SDR")
    assert "upper bound" in bound


def test_rates_are_compared_each_by_themselves():
    scores = {"ste": seeds(0.0), "vq": seeds(0.1), "rvq": seeds(0.5), "lfq": seeds(0.7)}
    rates = {"ste": 6400.0, "vq": 6400.0, "rvq": 3200.0, "lfq": 3200.0}
    words = findings(make_comparison(scores, rates=rates), "mel_distance")
    assert words[0].startswith("At 3.2 kbps, rvq (3.2 kbps) has the best mean")
    assert words[2].startswith("At 6.4 kbps, ste (6.4 kbps) has the best mean")
    assert not any("rvq" in line and "ste" in line for line in words)


def test_what_chance_may_do_is_said_by_the_number_of_seeds():
    several, one = {"ste": seeds(0), "vq": seeds(1)}, {"rvq": seeds(0.0, 1), "lfq": seeds(0, 1)}
    pair, checkpoints, mixed = (findings(make_comparison(s), "mel_distance") for s in (several, one, several | one))
    assert "one in twenty" in pair[-1]
    assert "one seed" not in pair[-1]
    assert checkpoints[1] == "rvq cannot be told apart from lfq on these recordings."  # the means are equal: by label
    assert "another training of the same method might turn it round" in checkpoints[-1]
    assert "in twenty" not in checkpoints[-1]  # by how many checkpoints differ by chance is not known
    assert "best mean was chosen by the same data" in mixed[-1]
    assert "Where a method has one seed" in mixed[-1]
    (alone,) = findings(make_comparison({"ste": seeds(0)}), "mel_distance")
    assert "one method alone" in alone


def test_winners_by_other_quantities_are_named():
    runs = []
    for name, (a, b, c, d) in {"ste": (1, 2, 3, 4), "vq": (2, 3, 4, 5)}.items():
        scores = {"mel_distance": [a] * 3, "si_sdr_db": [b] * 3, "pesq": [c] * 3, "stft_distance": [d] * 3}
        runs.append(make_evaluation(scores, run=make_run(name, name)))
    (line,) = (one for one in findings(Comparison(make_methods(runs)), "mel_distance") if "other quantities" in one)
    assert "ste by STFT distance and vq by SI-SDR and PESQ;" in line


def test_words_name_no_pair_that_was_not_told():
    random = np.random.default_rng(0)
    scores = {f"q{i}": {s: list(random.normal(size=4) + i / 3) for s in range(3)} for i in range(6)}
    comparison = make_comparison(scores)
    words = " ".join(findings(comparison, "mel_distance"))
    for first, second in itertools.permutations(comparison.methods, 2):
        for verdict in ("better", "worse"):
            if f"{first.label} is {verdict} than {second.label} by" in words:
                assert comparison.difference(first, second, "mel_distance").verdict == verdict


def test_summary_and_notes():
    values = {"ste": {0: [1.0, 2.0], 1: [2.0, 3.0]}, "vq": {0: [4.0, 4.0]}, "identity": {0: [0.5, 0.5]}}
    comparison = make_comparison(values, baselines={"opus 6 kbps": [1.0, 1.0]})
    summary, beside = summary_of(comparison, "speech")
    for words in ("3 methods in 4 runs", "1 to 2 seeds each", "100 steps", "3.2 kbps", "2 recordings (3 s) of speech"):
        assert words in summary
    assert "opus 6 kbps" in beside
    notes = notes_of(comparison, ["bad failed: boom."])
    for words in ("no spread: identity and vq.", "2 recordings: what holds", "runs are short", "Baselines were made"):
        assert any(words in note for note in notes)
    assert notes[-1] == "bad failed: boom."


def test_unequal_conditions_are_named():
    configs = {"ste": make_config(steps=100), "vq": make_config(steps=200), "rvq": make_config(steps=200)}
    configs["rvq"]["model"] = {**configs["rvq"]["model"], "encoder": {"dim": 64}}
    configs["ste"]["data"] = {"root": "/speech"}
    scores = {"mel_distance": [1.0, 2.0]}
    runs = [make_evaluation(scores, run=make_run(name, name, 0, config)) for name, config in configs.items()]
    notes = notes_of(Comparison(make_methods(runs)))
    (steps,) = [note for note in notes if "numbers of training steps differ" in note]
    assert steps.endswith("200 of rvq and vq; 100 of ste.")
    (recordings,) = [note for note in notes if "training recordings differ" in note]
    assert recordings.endswith("the project's own of rvq and vq; /speech of ste.")
    assert any("networks around the quantizers differ" in note for note in notes)
