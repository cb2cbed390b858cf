"""Estimates of the time that is left, by hand."""

import pytest
from omegaconf import OmegaConf

from discrete_ae.cli import options
from discrete_ae.cli.course import Course
from discrete_ae.cli.options import TimeLeft
from discrete_ae.cli.sweep import ReportSweep


def test_the_course_of_a_sweep():
    course = Course(total=8)
    lines = [
        course.line(1, 1.0, 0.0, failed=False),  # finished by an earlier sweep
        course.line(2, 3.0, 0.0, failed=True),
        course.line(3, 65.0, 0.5, failed=False),  # 130 s a run
        course.line(4, 60.0, 0.0, failed=True),
        course.line(5, 235.0, 1.0, failed=False),  # 300 s for 1.5 runs
        course.line(8, 200.0, 1.0, failed=False),
    ]
    assert lines == [
        "run 1 of 8 was done already",
        "run 2 of 8 failed after 3 s",
        "run 3 of 8 done in 1 min 5 s; about 11 min left",
        "run 4 of 8 failed after 1 min; about 9 min left",
        "run 5 of 8 done in 3 min 55 s; about 10 min left",
        "run 8 of 8 done in 3 min 20 s",
    ]


def test_the_heading_of_a_run_has_the_settings_that_vary():
    assert Course(total=8).heading(2, {"quantizer": "ste", "seed": 3}) == "run 2 of 8: quantizer=ste, seed=3"
    assert Course().heading(2, {}) == "run 2"


def test_the_end_of_a_sweep_reads_no_run_that_was_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ReportSweep, "failed", 0)
    for name, file in (("a", "config.yaml"), ("b", "config.yaml"), ("without", "refused.txt")):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints/last.ckpt").touch()
        (tmp_path / name / file).write_text("model: {_target_: mine.Model}")
    ReportSweep().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    out = capsys.readouterr().out
    assert "sweep: 2 runs done, 1 failed" in out
    assert f"compare {tmp_path} -o report --trust=mine" in out


def test_a_course_without_an_estimate():
    assert Course().line(2, 65.0, 1.0, failed=False) == "run 2 done in 1 min 5 s"
    assert Course(8, in_sequence=False).line(2, 65.0, 1.0, failed=False) == "run 2 of 8 done in 1 min 5 s"


def test_time_left_counts_progress_within_a_task(monkeypatch):
    now = iter([100.0, 110.0, 111.0, 130.0])
    monkeypatch.setattr(options.time, "monotonic", lambda: next(now))
    clock = TimeLeft()
    assert clock.update("a", 0.0, 40.0) is None
    assert clock.update("a", 5.0, 40.0) == pytest.approx(35 * 10 / 5)
    assert clock.update("c", 20.0, 40.0) == pytest.approx(20 * 11 / 5)  # "b" was done before
    assert clock.update("c", 30.0, 40.0) == pytest.approx(10 * 30 / 15)
