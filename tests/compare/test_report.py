"""The folder of a report: what is refused, what may be replaced, and what stays; runs that are not finished."""

import json

import numpy as np
import pytest

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.figures import Curve
from discrete_ae.compare.report import claim, unfinished, write_report
from discrete_ae.errors import DataError
from tests.compare.comparisons import make_config, make_evaluation, make_methods, make_run


def test_a_finished_report_is_only_replaced_by_force(tmp_path):
    folder = tmp_path / "report"
    claim(folder, "title", force=False)
    write_report(folder, "title", {"runs.csv": b"old", "index.html": b"old"})
    (folder / "ratings-ann.csv").write_text("of a listening test")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DataError, match=r"already has a report.*--force"):
        claim(folder, "another title", force=False)
    claim(folder, "another title", force=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    write_report(folder, "another title", {"index.html": b"new"})
    assert (folder / "ratings-ann.csv").read_text() == "of a listening test"
    assert (folder / "index.html").read_bytes() == b"new"
    assert json.loads((folder / "report.json").read_text())["files"] == ["index.html"]


def test_an_interrupted_report_is_resumed_without_force(tmp_path):
    claim(tmp_path / "report", "title", force=False)
    (tmp_path / "report/evaluations").mkdir()
    claim(tmp_path / "report", "title", force=False)
    write_report(tmp_path / "report", "title", {"index.html": b""})
    (tmp_path / "report/index.html").unlink()  # the page is written last
    claim(tmp_path / "report", "title", force=False)


def test_files_of_others_are_never_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="no report"):
        claim(tmp_path, "title", force=False)
    claim(tmp_path, "title", force=True)
    for name in ("index.html", "files.csv"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(DataError, match=f"{name}: is not of a report"):
            claim(tmp_path, "title", force=True)
        (tmp_path / name).unlink()
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(DataError, match=r"report\.json"):
        claim(tmp_path, "title", force=False)


def test_a_run_is_unfinished_if_it_was_not_validated_at_its_last_step():
    last = {"early": [0, 50, 98], "finished": [0, 50, 100], "longer": [0, 120], "first": [0], "never": []}
    runs = [make_run(name, name, 0, make_config(steps=100)) for name in (*last, "unlogged")]
    comparison = Comparison(make_methods(make_evaluation({"mel_distance": [1.0]}, run=run) for run in runs))
    curves = {name: {"val/reconstruction": Curve(np.array(steps), np.ones(len(steps)))} for name, steps in last.items()}
    assert unfinished(comparison, curves) == {"early": 98}
