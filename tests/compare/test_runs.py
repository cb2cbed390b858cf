"""Inputs of a comparison: folders of runs, files of evaluations, messages about others, and who is at fault."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from discrete_ae.compare.runs import Given, Placed, at_fault, find_given, recordings_of, trained_on
from discrete_ae.data import recordings_root
from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.evaluate import evaluate
from discrete_ae.evaluation.recordings import Source
from discrete_ae.evaluation.results import Failure
from tests.compare.comparisons import make_config, make_evaluation, make_run


def make_folder(folder, *, checkpoints=("best", "last"), **config):
    (folder / "checkpoints").mkdir(parents=True)
    for name in checkpoints:
        (folder / f"checkpoints/{name}.ckpt").write_bytes(b"")
    (folder / "config.yaml").write_text(yaml.safe_dump(make_config(**config)))
    return folder


def test_runs_are_found_below_a_sweep_and_by_themselves_each_once(tmp_path):
    first = make_folder(tmp_path / "sweep/a/ste-seed0", choices={"quantizer": "fsq"}, checkpoints=["last"])
    second = make_folder(tmp_path / "sweep/b/mine", seed=1)
    found = find_given([tmp_path / "sweep", first, tmp_path / "sweep/../sweep/b"])
    about = [(run.folder, run.quantizer, run.seed, Path(run.checkpoint).stem) for run in found.runs]
    assert about == [(str(first), "fsq", 0, "last"), (str(second), "mine", 1, "best")]
    assert found.lines == []
    assert Path(find_given([second], "last").runs[0].checkpoint).stem == "last"


def test_runs_of_one_name_are_told_apart_by_the_folders_above(tmp_path):
    for path in ("x/day1/ste", "x/day2/ste", "x/day2/rvq", "y/day2/ste"):
        make_folder(tmp_path / path)
    assert [run.name for run in find_given([tmp_path]).runs] == ["x/day1/ste", "rvq", "x/day2/ste", "y/day2/ste"]


def test_what_cannot_be_compared_is_named_with_its_reason(tmp_path):
    make_folder(tmp_path / "good")
    make_folder(tmp_path / "unfinished", checkpoints=())
    (make_folder(tmp_path / "failed") / "error.txt").write_text("loss is\nnot finite\n")
    (tmp_path / "early").mkdir()
    (tmp_path / "early/error.txt").write_text("no such quantizer")  # before its configuration was written
    (make_folder(tmp_path / "damaged") / "config.yaml").write_bytes(b"a: [\xff")
    (make_folder(tmp_path / "foreign") / "config.yaml").write_text("version: 2")
    hostile = f"model: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'made'}]"
    (make_folder(tmp_path / "hostile") / "config.yaml").write_text(hostile)
    often = "a: &a [1]\nb: &b {<<: [*a, *a]}\n"
    (make_folder(tmp_path / "often") / "config.yaml").write_text(often)
    make_folder(tmp_path / ".hidden/run")
    found = find_given([tmp_path])
    assert [run.name for run in found.runs] == ["good"]
    expected = {
        "damaged": "cannot be read",
        "early": "failed: no such quantizer",
        "failed": "failed: loss is not finite",
        "foreign": "not written by discrete-ae train",
        "hostile": "cannot be read",
        "often": "it has a YAML alias",
        "unfinished": "no checkpoint",
    }
    for line, (name, words) in zip(found.lines, expected.items(), strict=True):
        assert line.startswith(f"Not compared: {name}: ")
        assert words in line
        assert "\n" not in line
    assert not (tmp_path / "made").exists()


def test_folders_without_runs_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    make_folder(tmp_path / "runs/unfinished", checkpoints=())
    (tmp_path / "damaged.json").write_text("{")
    for name, words in (
        ("file", "cannot be compared; expected the folder of a run"),
        ("empty", "no run and no evaluation in it; expected the folder of a run"),
        ("damaged.json", "docs/evaluation.md"),
        ("runs", "no checkpoint"),
    ):
        with pytest.raises(DataError, match=words):
            find_given([tmp_path / name])
    with pytest.raises(FileNotFoundError):
        find_given([tmp_path / "none"])


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
    names = [one.name for one in found.evaluations]
    assert names == ["ste-seed0 (2)", "opus", "opus (2)", "ste (2)"]  # the last would be the label of a method
    (tmp_path / "other/d.json").write_text((tmp_path / "b.json").read_text()[:-30])
    with pytest.raises(DataError, match=r"d\.json"):
        find_given([tmp_path / "other"])


def test_an_evaluation_is_of_more_use_than_its_run_if_it_has_all_recordings():
    failure = Failure(path="b.wav", reason="b.wav: is empty")
    evaluations = [
        Placed(Path(f"{name}.json"), make_evaluation({"pesq": [1.0]}, run=make_run(name, "ste"), failures=failures))
        for name, failures in (("short", ()), ("whole", (failure,)))  # both have a.wav
    ]
    runs = [make_run("here", "ste")]
    given = Given(runs, [*evaluations, Placed(Path("opus.json"), make_evaluation({"pesq": [1.0]}))], [])
    short, whole = ([one.evaluation.run] for one in evaluations)
    assert given.by_use(["a.wav", "b.wav"]) == (short, runs, whole)
    assert given.by_use(["c.wav"]) == ([*short, *whole], runs, [])
    assert given.by_use([]) == ([], runs, [*short, *whole])


def test_who_fails_on_what_others_can_do_is_at_fault():
    def placed(name, done, *failed):
        failures = tuple(Failure(path=path, reason=f"{path}: codes are NaN") for path in failed)
        made = make_evaluation({"pesq": [1.0] * len(done)}, paths=done, failures=failures, run=make_run(name, "ste"))
        return Placed(Path(name), made)

    whole, part = placed("whole", ["a.wav", "b.wav"], "bad.wav"), placed("part", ["a.wav"], "b.wav", "bad.wav")
    assert at_fault([whole, whole]) == {}  # a recording that nobody can do is its own fault
    (reason,) = at_fault([whole, part]).values()
    assert reason.startswith("failed on 1 of 2 recordings")
    assert at_fault([part, placed("other", ["b.wav"], "a.wav")]) == {}  # then what both can do is all there is


@pytest.mark.parametrize(
    ("data", "root", "expected"),
    [
        ({"root": None}, "validation", "the project's own validation recordings"),
        ({"root": "train"}, "train", "held out from the runs' training recordings in train"),
        ({"root": "train", "validation_root": "mine"}, "mine", "the runs' validation recordings in mine"),
        ({"root": None, "manifest": "all.jsonl"}, "train", "the runs' validation recordings in train"),
    ],
)
def test_recordings_are_described_by_where_they_come_from(data, root, expected, monkeypatch):
    files = [recordings_root() / root / f"{name}.flac" for name in "ab"]
    monkeypatch.setattr(
        "discrete_ae.compare.runs.validation_recordings", lambda data: (recordings_root() / root, files)
    )
    monkeypatch.setattr("discrete_ae.compare.runs.named_sources", list)
    sources, said = recordings_of([make_run("ste", "ste", config={"data": data})])
    assert (sources, said) == (files, expected)


def test_a_run_whose_training_recordings_are_elsewhere_is_named_and_the_others_are_checked(tmp_path):
    module = {"_target_": "discrete_ae.data.AudioDataModule", "crop_seconds": 1.0, "batch_size": 1,
              "sample_rate": 8000, "channels": 1}  # fmt: skip
    of_runs = {
        "here": {"root": str(tmp_path / "a"), "validation_root": str(tmp_path / "b")},
        "moved": module | {"manifest": str(tmp_path / "moved.jsonl")},
        "other": {"_target_": "mine.Data", "manifest": "mine.jsonl"},
        "older": module | {"manifest": "x.jsonl", "of_old": 1},
    }
    lines = []
    sources = [Source(tmp_path / name / "x.wav", name) for name in "ac"]
    runs = [make_run(name, "ste", config={"data": data}) for name, data in of_runs.items()]
    assert trained_on(runs, sources, lines.append) == {sources[0].path}
    names = [line.split(": ")[1] for line in lines]
    assert names == ["moved", "other", "older"]
    assert f"{tmp_path / 'moved.jsonl'}: no such file" in lines[0]
    assert all("could not be checked" in line and "\n" not in line for line in lines)


def test_runs_on_one_manifest_with_other_limits_were_trained_on_other_recordings(tmp_path):
    for name, seconds in (("short.wav", 1.0), ("long.wav", 3.0), ("held.wav", 3.0)):
        soundfile.write(tmp_path / name, np.zeros(int(8000 * seconds)), 8000)
    lines = [{"path": name, "split": split} for name, split in
             (("short.wav", "train"), ("long.wav", "train"), ("held.wav", "validation"))]  # fmt: skip
    manifest = tmp_path / "all.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = {"_target_": "discrete_ae.data.AudioDataModule", "crop_seconds": 0.5, "batch_size": 1, "sample_rate": 8000,
            "channels": 1, "manifest": str(manifest)}  # fmt: skip
    runs = [make_run(f"from {least}", "ste", config={"data": data | {"min_seconds": least}}) for least in (None, 2.0)]
    sources = [Source(tmp_path / name, name) for name in ("short.wav", "long.wav", "held.wav")]
    for given in (runs, runs[::-1]):
        assert trained_on(given, sources, pytest.fail) == {tmp_path / "short.wav", tmp_path / "long.wav"}


def test_a_bundle_is_a_model_without_training(tmp_path):
    bundle = Path(__file__).parents[1] / "golden/bundle_v1"
    (run,) = find_given([bundle]).runs
    assert (run.name, run.quantizer, Path(run.folder, run.checkpoint)) == ("bundle_v1", "bundle_v1", bundle)
    assert find_given([Path("pretrained")]).runs[0].name == "pretrained"
    with pytest.raises(UsageError, match=r"bundle_v1: .*--data"):
        recordings_of([run])
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(16000) / 10) / 2, 16000)
    evaluated = evaluate(bundle, tmp_path / "a.wav", metrics=["si_sdr_db"], jobs=1).run
    assert evaluated == run
