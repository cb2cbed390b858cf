"""Words: every claim in them is the verdict of a difference, and none is left out; and what a reader is to mind."""

import itertools

import numpy as np
import pytest

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.words import amount, facts_of, findings, method_of, notes_of, sentence
from tests.compare.comparisons import make_comparison, make_config, make_evaluation, make_methods, make_rates, make_run

FILES = np.array([1.0, 2.0, 4.0, 3.0, 2.0, 3.0])


def seeds(offset, count=3, scatter=0.01):
    """Return the scores of a method whose runs are spaced evenly around an offset."""
    return {seed: list(FILES + offset + scatter * (seed - (count - 1) / 2)) for seed in range(count)}


def test_a_difference_in_words():
    comparison = make_comparison({"fourier": seeds(0.5), "sigmoid": seeds(0.08)}, "si_sdr_db")
    first, second = comparison.methods
    words = "by 0.42 dB SI-SDR (95 % interval 0.42 to 0.42, all 3 seeds)."
    for one, other, verdict in ((first, second, "better"), (second, first, "worse")):
        said = f"{one.label} is {verdict} than {other.label} {words}"
        assert sentence(comparison.difference(one, other, "si_sdr_db")) == said
    values = {"fourier": {0: [1.0, 2.0, 4.0, 3.0]}, "sigmoid": {0: [1.3, 2.1, 4.6, 3.9]}}
    (found,) = make_comparison(values).differences("mel_distance")
    assert found.low < found.high < 0
    assert f"{-found.mean:.3f} mel distance (95 % interval {-found.high:.3f} to {-found.low:.3f}," in amount(found)


def test_words_of_three_methods():
    scores = {"fourier": seeds(0.5), "sigmoid": seeds(0.08), "ste": seeds(0.505)}
    comparison = make_comparison(scores, "si_sdr_db")
    headline, best, worse = findings(comparison, "si_sdr_db")
    assert headline == "By SI-SDR, ste is better than sigmoid and cannot be told apart from fourier."
    assert best.startswith("ste has the best mean SI-SDR: 3.01 ± 0.01 dB")
    assert worse.startswith("sigmoid is worse than ste by 0.42 dB")
    assert "3 pairs of methods were compared." in method_of(comparison, "si_sdr_db")


def test_the_headline_is_one_sentence_that_names_few_and_counts_many():
    def headline(offsets, count=3, **others):
        comparison = make_comparison({name: seeds(offset, count) for name, offset in offsets.items()}, **others)
        return findings(comparison, "mel_distance")[0]

    assert headline({"ste": 0.0, "vq": 0.001}) == "By mel distance, ste and vq cannot be told apart."
    assert headline({"ste": 0.0, "vq": 1.0}) == "By mel distance, ste is better than vq."
    many = {f"q{i}": 1.0 + i for i in range(5)}
    assert headline({"ste": 0.0, **many}) == "By mel distance, ste is better than 5 methods."
    one_seed = headline({"ste": 0.0, "vq": 1.0}, 1)
    assert one_seed.startswith("By mel distance, ste is better than vq; with one seed")
    at_rates = {"ste": 6400.0, "vq": 6400.0, "rvq": 3200.0, "lfq": 3200.0}
    assert headline({"ste": 0.0, "vq": 0.1, "rvq": 0.5, "lfq": 0.7}, rates=at_rates) == (
        "By mel distance, at 3.2 kbps, rvq (3.2 kbps) is better than lfq (3.2 kbps); "
        "at 6.4 kbps, ste (6.4 kbps) is better than vq (6.4 kbps)."
    )
    apart = headline({"ste": 0.0, "vq": 0.1}, rates={"ste": 6400.0})
    assert apart.startswith("No two methods have a mel distance at the same bitrate")
    assert headline({"ste": 0.0}).startswith("There is only one method")


def test_what_does_not_quantize_is_the_bound_and_not_the_best():
    comparison = make_comparison({"identity": seeds(3), "ste": seeds(0), "vq": seeds(-1)}, "si_sdr_db")
    words = findings(comparison, "si_sdr_db")
    assert words[1].startswith("ste has the best mean")
    (bound,) = [line for line in words if "identity" in line]
    assert bound.startswith("ste is worse than identity by 3.00 dB SI-SDR")
    assert "upper bound" in bound


def test_rates_are_compared_each_by_themselves():
    scores = {"ste": seeds(0.0), "vq": seeds(0.1), "rvq": seeds(0.5), "lfq": seeds(0.7)}
    rates = {"ste": 6400.0, "vq": 6400.0, "rvq": 3200.0, "lfq": 3200.0}
    words = findings(make_comparison(scores, rates=rates), "mel_distance")
    assert words[1].startswith("At 3.2 kbps, rvq (3.2 kbps) has the best mean")
    assert words[3].startswith("At 6.4 kbps, ste (6.4 kbps) has the best mean")
    assert not any("rvq" in line and "ste" in line for line in words[1:])


@pytest.mark.parametrize(
    ("names", "said", "unsaid"),
    [
        ("ste vq", ["one in twenty"], ["one seed"]),
        # By how many checkpoints differ by chance is not known.
        (
            "rvq lfq",
            ["lfq and rvq cannot be told apart; with one seed", "Another training of the method"],
            ["in twenty"],
        ),
        ("ste vq rvq lfq", ["best mean is chosen from the same data", "If a method has only one seed"], []),
        ("ste", ["only one method"], ["were compared"]),
    ],
)
def test_what_chance_may_do_is_said_by_the_number_of_seeds(names, said, unsaid):
    scores = {"ste": seeds(0), "vq": seeds(1), "rvq": seeds(0, 1), "lfq": seeds(0, 1)}
    comparison = make_comparison({name: scores[name] for name in names.split()})
    words = " ".join([*findings(comparison, "mel_distance"), *method_of(comparison, "mel_distance")])
    assert [line for line in said if line not in words] == []
    assert [line for line in unsaid if line in words] == []


def test_winners_by_other_quantities_are_named():
    names = ("mel_distance", "si_sdr_db", "pesq", "stft_distance")
    scores = {label: {name: [i + k] * 3 for i, name in enumerate(names)} for k, label in enumerate(("ste", "vq"))}
    runs = [make_evaluation(of_run, run=make_run(label, label)) for label, of_run in scores.items()]
    (line,) = (one for one in findings(Comparison(make_methods(runs)), "mel_distance") if "other scores" in one)
    assert "ste (STFT distance) and vq (SI-SDR, PESQ)." in line


def test_words_name_no_pair_that_was_not_told():
    random = np.random.default_rng(0)
    scores = {f"q{i}": {s: list(random.normal(size=6) + i / 3) for s in range(3)} for i in range(6)}
    comparison = make_comparison(scores)
    words = " ".join(findings(comparison, "mel_distance"))
    for first, second in itertools.permutations(comparison.methods, 2):
        for verdict in ("better", "worse"):
            if f"{first.label} is {verdict} than {second.label} by" in words:
                assert comparison.difference(first, second, "mel_distance").verdict == verdict


def test_facts_and_notes():
    values = {"ste": {0: [1.0, 2.0] * 3, 1: [2.0, 3.0] * 3}, "vq": {0: [4.0] * 6}, "identity": {0: [0.5] * 6}}
    comparison = make_comparison(values, baselines={"opus 6 kbps": [1.0] * 6})
    facts = facts_of(comparison, "speech")
    assert facts["Methods"] == "3, in 4 runs (1 to 2 seeds each)"
    assert facts["Training"] == "100 steps"
    assert facts["Nominal bitrate"] == "3.2 kbps"
    assert facts["Recordings"] == "6 (21 s): speech"
    assert facts["Other codecs"] == "opus 6 kbps"
    notes = notes_of(comparison, ["bad failed: boom."])
    for words in (
        "without a spread: identity and vq.",
        "only 6 recordings",
        "runs are short",
        "other codecs were designed",
    ):
        assert any(words in note for note in notes)
    assert notes[-1] == "bad failed: boom."


def test_unequal_conditions_are_named():
    configs = {"ste": make_config(steps=100), "vq": make_config(steps=200), "rvq": make_config(steps=200)}
    configs["rvq"]["model"] = {**configs["rvq"]["model"], "encoder": {"dim": 64}}
    configs["ste"]["data"] = {"root": "/speech"}
    scores = {"mel_distance": [1.0, 2.0] * 3}
    runs = [make_evaluation(scores, run=make_run(name, name, 0, config)) for name, config in configs.items()]
    comparison = Comparison(make_methods(runs))
    # The terminal, which has no room for notes, is told of the worst of them.
    _, steps, *_ = findings(comparison, "mel_distance")
    assert "numbers of training steps differ" in steps
    assert steps.endswith("200 (rvq and vq); 100 (ste).")
    notes = notes_of(comparison)
    assert not any("training steps" in note for note in notes)
    (recordings,) = [note for note in notes if "training recordings differ" in note]
    assert recordings.endswith("the project's own (rvq and vq); speech (ste).")
    assert any("encoders or decoders differ" in note for note in notes)


def test_steps_of_unfinished_runs_are_those_reached():
    planned = {"rvq": 40, "ste": 1200, "vq": 6000}
    configs = {name: make_config(steps=steps) for name, steps in planned.items()}
    scores = {"mel_distance": [1.0, 2.0]}
    runs = [make_evaluation(scores, run=make_run(name, name, 0, config)) for name, config in configs.items()]
    runs.append(make_evaluation(scores, run=make_run("ste-1", "ste", 1, configs["ste"])))
    comparison = Comparison(make_methods(runs), reached={"rvq": 5, "ste": 98, "vq": 500})
    (steps,) = [line for line in findings(comparison, "mel_distance") if "numbers of training steps" in line]
    assert steps.endswith("5 (rvq); 98 and 1200 (ste); 500 (vq).")  # the other seed of ste is finished
    assert facts_of(comparison, "speech")["Training"] == "5, 98, 500 and 1200 steps"
    assert any("runs are short" in note for note in notes_of(comparison))
    assert not any("runs are short" in note for note in notes_of(Comparison(comparison.methods)))


def test_unequal_mixtures_are_named():
    sources = {"speech": {"root": "/a", "weight": 3.0, "hours": None}, "music": {"root": "/b", "weight": 1.0}}
    configs = {name: make_config() for name in ("ste", "vq")}
    configs["ste"]["data"] = {"sources": sources}
    scores = {"mel_distance": [1.0, 2.0]}
    runs = [make_evaluation(scores, run=make_run(name, name, 0, config)) for name, config in configs.items()]
    (note,) = [note for note in notes_of(Comparison(make_methods(runs))) if "mixtures of" in note]
    said = "speech.root=a speech.weight=3.0 music.root=b music.weight=1.0 (ste)"
    assert note.endswith(f"{said}; none (vq).")


def test_different_sample_rates_are_said_first():
    def compared(*rates):
        configs = [make_config(quantizer={"_target_": name}) for name in ("ste", "vq")]
        runs = [
            make_run(config["quantizer"]["_target_"], config["quantizer"]["_target_"], 0, config) for config in configs
        ]
        scores = {"mel_distance": [1.0, 2.0] * 3}
        made = zip(runs, rates, strict=True)
        return Comparison(make_methods(make_evaluation(scores, run=run, sample_rate=rate) for run, rate in made))

    headline, first, *others = findings(compared(16000, 8000), "mel_distance")
    assert "vq at 8000 Hz; ste at 16000 Hz" in first
    assert [headline, *others] == findings(compared(8000, 8000), "mel_distance")


def test_rates_of_one_model_in_words():
    comparison = make_rates({"rvq": {0.8: 3.0, 1.6: 2.0, 2.4: 1.5}, "ste": {1.6: 2.5}})
    words = findings(comparison, "mel_distance")
    assert words[1] == "At 1.6 kbps, rvq (1.6 kbps) has the best mean mel distance: 2.005 ± 0.007 (lower is better)."
    assert words[2].startswith("ste (1.6 kbps) is worse than rvq (1.6 kbps) by 0.500 mel distance")
    alone = "At 0.8 and 2.4 kbps, rvq (0.8 to 2.4 kbps) is the only method: mean mel distance 3.005 and 1.505."
    assert words[3] == alone
    assert any(
        text.startswith("3 pairs") for text in method_of(comparison, "mel_distance")
    )  # ste with each rate of rvq
    facts = facts_of(comparison, "data")
    assert facts["Methods"] == "2, in 4 runs (2 seeds each)"
    assert facts["Nominal bitrate"] == "0.8, 1.6 and 2.4 kbps"
    assert facts["One model at several bitrates"] == "rvq (0.8 to 2.4 kbps), decoded from its first codebooks"
    assert any("trained for that bitrate" in note for note in notes_of(comparison))
    headline, only = findings(make_rates({"rvq": {0.8: 3.0, 1.6: 2.0}}), "mel_distance")
    assert headline.startswith("There is only one method")
    assert only.startswith("At 0.8 and 1.6 kbps, rvq (0.8 to 1.6 kbps) is the only method")


def test_equal_digits_are_no_win():
    # A mel distance is shown with 3 digits: the means 0.4118 and 0.4122 are both 0.412, and 0.4138 is 0.414.
    comparison = make_comparison({"a": {0: [0.4118] * 6}, "b": {0: [0.4122] * 6}, "c": {0: [0.4138] * 6}})
    headline, best, worse = findings(comparison, "mel_distance")
    assert headline.startswith("By mel distance, a is better than c and cannot be told apart from b")
    assert best == "a and b have the same best mean mel distance: 0.412 (lower is better)."
    assert worse.startswith("c is worse than a by 0.002 mel distance")
    # 0.41249 and 0.41251 round to different digits, but their difference is 0 in these digits.
    comparison = make_comparison({"a": {0: [0.41249] * 6}, "b": {0: [0.41251] * 6}})
    headline, best = findings(comparison, "mel_distance")
    assert "a and b cannot be told apart" in headline
    assert "This order is uncertain: b cannot be told apart from a." in best


def test_equal_digits_of_other_scores_name_all():
    methods = make_comparison({name: {0: [0.4, 0.5]} for name in ("a", "b")}).methods
    scores = {"a": {"mel_distance": 0.4, "pesq": 1.061}, "b": {"mel_distance": 0.5, "pesq": 1.064}}
    runs = [
        make_evaluation({key: [value] * 2 for key, value in scores[method.label].items()}, run=method.trainings[0])
        for method in methods
    ]
    words = " ".join(findings(Comparison(make_methods(runs)), "mel_distance"))
    assert "by other scores: b and a (PESQ)." in words  # both are 1.06


@pytest.mark.parametrize(("count", "counted"), [(1, "1 recording"), (2, "2 recordings"), (5, "5 recordings")])
def test_few_recordings_make_the_order_uncertain(count, counted):
    comparison = make_comparison({"a": {0: [0.4] * count, 1: [0.4] * count}, "b": {0: [0.6] * count}})
    words = findings(comparison, "mel_distance")
    assert "cannot be told apart" in words[0]
    assert words[1].startswith(f"All figures are from {counted}, so the order of the methods is uncertain")
    assert not any("recordings" in note for note in notes_of(comparison))  # once is enough
    for others in ({"a": {0: [0.4] * 6}, "b": {0: [0.6] * 6}}, {"a": {0: [0.4] * count}}):  # enough; nothing to order
        assert "All figures" not in " ".join(findings(make_comparison(others), "mel_distance"))
