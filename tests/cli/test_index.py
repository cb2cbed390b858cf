"""`discrete-ae index` from the command line to the manifest."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import yaml

from discrete_ae.build import validation_recordings
from discrete_ae.data import read_manifest
from discrete_ae.data.files import probe
from tests.recordings import write_noise
from tests.runs import SMALL

RATE = 16000


def lines(path: Path) -> dict[str, dict]:
    return {line["path"]: line for line in map(json.loads, path.read_text().splitlines())}


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    for k in range(3):
        write_noise(tmp_path / f"audio/{k}.wav", 4000 + k)
    return tmp_path / "audio"


def test_a_folder_becomes_a_manifest_of_its_recordings(command, audio):
    out = audio / "train.jsonl"
    assert command("index", audio, "-o", out) == (0, [f"{out}: 3 recordings, 0.00 h"], [])
    expected = {"path": "1.wav", "duration": 4001 / RATE, "sample_rate": RATE, "channels": 1}
    assert lines(out)["1.wav"] == {**expected, "num_bytes": (audio / "1.wav").stat().st_size}
    assert read_manifest(out) == [probe(audio / f"{k}.wav") for k in range(3)]
    before = out.read_bytes()
    status, _, errors = command("index", audio, "-o", out)
    assert (status, errors) == (
        1,
        [f"error: {out}: already exists; use --force to overwrite it"],
    )
    assert out.read_bytes() == before
    assert command("index", audio / "0.wav", "-o", out, "--force")[0] == 0
    assert list(lines(out)) == ["0.wav"]


def test_shards_become_a_manifest_of_their_recordings(command, audio, tmp_path):
    out, shards = tmp_path / "m.jsonl", tmp_path / "shards"
    assert command("shards", audio, "-o", shards, "--size=20KB")[0] == 0
    tars = sorted(shards.iterdir())
    assert len(tars) > 1
    assert command("index", *tars, "-o", out) == (0, [f"{out}: 3 recordings, 0.00 h"], [])
    assert [file.member for file in read_manifest(out)] == ["0.wav", "1.wav", "2.wav"]
    assert command("index", shards, out, f"{shards}/*.tar", "-o", tmp_path / "again.jsonl", "--measure")[0] == 0
    assert [(file.name, file.num_frames) for file in read_manifest(tmp_path / "again.jsonl")] == [
        (file.name, file.num_frames) for file in read_manifest(out) for _ in range(3)
    ]
    assert read_manifest(tmp_path / "again.jsonl")[0].known["bandwidth_hz"] == RATE / 2


def test_what_is_recognized_is_said_and_written(command, tmp_path):
    """A data set, beside recordings of none; `tests/data/test_layouts.py` has each of the data sets."""
    for name in ("train-clean-100/10/1/10-1-0000", "train-clean-100/11/2/11-2-0000", "dev-clean/20/3/20-3-0000", "own"):
        write_noise(tmp_path / f"LibriSpeech/{name}.flac")
    out, unknown = tmp_path / "m.jsonl", "LibriSpeech/own.flac"
    status, said, _ = command("index", tmp_path / "LibriSpeech", "-o", out, "--measure")
    summary = f"{tmp_path}/LibriSpeech: LibriSpeech, 3 speakers; train 2, validation 1 recordings"
    assert (status, said) == (0, [summary, f"{out}: 4 recordings, 0.00 h"])
    found = lines(out)
    assert "speaker" not in found.pop(unknown)
    told = {(line["split"], line["speaker"], "loudness_lufs" in line) for line in found.values()}
    assert told == {("train", "10", True), ("train", "11", True), ("validation", "20", True)}


def test_bad_recordings_are_named(command, audio, tmp_path):
    out = tmp_path / "m.jsonl"
    (audio / "0.wav").write_bytes((audio / "0.wav").read_bytes()[:-3000])
    (audio / "bad.wav").write_text("no audio")
    status, said, errors = command("index", audio, "-o", out)
    assert status == 1
    assert errors[0].startswith(f"error: {audio}/bad.wav: not readable as audio; ")
    assert errors[1].startswith(f"warning: {audio}/0.wav: its header says 8000 bytes of samples, the file holds 5000")
    assert len(errors) == 2
    assert said == [f"{out}: 3 recordings, 0.00 h; 1 cannot be used and are left out"]
    assert lines(out)["audio/0.wav"]["duration"] == 2500 / RATE
    (audio / "only").mkdir()
    (audio / "only/x.wav").write_text("no audio")
    status, _, errors = command("index", audio / "only", "-o", tmp_path / "n.jsonl")
    assert (status, len(errors)) == (1, 2)
    assert not (tmp_path / "n.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("none", "-o", "x.jsonl"), 1, "none: no such file or folder"),
        ((".", "-o", "x.json"), 2, "-o x.json: index writes .jsonl"),
        ((".",), 2, "-o"),
        ((".", "-o", "x.jsonl"), 1, "no audio files"),
    ],
)
def test_bad_usage(command, tmp_path, monkeypatch, arguments, status, said):
    monkeypatch.chdir(tmp_path)
    found, _, errors = command("index", *arguments)
    assert found == status
    assert said in errors[-1]
    assert not list(tmp_path.glob("*.json*"))


def test_measures(command, tmp_path):
    time = np.arange(5 * RATE) / RATE
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, len(time))
    sine = 0.5 * np.sin(2 * np.pi * 1000 * time)
    half_silent = sine * (time < 2.5)
    clipped = np.clip(4 * sine, -1, 1)
    made = {
        "noise": noise,
        "upsampled": soxr.resample(noise[: len(time) // 2], RATE // 2, RATE),
        "sine": sine,
        "offset": sine / 1000 + 0.9,  # the sine is more than 60 dB below
        "half": half_silent,
        "clipped": clipped,
        "silent": 0 * time,
        "short": noise[:100],
    }
    for name, audio in made.items():
        soundfile.write(tmp_path / f"{name}.wav", np.stack([audio, audio], 1), RATE, subtype="FLOAT")
    out = tmp_path / "m.jsonl"
    status, _, errors = command("index", tmp_path, "-o", out, "--measure")
    assert (status, len(errors)) == (0, 1)
    assert errors[0].startswith(f"warning: {tmp_path}/silent.wav: silent")
    found = {name.removesuffix(".wav"): line for name, line in lines(out).items()}
    bandwidths = {name: line["bandwidth_hz"] for name, line in found.items()}
    assert bandwidths["noise"] == RATE / 2
    assert bandwidths["upsampled"] == pytest.approx(RATE / 4, rel=0.05)
    assert bandwidths["sine"] == pytest.approx(1000, abs=60)  # the window's leakage is 60 dB down within some bins
    assert bandwidths["offset"] == pytest.approx(1000, abs=60)
    assert bandwidths["silent"] == 0
    # A full-scale sine of 997 Hz is at -3.01 LUFS by the standard, and twice that in two channels, 0; here 6 dB lower.
    assert found["sine"]["loudness_lufs"] == pytest.approx(-6.02, abs=0.1)
    assert "loudness_lufs" in found["silent"]
    assert found["silent"]["loudness_lufs"] is None
    shares = {name: (line["clipping"], line["silence"]) for name, line in found.items()}
    assert shares["half"] == (0, 0.5)
    assert shares["silent"] == (0, 1)
    assert shares["sine"] == (0, 0)
    assert shares["clipped"] == (10 / 16, 0)  # 2 sin(2 pi k / 16) is above 1 for k from 2 to 6, and below -1 as often
    assert read_manifest(out)[0].known.keys() == {"bandwidth_hz", "loudness_lufs", "clipping", "silence"}


def test_a_wrong_manifest_ends_a_training_before_its_run(command, audio, tmp_path):
    path, good = tmp_path / "m.jsonl", tmp_path / "good.jsonl"
    good.write_text(json.dumps({"path": "audio/0.wav"}) + "\n")
    path.write_text(good.read_text() + json.dumps({"path": "audio/none.wav"}) + "\n")
    given = [*SMALL, f"data.manifest=[{good},{path}]", f"hydra.run.dir={tmp_path / 'run'}"]
    status, _, errors = command("train", *given)
    assert (status, errors) == (1, [f"error: {path}:2: path: no such file, {audio}/none.wav"])
    status, _, errors = command("train", *given, f"data.root={audio}")
    assert (status, len(errors)) == (2, 1)
    assert "data.manifest: expected null beside data.root" in errors[0]
    assert not (tmp_path / "run").exists()


def test_training_takes_manifests(run_training, recordings, tmp_path):
    names = sorted(path.name for path in recordings.iterdir())
    for name, taken in (("a", names[:3]), ("b", names[3:])):
        lines = [
            json.dumps({"path": str(recordings / one), "split": "dev" if one == names[0] else "train"}) for one in taken
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    manifests = f"data.manifest=[{tmp_path}/a.jsonl,{tmp_path}/b.jsonl]"
    run = run_training("data.root=null", manifests, "trainer.max_steps=1")
    assert (run / "checkpoints/last.ckpt").exists()
    root, held_out = validation_recordings(yaml.safe_load((run / "config.yaml").read_text())["data"])
    assert (root, [path.name for path in held_out]) == (recordings, names[:1])
