"""`discrete-ae compare` from runs of training to everything that it leaves."""

import csv
import io
import json
import math
import re
import shutil
import statistics
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import discrete_ae
from discrete_ae.build import validation_recordings
from discrete_ae.cli import main
from discrete_ae.cli.compare import print_report
from discrete_ae.compare import runs as compared
from discrete_ae.compare.report import Report, quantities
from discrete_ae.compare.runs import find_given, trained_on
from discrete_ae.data import read_audio
from discrete_ae.errors import UsageError
from discrete_ae.evaluation.coders import through
from discrete_ae.evaluation.pretrained import load_tokenizer
from discrete_ae.evaluation.recordings import Source
from discrete_ae.evaluation.scoring import SignalScores
from tests.compare.comparisons import make_comparison, make_evaluation, make_run

slow = pytest.mark.slow
FAST = ("--metrics", "mel_distance,si_sdr_db", "--no-baselines", "--clips", 2, "--jobs", 1, "--device", "cpu")
RUNS = [("ste", 0), ("ste", 1), ("identity", 0)]
QUICK = ("--metrics", "mel_distance", "--device", "cpu", "--jobs", 1)
BARE = [f"callbacks.{name}=null" for name in ("clips", "code_histograms", "rounding_curve")]
BARE += ["trainer.max_steps=1", "trainer.val_check_interval=1"]


@pytest.fixture(scope="module")
def sweep(run_training, tmp_path_factory):
    """A folder of three short runs, one that failed, and one without a checkpoint."""
    folder = tmp_path_factory.mktemp("sweep")
    for quantizer, seed in RUNS:
        run_training(*BARE, f"quantizer={quantizer}", f"seed={seed}", run_dir=folder / f"{quantizer}-seed{seed}")
    (folder / "fourier-seed0").mkdir()
    (folder / "fourier-seed0/error.txt").write_text("data.root: no such folder\n")
    (folder / "vq-seed0").mkdir()
    shutil.copy(folder / "ste-seed0/config.yaml", folder / "vq-seed0")
    return folder


PROGRESS = ("evaluating ", "drawing ")


def run_command(*arguments):
    """Run `discrete-ae compare`; its exit status, stdout and the lines of its stderr that are not progress."""
    status, out, lines = run_with_progress(*arguments)
    return status, out, [line for line in lines if not line.startswith(PROGRESS)]


def run_with_progress(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main.main(["compare", *map(str, arguments)])
    # Training in this process, as in the fixtures, leaves its logging on.
    lines = [line for line in err.getvalue().splitlines() if not line.startswith("INFO:")]
    return ended.value.code or 0, out.getvalue(), lines


@pytest.fixture(scope="module")
def report(sweep, recordings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "report"
    return folder, run_with_progress(sweep, "-o", folder, "--data", recordings, *FAST)


def read(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def methods_in(out):
    """The first column of the table."""
    return [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]


@slow
def test_everything_is_there_and_what_is_not_compared_is_named(report, recordings, sweep):
    folder, (status, out, err) = report
    assert status == 0
    steps = [re.sub(r", (about|less).* left$", "", line) for line in err if line.startswith(PROGRESS)]
    names = [f"evaluating {name}-seed{seed} (run {i} of 3)" for i, (name, seed) in enumerate(sorted(RUNS), 1)]
    assert steps == [*names, "drawing plots and making clips"]
    for words in ("fourier-seed0: failed: data.root: no such folder", "vq-seed0: no checkpoint", "used to train"):
        assert sum(words in line for line in err) == 1
    assert out.splitlines()[-1] == f"open {folder / 'index.html'}"
    files = json.loads((folder / "report.json").read_text())["files"]
    assert all((folder / name).is_file() for name in files)
    plots = [{Path(name).stem for name in files if name.endswith(suffix)} for suffix in (".png", ".svg")]
    assert plots[0] == plots[1] == {"rate_distortion", "codebook_usage"}  # the others would have one point
    assert {"index.html", "runs.csv", "methods.csv", "files.csv", "differences.csv"} <= set(files)
    # It can be sent to others: no folder above those that were given is in any text.
    texts = [(folder / name).read_text() for name in files if Path(name).suffix in {".html", ".csv", ".json", ".svg"}]
    above = {str(path) for given in (folder, recordings, sweep, Path.cwd()) for path in given.resolve().parents[:-2]}
    assert [path for path in above for text in texts if f"{path}/" in text] == []
    assert [row["path"] for row in read(folder / "runs.csv")] == [f"{sweep.name}/{q}-seed{s}" for q, s in sorted(RUNS)]
    scores = {}
    for row in read(folder / "files.csv"):
        scores.setdefault((row["method"], row["seed"]), []).append(float(row["mel_distance"]))
    assert {key: len(values) for key, values in scores.items()} == {(q, str(seed)): 6 for q, seed in RUNS}
    means = [statistics.mean(scores["ste", seed]) for seed in "01"]
    text = f"{statistics.mean(means):.3f} ± {statistics.stdev(means):.3f}"
    assert any(line.startswith("│ ste ") and f" {text} " in line for line in out.splitlines())
    page = (folder / "index.html").read_text()
    assert text in page
    assert "would have a single point: learning curves" in page
    described = json.loads((folder / "clips/clips.json").read_text())["clips"]
    assert [clip["name"] for clip in described] == ["clip_1.wav", "clip_4.wav"]
    assert [version["label"] for version in described[0]["versions"]] == ["original", "identity", "ste"]
    original, _, ste = (soundfile.read(folder / "clips" / version["file"])[0] for version in described[0]["versions"])
    assert np.abs(original - soundfile.read(recordings / "clip_1.wav")[0]).max() <= 2**-15
    assert np.abs(ste - original).max() > 0.01


@slow
def test_another_order_is_made_of_what_was_evaluated(report, sweep, recordings):
    folder, _ = report
    kept = {path: path.stat().st_mtime_ns for path in (folder / "evaluations").rglob("*.json")}
    assert len(kept) == len(RUNS)
    (folder / "ratings.csv").write_text("of a listening test")
    before = (folder / "files.csv").read_bytes()
    arguments = (sweep, "-o", folder, "--data", recordings, *FAST, "--clips", 0, "--sort-by", "si_sdr_db")
    status, _, (line,) = run_command(*arguments)
    assert status == 1
    assert "already has a report; use --force" in line
    status, out, _ = run_command(*arguments, "--force")
    assert status == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (folder / "files.csv").read_bytes() == before
    assert (folder / "ratings.csv").exists()
    means = {row["method"]: float(row["si_sdr_db"]) for row in read(folder / "methods.csv")}
    assert methods_in(out) == sorted(means, key=means.get, reverse=True)


@slow
def test_evaluations_are_enough_on_another_machine_and_beside_another_codec(report, tmp_path):
    folder, (_, out, _) = report
    shutil.copytree(folder / "evaluations", tmp_path / "copied")
    for path in (tmp_path / "copied").glob("*.json"):  # nothing of the other machine is here
        path.write_text(re.sub(r'"folder": "[^"]*"', '"folder": "/gone"', path.read_text()))
    rows = [row for row in read(folder / "files.csv") if row["run"] == "ste-seed0"]
    scores = [{"path": row["path"], "duration_s": 1.0, "scores": {"mel_distance": 9.5}} for row in rows]
    foreign = {"format": "discrete-ae evaluation", "version": 1, "codec": "Mimi", "sample_rate": 24000, "files": scores}
    (tmp_path / "mimi.json").write_text(json.dumps(foreign))
    (tmp_path / "dac.json").write_text(json.dumps(foreign | {"run": {"name": "dac", "quantizer": "dac"}}))
    given = (tmp_path / "copied", tmp_path / "mimi.json", tmp_path / "dac.json")
    status, again, err = run_command(*given, "-o", tmp_path / "report")
    assert status == 0
    assert [line.rpartition(": ")[2] for line in err] == ["dac, Mimi."]  # not to be heard
    assert methods_in(again) == [*methods_in(out), "dac", "Mimi"]
    columns = ("run", "seed", "path", "mel_distance", "si_sdr_db")
    old, new = ([[row[name] for name in columns] for row in read(of / "files.csv") if "seed" in row["run"]]
                for of in (folder, tmp_path / "report"))  # fmt: skip
    assert old == new
    assert ("dac", "ste") in {(row["first"], row["second"]) for row in read(tmp_path / "report/differences.csv")}
    clips, same = ({path.name: path.read_bytes() for path in (of / "clips").rglob("*.flac")}
                   for of in (folder, tmp_path / "report"))  # fmt: skip
    assert clips == same
    scores[0]["duration_s"] = 2.0
    (tmp_path / "mimi.json").write_text(json.dumps(foreign))
    status, _, (line,) = run_command(tmp_path / "copied", tmp_path / "mimi.json", "-o", tmp_path / "other")
    assert status == 1
    assert "different recordings of this name" in line


@slow
def test_a_run_whose_evaluation_is_given_is_not_evaluated(report, sweep, tmp_path):
    folder, _ = report
    given = (sweep / "ste-seed0", folder / "evaluations/ste-seed0.json")
    status, out, err = run_command(*given, "-o", tmp_path / "report", "--clips", 0)
    assert (status, methods_in(out)) == (0, ["ste"])
    assert any("ste-seed0: the same settings and seed as ste-seed0 (2)" in line for line in err)
    assert not (tmp_path / "report/evaluations").exists()


@slow
def test_a_run_whose_given_evaluation_lacks_the_asked_recordings_is_evaluated(report, sweep, tmp_path):
    folder, _ = report
    soundfile.write(tmp_path / "voice.wav", np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    arguments = (sweep / "ste-seed0", folder / "evaluations/ste-seed0.json", "-o", tmp_path / "report", *FAST)
    status, out, err = run_command(*arguments, "--data", tmp_path / "voice.wav")
    assert (status, methods_in(out)) == (0, ["ste"])
    assert any("ste-seed0 (2): the same settings and seed as ste-seed0;" in line for line in err)
    assert {row["path"] for row in read(tmp_path / "report/files.csv")} == {"voice.wav"}


@slow
@pytest.mark.skipif(not shutil.which("opusenc"), reason="opusenc is not installed: apt-get install opus-tools")
def test_validation_recordings_are_taken_by_default_and_baselines_stand_beside(sweep, tmp_path):
    status, out, err = run_command(sweep / "ste-seed0", "-o", tmp_path / "report", "--clips", 1, *QUICK)
    assert (status, [line for line in err if "codec2" not in line]) == (0, [])
    assert "only one trained method" in out
    rows = read(tmp_path / "report/files.csv")
    root, held_out = validation_recordings(find_given([sweep]).runs[0].config["data"])
    assert [root / row["path"] for row in rows if row["run"]] == held_out
    assert ("opus 6 kbps", "baseline") in {(row["method"], row["quantizer"]) for row in rows}
    assert "opus 6 kbps" in (tmp_path / "report/clips/clips.json").read_text()


@slow
def test_what_fails_is_named_and_the_others_are_compared(sweep, recordings, tmp_path, monkeypatch):
    def load(path, device, trust=()):
        model = discrete_ae.load(path, device)
        if "nan-seed1" in str(path):  # its weights came to nothing in training
            torch.nn.init.constant_(next(model.parameters()), math.nan)
        return model

    monkeypatch.setattr("discrete_ae.compare.runs.load", load)
    monkeypatch.setenv("PATH", str(tmp_path))  # neither opusenc nor c2enc
    runs, data, out = tmp_path / "runs", tmp_path / "data", tmp_path / "report"
    for name, made_of in (("ste-seed0", "ste-seed0"), ("nan-seed1", "ste-seed1"), ("vq-seed0", "identity-seed0")):
        shutil.copytree(sweep / made_of, runs / name)
    (runs / "vq-seed0/checkpoints/best.ckpt").write_bytes(b"no checkpoint")
    shutil.copytree(recordings, data)
    (data / "bad.wav").write_bytes(b"RIFF and nothing else")
    status, _, err = run_command(runs, "-o", out, "--data", data, "--clips", 0, *QUICK)
    assert status == 1  # for the recording
    page = (out / "index.html").read_text()
    for line, words in zip(
        err, ("nan-seed1: best.ckpt has NaN", "vq-seed0: ", "Opus ", "Codec 2 ", "/bad.wav: "), strict=True
    ):
        assert words in line
        assert words in page
    assert [row["run"] for row in read(out / "files.csv")] == ["ste-seed0"] * 6
    status, _, err = run_command(runs / "vq-seed0", "-o", tmp_path / "none", "--data", data, *QUICK)
    assert status == 1
    assert "no run can be compared" in err[-1]


@slow
def test_an_interruption_keeps_what_is_evaluated(sweep, recordings, tmp_path, monkeypatch):
    evaluate = compared.evaluate_model

    def interrupted(model, sources, name, *others, **more):
        if name == "ste-seed1":
            raise KeyboardInterrupt
        return evaluate(model, sources, name, *others, **more)

    monkeypatch.setattr(compared, "evaluate_model", interrupted)
    (tmp_path / "data").mkdir()
    shutil.copy(recordings / "clip_0.wav", tmp_path / "data")
    runs = (sweep / "ste-seed0", sweep / "ste-seed1")
    assert run_command(*runs, "-o", tmp_path / "report", "--data", tmp_path / "data", *QUICK)[0] == 130
    assert [path.stem for path in (tmp_path / "report/evaluations").iterdir()] == ["ste-seed0"]


def test_a_label_is_no_markup(capsys):
    label = "ste (root=[/data], [bold]a[/bold])"
    comparison = make_comparison({label: {0: [1.0, 2.0]}, "vq": {0: [2.0, 3.0]}})
    print_report(Report(comparison, "mel_distance", ["[/data] is better."], [], Path("index.html")))
    out = capsys.readouterr().out
    assert label in out
    assert "[/data] is better." in out


def test_the_words_are_on_a_score_that_has_a_better():
    chosen = ("mel_distance", "dnsmos_p808", "dnsmos_p808_original")
    assert quantities("dnsmos_p808", chosen) == ("dnsmos_p808", "dnsmos_p808")
    for name in ("dnsmos_p808_original", "entropy_bits"):
        assert quantities(name, chosen) == (name, "mel_distance")
    for name in ("distillmos", "distillmos_original"):
        with pytest.raises(UsageError, match="is not measured"):
            quantities(name, chosen)


@slow
def test_mistakes_are_one_line_and_cost_nothing(sweep, recordings, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("all of it")
    (tmp_path / "held_out").mkdir()
    shutil.copy(recordings / "clip_0.wav", tmp_path / "held_out")
    other, away = tmp_path / "other-seed0", tmp_path / "away-seed0"
    for run, root in ((other, tmp_path / "held_out"), (away, "/gone")):
        shutil.copytree(sweep / "ste-seed0", run)
        config = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(config.replace("validation_root: null", f"validation_root: {root}"))
    out, ste = ("-o", tmp_path / "report"), sweep / "ste-seed0"
    for arguments, expected, words in (
        ((tmp_path / "none", *out), 1, "none: "),
        ((ste, "-o", tmp_path / "mine"), 1, "has files but no report"),
        ((ste, "-o", tmp_path / "mine/thesis.tex"), 1, "thesis.tex"),
        ((ste, *out, "--data", tmp_path / "none"), 1, "no such file or folder"),
        ((away, *out), 1, "or give the recordings with --data"),
        ((ste, other, *out), 2, "validated on different recordings"),
        ((ste, *out, "--sort-by", "loudness"), 2, "expected one of mel_distance"),
        ((ste, *out, "--checkpoint", "middle"), 2, "expected best or last"),
        ((ste, *out, "--opus", "5,8"), 2, "--opus: expected 6 to 256 kbps, got 5, 8"),
        ((ste,), 2, "--out"),
    ):
        status, _, (line,) = run_command(*arguments)
        assert (status, line.startswith("error: "), words in line) == (expected, True, True), line
        assert not (tmp_path / "report").exists()
    assert (tmp_path / "mine/thesis.tex").read_text() == "all of it"


@slow
def test_recordings_that_were_trained_on_are_told(sweep, recordings, report):
    found = find_given([sweep]).runs
    sources = [Source(path, path.name) for path in sorted(recordings.iterdir())]
    validated = {path.resolve() for path in validation_recordings(found[0].config["data"])[1]}
    trained = trained_on(found, [*sources, Source(sweep / "elsewhere.wav", "elsewhere.wav")], pytest.fail)
    assert trained == {source.path for source in sources if source.path.resolve() not in validated} != set()
    folder, (_, _, said) = report
    line = f"{len(trained)} of the {len(sources)} recordings were used to train a run"
    assert any(line in each for each in said)
    assert line in (folder / "index.html").read_text()


@slow
def test_several_rates_of_one_model_are_evaluated_kept_and_joined(run_training, sweep, recordings, tmp_path):
    runs, report = tmp_path / "runs", tmp_path / "report"
    run_training(*BARE, "quantizer=rvq", run_dir=runs / "rvq")
    for name in ("ste", "identity"):
        shutil.copytree(sweep / f"{name}-seed0", runs / name)
    arguments = (runs, "-o", report, *(f"--data={recordings}/clip_{i}.wav" for i in (0, 5)), *QUICK, "--no-baselines")
    status, out, err = run_command(*arguments, "--clips", 1, "--codebooks", "1,3")
    assert status == 0
    said = ["rvq is not compared at 3 codebooks: it decodes from the first 1 to 2.",
            "ste is not compared at 1 and 3 codebooks: it decodes from all 2 together."]  # fmt: skip
    assert [line for line in said if any(line in one for one in err)] == said
    assert not any("identity is not compared" in line for line in err)
    assert set(methods_in(out)) == {"rvq (0.4 kbps)", "rvq (0.8 kbps)", "ste (0.8 kbps)", "identity"}
    rows = {row["method"]: float(row["mel_distance"]) for row in read(report / "methods.csv")}
    checkpoint, files = runs / "rvq/checkpoints/best.ckpt", [recordings / f"clip_{i}.wav" for i in (0, 5)]
    one = discrete_ae.evaluate(checkpoint, files, metrics="mel_distance", num_codebooks=1, device="cpu", jobs=1)
    assert rows["rvq (0.4 kbps)"] == pytest.approx(one.means()["mel_distance"].mean, rel=1e-9)
    assert rows["rvq (0.8 kbps)"] != rows["rvq (0.4 kbps)"]
    pairs = {frozenset((row["first"], row["second"])) for row in read(report / "differences.csv")}
    assert frozenset(("rvq (0.4 kbps)", "rvq (0.8 kbps)")) not in pairs
    page = (report / "index.html").read_text()
    assert "rvq (0.4 to 0.8 kbps)" in page
    (clip,) = json.loads((report / "clips/clips.json").read_text())["clips"]
    sounds = [Path(report / "clips" / version["file"]).read_bytes() for version in clip["versions"]]
    assert len(set(sounds)) == 5  # the original, and each method

    kept = {path: path.stat().st_mtime_ns for path in (report / "evaluations").glob("*.json")}
    assert sorted(path.stem for path in kept) == ["identity", "rvq", "rvq-1codebooks", "ste"]
    status, out, _ = run_command(*arguments, "--clips", 0, "--codebooks", "all", "--force")
    assert status == 0
    assert set(methods_in(out)) == {"rvq (0.4 kbps)", "rvq (0.8 kbps)", "ste (0.8 kbps)", "identity"}
    assert {path: path.stat().st_mtime_ns for path in (report / "evaluations").glob("*.json")} == kept


@slow
def test_tokenizers_of_transformers_stand_beside_runs_at_each_of_their_rates(sweep, recordings, tmp_path):
    tiny = pytest.importorskip("tests.tiny_tokenizers", reason="pip install 'discrete-ae[codecs]'")
    encodec, dac = tiny.save(tiny.encodec, tmp_path / "encodec"), tiny.save(tiny.dac, tmp_path / "dac")
    other = shutil.copytree(encodec, tmp_path / "other/encodec")
    files = [recordings / f"clip_{i}.wav" for i in (0, 3)]  # mono at 16 kHz, stereo at 44.1 kHz
    report = tmp_path / "report"
    where = ("-o", report, *(f"--data={file}" for file in files), *QUICK, "--no-baselines")
    given = (sweep / "ste-seed0", f"hf:{encodec}", f"hf:{dac}", f"hf:{encodec}")
    status, _, (line,) = run_command(*given, f"hf:{tmp_path}/none", *where)
    assert (status, line.startswith(f"error: hf:{tmp_path}/none: is neither a model folder")) == (1, True), line
    assert not report.exists()
    status, out, _ = run_command(*given, *where, "--clips", 1)
    assert status == 0
    rates = {"encodec": (0.9, 1.8, 3.6), "dac": ("0.4307", "0.8613", 1.723, 2.153)}
    names = {f"{name} {kbps} kbps" for name, of_one in rates.items() for kbps in of_one}
    assert set(methods_in(out)) == {"ste", *names}
    rows = {row["method"]: row for row in read(report / "methods.csv")}
    assert [float(rows[f"encodec {kbps} kbps"]["nominal_bitrate_bps"]) for kbps in (0.9, 3.6)] == [900, 3600]
    assert float(rows["dac 2.153 kbps"]["nominal_bitrate_bps"]) == 5 * 5 * 44100 / 512
    assert {rows[name]["entropy_coded_bitrate_bps"] for name in names} == {""}
    assert rows["ste"]["entropy_coded_bitrate_bps"]
    # At the sample rate of the run beside them, as Opus is.
    coder = load_tokenizer(f"hf:{encodec}").at(4)
    means = []
    for file in files:
        audio = read_audio(file, 16000)
        means.append(SignalScores(16000, ["mel_distance"])(through(coder, audio, 16000).audio, audio)["mel_distance"])
    assert float(rows["encodec 1.8 kbps"]["mel_distance"]) == pytest.approx(statistics.fmean(means), rel=1e-6)
    (clip,) = json.loads((report / "clips/clips.json").read_text())["clips"]
    assert len(clip["versions"]) == 2 + len(names)

    # They are kept by their weights; numbers of codebooks may be chosen; those of one name are told apart.
    tiny.save(tiny.dac, dac, seed=1)
    kept = {path: path.stat().st_mtime_ns for path in (report / "evaluations/baselines").glob("*.json")}
    assert {path.stem for path in kept} == names
    status, out, err = run_command(*given[:3], f"hf:{other}", *where, "--clips", 0, "--codebooks", "2,3", "--force")
    assert status == 0
    chosen = {"encodec 0.9 kbps", "encodec (2) 0.9 kbps", "dac 0.8613 kbps", "dac 1.292 kbps", "dac 2.153 kbps"}
    assert set(methods_in(out)) >= {"encodec 3.6 kbps", "encodec (2) 3.6 kbps", *chosen}
    assert any("encodec is not compared at 3 codebooks: it decodes from the first 2, 4 or 8." in line for line in err)
    anew = {path.stem for path, time in kept.items() if path.stat().st_mtime_ns != time}
    assert anew == {"dac 0.8613 kbps", "dac 2.153 kbps"}


def test_tokenizers_that_cannot_be_compared_are_one_line(tmp_path):
    make_evaluation({"mel_distance": [1.0]}, run=make_run("ste", "ste")).write_json(tmp_path / "ste.json")
    for given, expected, words in (
        (["hf:x"], 2, "can only be compared with runs of training"),
        ([tmp_path / "ste.json", "hf:x"], 2, "give them with --data"),
    ):
        status, _, (line,) = run_command(*given, "-o", tmp_path / "report")
        assert (status, line.startswith("error: hf:x: "), words in line) == (expected, True, True), line
    assert not (tmp_path / "report").exists()


def test_a_configuration_of_another_program_is_not_searched_for_our_settings(tmp_path):
    run = make_run("mine", "mine", config={"data": "librispeech", "choices": ["a"]})
    make_evaluation({"mel_distance": [1.0]}, run=run).write_json(tmp_path / "mine.json")
    status, out, _ = run_command(tmp_path / "mine.json", "-o", tmp_path / "report")
    assert (status, methods_in(out)) == (0, ["mine"])


@pytest.mark.parametrize("codebooks", ["2,x", "", "0,2"])
def test_numbers_of_codebooks_that_are_none_are_one_line(tmp_path, codebooks):
    status, out, (line,) = run_command(tmp_path, "-o", tmp_path / "report", "--codebooks", codebooks)
    assert (status, out) == (2, "")
    assert "--codebooks" in line
    assert "whole numbers" in line
