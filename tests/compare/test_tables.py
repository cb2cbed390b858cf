"""The table of the page, and the CSV files, of which files.csv alone gives the others."""

import csv
import math
import statistics

import pytest

from discrete_ae.compare.comparison import PER_RECORDING, Comparison
from discrete_ae.compare.tables import TABLES, columns_of, pairs_of, rows_of
from discrete_ae.evaluation.results import as_csv
from discrete_ae.evaluation.scores import QUANTITIES
from tests.compare.comparisons import make_comparison, make_evaluation, make_methods, make_run


@pytest.fixture(scope="module")
def tables():
    """Tables of two methods and a baseline with two scores, one of which is missing for some recordings and runs."""
    runs = [
        ("ste", 0, [0.1, 0.2, 0.7], [1.5, None, 3.0]),
        ("ste", 1, [0.3, 0.1, 0.4], [0.5, 0.25, 1 / 3]),
        ("vq", 0, [0.5, 0.5, 0.5], [2.0, 2.0, 2.0]),
        ("vq", 2, [0.1, 0.9, 0.3], [None, None, None]),
    ]
    made = [
        make_evaluation({"mel_distance": mel, "pesq": pesq}, run=make_run(f"{name}-seed{seed}", name, seed))
        for name, seed, mel, pesq in runs
    ]
    opus = make_evaluation({"mel_distance": [0.3, 0.2, 0.2]}, codec="opus 6 kbps")
    comparison = Comparison(make_methods(made), (opus,))
    return {
        name: list(csv.DictReader(as_csv(table(comparison)).decode().splitlines())) for name, table in TABLES.items()
    }


def test_files_csv_gives_the_others_by_plain_means(tables):
    rows = {}
    for row in tables["files.csv"]:
        rows.setdefault((row["method"], row["run"]), []).append(row)
    assert len(tables["files.csv"]) == 3 * 5
    for name in PER_RECORDING:
        # The recordings on which nothing lacks the quantity that has it at all.
        having = [of_run for of_run in rows.values() if any(row[name] for row in of_run)]
        counted = {row["path"] for of_run in having for row in of_run}
        counted -= {row["path"] for of_run in having for row in of_run if not row[name]}
        means = {}
        for (method, _), of_run in rows.items():
            values = [float(row[name]) for row in of_run if row["path"] in counted and row[name]]
            means.setdefault(method, []).append(sum(values) / len(values) if values else math.nan)
        said = [float(row[name] or "nan") for row in tables["runs.csv"]]
        assert said == pytest.approx([mean for found in means.values() for mean in found], rel=1e-12, nan_ok=True)
        for row in tables["methods.csv"]:
            found = means[row["method"]]
            spread = statistics.stdev(found) if len(found) > 1 and not any(map(math.isnan, found)) else math.nan
            said = [float(row[column] or "nan") for column in (name, f"{name}_std")]
            assert said == pytest.approx([sum(found) / len(found), spread], rel=1e-12, nan_ok=True)


def test_who_is_who(tables):
    about = [(row["run"], row["method"], row["quantizer"], row["seed"]) for row in tables["runs.csv"]]
    of_runs = [
        (f"{name}-seed{seed}", name, name, f"{seed}") for name, seed in (("ste", 0), ("ste", 1), ("vq", 0), ("vq", 2))
    ]
    assert about == [*of_runs, ("", "opus 6 kbps", "baseline", "")]
    assert set(QUANTITIES) <= set(tables["runs.csv"][0])
    (row,) = [row for row in tables["differences.csv"] if row["quantity"] == "mel_distance"]
    rests_on = [row[name] for name in ("first", "second", "seeds_in_common", "recordings", "basis", "verdict")]
    assert rests_on == ["ste", "vq", "0", "3", "seeds of their own", "not told apart"]
    # Means 1/3, 0.8/3 and 0.5, 1.3/3. Of two values the variance is half the square of how far they lie apart.
    assert float(row["difference"]) == pytest.approx(1.8 / 6 - 2.8 / 6)
    assert float(row["spread_over_seeds"]) == pytest.approx(math.hypot(0.2 / 3, 0.2 / 3) / 2)


def test_the_table_comes_best_first_with_means_and_spreads_and_marks_the_best():
    scores = {"ste": {0: [1.0, 2.0] * 3, 1: [2.0, 3.0] * 3}, "vq": {0: [4.0] * 6}, "identity": {0: [0.5] * 6}}
    comparison = make_comparison(scores, baselines={"opus 6 kbps": [1.0] * 6})
    columns = {column.name: column for column in columns_of(comparison, "mel_distance")}
    assert "pesq" not in columns
    assert columns["entropy_coded_bitrate_bps"].unit == "kbps"
    rows = rows_of(comparison, "mel_distance")
    assert all(row.cells.keys() == columns.keys() for row in rows)
    assert [(row.label, row.remark, row.note, row.cells["mel_distance"].is_best) for row in rows] == [
        ("identity", "upper bound", "1 seed", False),
        ("opus 6 kbps", "other codec", "", False),
        ("ste", "", "2 seeds", True),
        ("vq", "", "1 seed", False),
    ]
    cells = rows[2].cells
    assert cells["mel_distance"] == (2.0, "2.000 ± 0.707", True)
    assert cells["entropy_coded_bitrate_bps"] == (2880.0, "2.88 ± 0.00", False)  # of rates none is better
    assert cells["parameters"].text == "2 M"
    assert rows[0].cells["usage"] == (None, "–", False)
    pairs = pairs_of(comparison, "mel_distance")
    assert {title: [row[:2] for row in rows] for title, rows in pairs.items()} == {
        "Compared with the best by mel distance": [("vq", "ste")],
        "All pairs by mel distance": [("identity", "ste"), ("identity", "vq"), ("ste", "vq")],
    }
    offsets = {"a": 0.0, "b": 0.001, "c": 5.0}
    alike = {name: {s: [f + o + 0.1 * s for f in (1.0, 2.0, 4.0) * 2] for s in range(3)} for name, o in offsets.items()}
    rows = rows_of(make_comparison(alike), "mel_distance")
    assert [row.cells["mel_distance"].is_best for row in rows] == [True, True, False]  # what cannot be told apart


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [("parameters", 800, "0.0008 M"), ("parameters", 40_000, "0.04 M"), ("macs_per_second", 1_234_567_000, "1,230 M"),
     ("perplexity", 20_000, "20000.0")],
)  # fmt: skip
def test_counts_have_three_digits_of_millions(name, value, shown):
    evaluation = make_evaluation({"mel_distance": [1.0]}, run=make_run("ste", "ste"))
    evaluation.overall[name] = value
    (row,) = rows_of(Comparison(make_methods([evaluation])), "mel_distance")
    assert row.cells[name].text == shown
