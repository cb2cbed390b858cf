"""What stands on the page beside the figures: the table, the summary, and what to mind."""

import numpy as np
import pytest

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.contents import broken_off, columns_of, notes_of, rows_of, summary_of
from discrete_ae.compare.curves import Curve
from discrete_ae.compare.runs import Skipped
from tests.compare.comparisons import make_comparison, make_config, make_evaluation, make_methods, make_run


@pytest.fixture
def comparison():
    return make_comparison(
        {"ste": {0: [1.0, 2.0], 1: [2.0, 3.0]}, "vq": {0: [4.0, 4.0]}, "identity": {0: [0.5, 0.5]}},
        baselines={"opus 6 kbps": [1.0, 1.0]},
    )


def test_the_table_comes_best_first_with_means_and_spreads(comparison):
    rows = rows_of(comparison, "mel_distance")
    assert [row.label for row in rows] == ["identity", "opus 6 kbps", "ste", "vq"]
    assert [row.is_baseline for row in rows] == [False, True, False, False]
    assert [row.is_bound for row in rows] == [True, False, False, False]
    assert [row.note for row in rows] == ["1 seed", "", "2 seeds", "1 seed"]
    cells = rows[2].cells
    assert cells["mel_distance"][:2] == (2.0, "2.000 ± 0.707")
    assert cells["entropy_coded_bitrate_bps"][:2] == (2880.0, "2.88 ± 0.00")
    assert cells["nominal_bitrate_bps"].text == "3.20"
    assert cells["parameters"].text == "2.0 M"
    assert rows[3].cells["mel_distance"].text == "4.000"
    assert rows[0].cells["usage"][:2] == (None, "–")


def test_columns_are_those_that_have_values(comparison):
    columns = {column.key: column for column in columns_of(comparison, "mel_distance")}
    assert "pesq" not in columns
    assert columns["entropy_coded_bitrate_bps"].unit == "kbps"
    assert all(row.cells.keys() == columns.keys() for row in rows_of(comparison, "mel_distance"))


def test_summary_says_what_was_compared(comparison):
    summary = summary_of(comparison, "speech")
    assert summary == [
        "3 methods in 4 runs, by 1 to 2 seeds each, trained for 100 steps at a nominal 3.2 kbps; "
        "compared on 2 recordings (3 s) of speech, through hard codes.",
        "Beside them: opus 6 kbps.",
    ]


def test_notes_say_what_is_to_be_minded(comparison):
    notes = " ".join(notes_of(comparison, [Skipped("bad", "failed: boom.")], ["A line."]))
    for words in (
        "One seed only, hence no spread: identity and vq.",
        "2 recordings: what holds for these may not hold for others.",
        "The runs are short",
        "Baselines were made for other bitrates",
        "Not compared: bad: failed: boom.",
        "A line.",
        "sample standard deviation over seeds",
    ):
        assert words in notes
    assert "boom.." not in notes


def test_unequal_conditions_are_named():
    configs = {"ste": make_config(steps=100), "vq": make_config(steps=200), "rvq": make_config(steps=200)}
    configs["rvq"]["model"] = {**configs["rvq"]["model"], "encoder": {"dim": 64}}
    configs["ste"]["data"] = {"root": "/speech"}
    scores = {"mel_distance": [1.0, 2.0]}
    runs = [make_evaluation(scores, run=make_run(name, name, 0, config)) for name, config in configs.items()]
    notes = notes_of(Comparison(make_methods(runs)), [])
    (steps,) = [note for note in notes if "numbers of training steps differ" in note]
    assert steps.endswith("200 of rvq and vq; 100 of ste.")
    (recordings,) = [note for note in notes if "training recordings" in note]
    assert recordings == (
        "The training recordings differ, so that differences need not be the quantizer's: "
        "the project's own of rvq and vq; /speech of ste."
    )
    assert any("networks around the quantizers differ" in note for note in notes)


def test_runs_that_were_broken_off_are_named():
    comparison = make_comparison({"ste": {0: [1.0], 1: [1.0]}})
    (method,) = comparison.methods

    def validated(until):
        return {"val/reconstruction": Curve(np.array([0, until]), np.ones(2))}

    curves = {"ste-seed0": validated(60), "ste-seed1": validated(100)}
    assert broken_off(method, curves) == ["ste-seed0 was last validated at step 60 of 100."]
    assert broken_off(method, {}) == []
