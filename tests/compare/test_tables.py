"""The table of the page, and the CSV files, of which files.csv alone gives the others."""

import csv
import io
import math
import statistics

import pytest

from discrete_ae.compare.comparison import PER_RECORDING, Comparison
from discrete_ae.compare.tables import (
    as_csv,
    columns_of,
    differences_table,
    files_table,
    methods_table,
    pairs_of,
    rows_of,
    runs_table,
)
from discrete_ae.evaluation.scores import QUANTITIES
from tests.compare.comparisons import make_comparison, make_evaluation, make_methods


@pytest.fixture
def comparison():
    made = make_comparison(
        {"ste": {0: [0.1, 0.2, 0.7], 1: [0.3, 0.1, 0.4]}, "vq": {0: [0.5, 0.5, 0.5], 2: [0.1, 0.9, 0.3]}},
        baselines={"opus 6 kbps": [0.3, 0.2, 0.2]},
    )
    numbers = {"ste-seed0": [1.5, None, 3.0], "ste-seed1": [0.5, 0.25, 1 / 3], "vq-seed0": [2.0, 2.0, 2.0]}
    runs = []
    for evaluation in (run for method in made.methods for run in method.runs):
        scores = {"mel_distance": [file.scores["mel_distance"] for file in evaluation.files]}
        scores["pesq"] = numbers.get(evaluation.run.name, [None, None, None])
        runs.append(make_evaluation(scores, run=evaluation.run))
    return Comparison(make_methods(runs), made.baselines)


def read(rows):
    return list(csv.DictReader(io.StringIO(as_csv(rows).decode())))


def test_files_csv_gives_methods_csv_by_plain_means(comparison):
    files, methods = read(files_table(comparison)), read(methods_table(comparison))
    rows = {}
    for row in files:
        rows.setdefault((row["method"], row["run"]), []).append(row)
    assert len(files) == 3 * 5
    for name in PER_RECORDING:
        # The recordings on which nothing lacks the quantity that has it at all.
        having = [of_run for of_run in rows.values() if any(row[name] for row in of_run)]
        counted = {row["path"] for of_run in having for row in of_run}
        counted -= {row["path"] for of_run in having for row in of_run if not row[name]}
        means = {}
        for (method, _), of_run in rows.items():
            values = [float(row[name]) for row in of_run if row["path"] in counted and row[name]]
            means.setdefault(method, []).append(sum(values) / len(values) if values else math.nan)
        for row in methods:
            found = means[row["method"]]
            if any(map(math.isnan, found)):
                assert row[name] == ""
            else:
                assert float(row[name]) == pytest.approx(statistics.mean(found), rel=1e-12)
            if len(found) > 1 and row[name]:
                assert float(row[f"{name}_std"]) == pytest.approx(statistics.stdev(found), rel=1e-12)
            else:
                assert row[f"{name}_std"] == ""


def test_files_csv_gives_differences_csv(comparison):
    (row,) = [row for row in read(differences_table(comparison)) if row["quantity"] == "mel_distance"]
    scores = {
        (row["run"], row["path"]): float(row["mel_distance"]) for row in read(files_table(comparison)) if row["run"]
    }
    means = {run: statistics.mean(scores[run, path] for path in ("a.wav", "b.wav", "c.wav")) for run, _ in scores}
    difference = (means["ste-seed0"] + means["ste-seed1"] - means["vq-seed0"] - means["vq-seed2"]) / 2
    assert (row["first"], row["second"], row["seeds_in_common"], row["recordings"]) == ("ste", "vq", "0", "3")
    assert row["basis"] == "seeds of their own"
    assert float(row["difference"]) == pytest.approx(difference)
    assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])
    # Of two values the variance is half the square of how far they lie apart.
    apart = (means["ste-seed0"] - means["ste-seed1"], means["vq-seed0"] - means["vq-seed2"])
    assert float(row["spread_over_seeds"]) == pytest.approx(math.hypot(*apart) / 2)
    assert row["verdict"] == "not told apart"


def test_runs_csv_has_a_row_for_every_run_and_baseline(comparison):
    rows = read(runs_table(comparison))
    assert [(row["run"], row["method"], row["seed"]) for row in rows] == [
        ("ste-seed0", "ste", "0"),
        ("ste-seed1", "ste", "1"),
        ("vq-seed0", "vq", "0"),
        ("vq-seed2", "vq", "2"),
        ("", "opus 6 kbps", ""),
    ]
    assert rows[0]["checkpoint"] == "checkpoints/best.ckpt"
    assert float(rows[0]["mel_distance"]) == pytest.approx(1 / 3)
    assert float(rows[0]["pesq"]) == 2.25  # without the recording that it lacks
    assert rows[3]["pesq"] == ""
    assert rows[4]["quantizer"] == "baseline"
    assert set(QUANTITIES) <= set(rows[0])


def test_the_table_comes_best_first_with_means_and_spreads_and_marks_the_best():
    scores = {"ste": {0: [1.0, 2.0], 1: [2.0, 3.0]}, "vq": {0: [4.0, 4.0]}, "identity": {0: [0.5, 0.5]}}
    comparison = make_comparison(scores, baselines={"opus 6 kbps": [1.0, 1.0]})
    columns = {column.name: column for column in columns_of(comparison, "mel_distance")}
    assert "pesq" not in columns
    assert columns["entropy_coded_bitrate_bps"].unit == "kbps"
    rows = rows_of(comparison, "mel_distance")
    assert all(row.cells.keys() == columns.keys() for row in rows)
    assert [(row.label, row.remark, row.note) for row in rows] == [
        ("identity", "upper bound", "1 seed"),
        ("opus 6 kbps", "baseline", ""),
        ("ste", "", "2 seeds"),
        ("vq", "", "1 seed"),
    ]
    cells = rows[2].cells
    assert cells["mel_distance"] == (2.0, "2.000 ± 0.707", True)
    assert cells["entropy_coded_bitrate_bps"] == (2880.0, "2.88 ± 0.00", False)  # of rates none is better
    assert cells["parameters"].text == "2.0 M"
    assert rows[0].cells["usage"] == (None, "–", False)
    assert [row.cells["mel_distance"].is_best for row in rows] == [False, False, True, False]
    ((pair, *_),) = pairs_of(comparison).values()
    assert pair[:2] == ("identity", "ste")


def test_methods_that_cannot_be_told_apart_from_the_best_are_marked_with_it():
    files = [1.0, 2.0, 4.0, 3.0]
    offsets = {"a": 0.0, "b": 0.001, "c": 5.0}
    scores = {name: {s: [f + o + 0.1 * s for f in files] for s in range(3)} for name, o in offsets.items()}
    rows = rows_of(make_comparison(scores), "mel_distance")
    assert [row.cells["mel_distance"].is_best for row in rows] == [True, True, False]
