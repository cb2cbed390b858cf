"""What is given: which folders are runs, which checkpoint, which files are evaluations, and what is said of others."""

from pathlib import Path

import pytest
import yaml

from discrete_ae.compare.runs import _short_names, find_given
from discrete_ae.errors import DataError
from tests.compare.comparisons import make_config, make_evaluation, make_run


def make_folder(folder, *, checkpoints=("best", "last"), **config):
    (folder / "checkpoints").mkdir(parents=True)
    for name in checkpoints:
        (folder / f"checkpoints/{name}.ckpt").write_bytes(b"")
    (folder / "config.yaml").write_text(yaml.safe_dump(make_config(**config)))
    return folder


def test_runs_are_found_below_a_sweep_and_by_themselves_each_once(tmp_path):
    first = make_folder(tmp_path / "sweep/a/ste-seed0", choices={"quantizer": "fsq"})
    second = make_folder(tmp_path / "sweep/b/rvq-3.2kbps-seed1-lr=0.001", seed=1)
    found = find_given([tmp_path / "sweep", first, tmp_path / "sweep/../sweep/b"])
    assert [run.folder for run in found.runs] == [str(first), str(second)]
    assert [run.quantizer for run in found.runs] == ["fsq", "rvq"]
    assert [run.seed for run in found.runs] == [0, 1]
    assert found.skipped == []


@pytest.mark.parametrize(
    ("name", "quantizer"),
    [
        ("custom_gradient-seed0-20261121-160323", "custom_gradient"),
        ("identity-unquantized-seed2", "identity"),
        ("residual_fsq-12.8kbps-seed3-dim=16", "residual_fsq"),
        ("mine", "mine"),
    ],
)
def test_older_runs_are_named_by_their_folder(tmp_path, name, quantizer):
    assert find_given([make_folder(tmp_path / name)]).runs[0].quantizer == quantizer


def test_the_wanted_checkpoint_is_taken_and_the_other_one_where_it_is_missing(tmp_path):
    both, last = make_folder(tmp_path / "both"), make_folder(tmp_path / "last", checkpoints=["last"])
    for wanted, expected in (("best", ["best", "last"]), ("last", ["last", "last"])):
        assert [Path(run.checkpoint).stem for run in find_given([both, last], wanted).runs] == expected


def test_runs_of_one_name_are_told_apart_by_the_folders_above(tmp_path):
    for path in ("x/day1/ste", "x/day2/ste", "x/day2/rvq", "y/day2/ste"):
        make_folder(tmp_path / path)
    assert [run.name for run in find_given([tmp_path]).runs] == ["day1/ste", "rvq", "x/day2/ste", "y/day2/ste"]


def test_no_name_leads_out_of_the_folder_that_it_is_joined_to(tmp_path):
    names = _short_names([Path("/ste"), Path("/old/ste"), Path("/"), Path("/older/old/ste")])
    assert names == ["ste", "old/ste", "root", "older/old/ste"]
    assert all((tmp_path / name).is_relative_to(tmp_path) for name in names)


def test_what_cannot_be_compared_is_named_with_its_reason(tmp_path):
    make_folder(tmp_path / "good")
    make_folder(tmp_path / "unfinished", checkpoints=())
    failed = make_folder(tmp_path / "failed")
    (failed / "error.txt").write_text("loss is\nnot finite\n")
    (tmp_path / "early").mkdir()
    (tmp_path / "early/error.txt").write_text("no such quantizer")  # before its configuration was written
    (make_folder(tmp_path / "damaged") / "config.yaml").write_bytes(b"a: [\xff")
    (make_folder(tmp_path / "foreign") / "config.yaml").write_text("version: 2")
    make_folder(tmp_path / ".hidden/run")
    found = find_given([tmp_path])
    assert [run.name for run in found.runs] == ["good"]
    reasons = dict(found.skipped)
    assert reasons.keys() == {"unfinished", "failed", "early", "damaged", "foreign"}
    assert "no checkpoint" in reasons["unfinished"]
    assert reasons["failed"] == "failed: loss is not finite"
    assert reasons["early"] == "failed: no such quantizer"
    assert "cannot be read" in reasons["damaged"]
    assert "not one of discrete-ae train" in reasons["foreign"]
    assert not any("\n" in reason for reason in reasons.values())


def test_folders_without_runs_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    make_folder(tmp_path / "runs/unfinished", checkpoints=())
    for name, words in (
        ("none", "no such folder"),
        ("file", "docs/evaluation.md"),
        ("empty", "no run of training"),
        ("runs", "unfinished: no checkpoint"),
    ):
        with pytest.raises(DataError, match=words):
            find_given([tmp_path / name])


def test_config_yaml_cannot_make_anything(tmp_path):
    folder = make_folder(tmp_path / "run")
    (folder / "config.yaml").write_text(f"model: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'made'}]")
    with pytest.raises(DataError, match="cannot be read"):
        find_given([folder])
    assert not (tmp_path / "made").exists()


def test_evaluations_are_found_beside_runs_and_told_apart(tmp_path):
    make_folder(tmp_path / "runs/ste-seed0")
    scores = {"pesq": [1.0]}
    make_evaluation(scores, run=make_run("ste-seed0", "ste")).write_json(tmp_path / "runs/here.json")
    make_evaluation(scores).write_json(tmp_path / "runs/ste-seed0/inside.json")  # of a run that is given itself
    make_evaluation(scores, codec="opus").write_json(tmp_path / "other/a.json")
    make_evaluation(scores, codec="opus").write_json(tmp_path / "b.json")
    make_evaluation(scores, codec="ste").write_json(tmp_path / "c.json")
    (tmp_path / "other/report.json").write_text('{"format": "discrete-ae comparison"}')
    found = find_given([tmp_path / "runs", tmp_path / "other", tmp_path / "b.json", tmp_path / "c.json"])
    assert [run.name for run in found.runs] == ["ste-seed0"]
    names = [one.run.name if one.run else one.codec for _, one in found.evaluations]
    assert names == ["ste-seed0 (2)", "opus", "opus (2)", "ste (2)"]  # the last would be the label of a method
    damaged = tmp_path / "other/d.json"
    damaged.write_text((tmp_path / "b.json").read_text()[:-30])
    with pytest.raises(DataError, match=r"d\.json"):
        find_given([tmp_path / "other"])
