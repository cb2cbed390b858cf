"""The folder of a report: what is refused, what may be replaced, and what stays."""

import json

import pytest

from discrete_ae.compare.report import claim, write_report
from discrete_ae.errors import DataError


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
