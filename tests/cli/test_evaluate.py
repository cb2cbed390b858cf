"""`discrete-ae evaluate` from the command line to the table and the files that it leaves."""

import csv
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import soundfile

from discrete_ae.evaluation import scores
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.scores import OVERALL, QUANTITIES, SCORES

FAST = ("--metrics", "mel_distance,si_sdr_db")


@pytest.fixture
def command(command, ste_run):
    """Run `discrete-ae` on the CPU; its exit status, stdout and the lines of its stderr."""

    def run(*arguments, checkpoint=ste_run / "checkpoints/last.ckpt"):
        status, out, err = command(*arguments, "-c", checkpoint, "--device", "cpu")
        return status, "\n".join([*out, ""]), err

    return run


def test_table_and_files_say_the_same(command, recordings, tmp_path):
    status, out, err = command("evaluate", recordings, "-o", tmp_path / "out", *FAST)
    assert (status, err) == (0, [])
    evaluation = Evaluation.read_json(tmp_path / "out/evaluation.json")
    with (tmp_path / "out/evaluation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [f"clip_{i}.wav" for i in range(6)]
    cells = {row[0]: row[1:] for line in out.splitlines() if (row := [cell.strip() for cell in line.split("│")[1:-1]])}
    for name, digits in (("mel_distance", 3), ("si_sdr_db", 2), ("bitrate_bps", 0)):
        assert [float(row[name]) for row in rows] == [file.scores[name] for file in evaluation.files]
        mean, low, high = (f"{value:,.{digits}f}" for value in evaluation.means()[name])
        assert cells[QUANTITIES[name].label][:3] == [mean, f"{low} to {high}", "6"]
    for quantity in OVERALL:
        assert cells[quantity.label][0] == quantity.shown(evaluation.overall[quantity.name])
    assert evaluation.title in out
    assert all(f"\n{quantity.label}: {quantity.meaning}\n" in out for quantity in OVERALL)
    assert "95 % interval: of this mean" in out


@pytest.mark.parametrize("there", ["x.json", "out/evaluation.csv", "pairs/decoded.scp"])
def test_what_is_there_is_refused_before_the_work(command, tmp_path, recordings, there):
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("precious")
    first = there.split("/")[0]
    option = ("--save-audio" if first == "pairs" else "-o", tmp_path / first)
    # Neither checkpoint nor data is looked at.
    status, _, (line,) = command("evaluate", "none", *option, checkpoint="none.ckpt")
    assert status == 1
    assert f"{tmp_path / there}: already exists; use --force" in line
    assert (tmp_path / there).read_text() == "precious"
    if there == "x.json":
        assert command("evaluate", recordings / "clip_0.wav", *option, "-f", *FAST)[0] == 0
        assert Evaluation.read_json(tmp_path / there).files


def test_damaged_recordings_are_named_and_the_others_done(command, recordings, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/damaged.wav").write_bytes(b"RIFF and nothing else")
    (tmp_path / "in/good.wav").write_bytes((recordings / "clip_0.wav").read_bytes())
    soundfile.write(tmp_path / "in/silent.wav", np.zeros(8000), 16000)
    status, out, err = command("evaluate", tmp_path / "in", "none:x.wav", "-o", tmp_path / "x", *FAST)
    assert status == 1
    assert [line.split(": ")[:2] for line in err] == [["error", "none:x.wav"], ["error", f"{tmp_path}/in/damaged.wav"]]
    failures = Evaluation.read_json(tmp_path / "x/evaluation.json").failures
    assert [failure.path for failure in failures] == ["none:x.wav", "in/damaged.wav"]
    assert "2 recordings" in out
    rows = (tmp_path / "x/evaluation.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["path", "in/good.wav", "in/silent.wav"]
    assert rows[2].split(",")[3] == ""  # no SI-SDR of silence


def test_mistakes_are_one_line(command, recordings, tmp_path):
    (tmp_path / "file").write_text("")
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(b"RIFF and nothing else")
    for arguments, expected, words in (
        ((recordings, "--metrics", "mel"), 2, "expected all, or some of mel_distance"),
        ((recordings, "--clips", 3), 2, "--clips 3: clips are written beside a .json file; give one"),
        ((recordings, "--clips", 3, "-o", tmp_path / "x.csv"), 2, "--clips 3"),
        ((recordings, "--codebooks", 1), 2, "--codebooks: expected all 2 together, got 1; leave it out"),
        ((recordings, "-o", tmp_path / "x.wav"), 2, "evaluate writes .json or .csv"),
        ((recordings, "-o", tmp_path / "file"), 1, "expected a folder"),
        ((recordings, "--segment-seconds", "inf"), 2, "segment_seconds: expected"),
        ((tmp_path / "none",), 1, "no such file or folder"),
        ((damaged, *FAST), 1, "no recording could be evaluated; reason for the first"),
    ):
        status, _, err = command("evaluate", *arguments)
        assert (status, len(err)) == (expected, 1), err
        assert words in err[0]


def test_absent_packages_are_one_line_and_a_dash(command, recordings, monkeypatch, tmp_path):
    def version(package):
        if package != "torch":
            raise PackageNotFoundError(package)
        return "1"

    monkeypatch.setattr(scores, "version", version)
    status, out, err = command("evaluate", recordings / "clip_0.wav", "-o", tmp_path / "x.json")
    packaged = [score for score in SCORES.values() if score.packages and score.by_default]
    assert (status, len(err)) == (0, 1)
    assert all(score.label in err[0] for score in packaged)
    rows = [line for line in out.splitlines() if any(score.label in line for score in packaged)]
    assert [row.split("│")[2].strip() for row in rows] == ["-"] * len(packaged)
    own = {score.name for score in SCORES.values() if not score.packages}
    assert set(Evaluation.read_json(tmp_path / "x.json").files[0].scores) == {*own, "bitrate_bps"}
