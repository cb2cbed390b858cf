"""`discrete-ae evaluate` from the command line to the table and the files that it leaves."""

import csv
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import soundfile

from discrete_ae.cli import main
from discrete_ae.evaluation import scores
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.scores import SCORES
from discrete_ae.evaluation.scoring import SignalScores

FAST = ("--metrics", "mel_distance,si_sdr_db")


@pytest.fixture
def command(capfd, ste_run):
    """Run `discrete-ae` on the CPU; its exit status, stdout and the lines of its stderr."""

    def run(*arguments, checkpoint=ste_run / "checkpoints/last.ckpt"):
        with pytest.raises(SystemExit) as ended:
            main.main([*map(str, arguments), "-c", str(checkpoint), "--device", "cpu"])
        out, err = capfd.readouterr()
        # Training in this process, as in the fixtures, leaves its logging on.
        return ended.value.code or 0, out, [line for line in err.splitlines() if not line.startswith("INFO:")]

    return run


def test_table_and_files_say_the_same(command, recordings, tmp_path):
    status, out, err = command("evaluate", recordings, "-o", tmp_path / "out", *FAST)
    assert (status, err) == (0, [])
    evaluation = Evaluation.read_json(tmp_path / "out/evaluation.json")
    with (tmp_path / "out/evaluation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [f"clip_{i}.wav" for i in range(6)]
    for name, digits in (("mel_distance", 3), ("si_sdr_db", 2), ("bitrate_bps", 0)):
        values = [float(row[name]) for row in rows]
        assert values == [file.scores[name] for file in evaluation.files]
        low, high = evaluation.means()[name][1:]
        row = next(line for line in out.splitlines() if f"{np.mean(values):,.{digits}f}" in line)
        assert f"{low:,.{digits}f} to {high:,.{digits}f}" in row
        assert "│          6 │" in row
    assert "6 recordings, 6.0 s, compared at 16000 Hz, each channel alone" in out
    assert f"{evaluation.overall['parameters']:,}" in out


def test_what_is_there_is_refused_before_the_work(command, tmp_path, recordings):
    (tmp_path / "out").mkdir()
    for out in (tmp_path / "out/evaluation.csv", tmp_path / "x.json"):
        out.write_text("precious")
    for out in ("x.json", "out"):
        # Neither checkpoint nor data is looked at.
        status, _, (line,) = command("evaluate", "none", "-o", tmp_path / out, checkpoint="none.ckpt")
        assert status == 1
        assert "exists already; use --force to overwrite it" in line
    assert (tmp_path / "x.json").read_text() == "precious"
    assert command("evaluate", recordings / "clip_0.wav", "-o", tmp_path / "x.json", "-f", *FAST)[0] == 0
    assert Evaluation.read_json(tmp_path / "x.json").files


def test_damaged_recordings_are_named_and_the_others_done(command, recordings, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/damaged.wav").write_bytes(b"RIFF and nothing else")
    (tmp_path / "in/good.wav").write_bytes((recordings / "clip_0.wav").read_bytes())
    soundfile.write(tmp_path / "in/silent.wav", np.zeros(8000), 16000)
    status, out, err = command("evaluate", tmp_path / "in", "none", "-o", tmp_path / "x.csv", *FAST)
    assert status == 1
    assert err == [
        "error: none: no such file or folder; check the name",
        f"error: {tmp_path}/in/damaged.wav: not readable as audio; remove or replace it",
    ]
    assert "2 recordings" in out
    rows = (tmp_path / "x.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["path", "in/good.wav", "in/silent.wav"]
    assert rows[2].split(",")[3] == ""  # no SI-SDR of silence


def test_mistakes_are_one_line(command, recordings, tmp_path):
    (tmp_path / "file").write_text("")
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(b"RIFF and nothing else")
    for arguments, expected, words in (
        ((recordings, "--metrics", "mel"), 2, "expected all, or some of mel_distance"),
        ((recordings, "--codebooks", 1), 2, "--codebooks: expected 2, since only a residual"),
        ((recordings, "-o", tmp_path / "x.wav"), 2, "evaluate writes .json or .csv"),
        ((recordings, "-o", tmp_path / "file"), 1, "not a folder"),
        ((recordings, "--segment-seconds", "inf"), 2, "segment_seconds: expected"),
        ((tmp_path / "none",), 1, "no such file or folder"),
    ):
        status, _, err = command("evaluate", *arguments)
        assert len(err) == 1, err
        assert words in err[0]
        assert status == expected, err
    status, _, err = command("evaluate", damaged, *FAST)
    assert status == 1
    assert len(err) == 1
    assert "not one recording could be evaluated; of the first" in err[0]
    assert "not readable as audio" in err[0]
    status, _, (line,) = command("evaluate", recordings, checkpoint=tmp_path / "none.ckpt")
    assert status == 1
    assert "no such checkpoint" in line


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
    (row,) = [line for line in out.splitlines() if "ViSQOL" in line]
    assert row.split("│")[2].strip() == "-"
    own = {score.name for score in SCORES.values() if not score.packages}
    assert set(Evaluation.read_json(tmp_path / "x.json").files[0].scores) == {*own, "bitrate_bps"}
    status, _, (line,) = command("evaluate", recordings, "--metrics", "pesq")
    assert status == 2
    assert line.endswith("pip install 'discrete-ae[quality]'")


def test_saved_audio_is_what_was_compared_under_names_of_its_own(command, recordings, tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    clip = (recordings / "clip_0.wav").read_bytes()
    for name in ("a/x y.wav", "a_x_y.wav", "A_x_y.wav", "b.v2.wav"):
        (tmp_path / "in" / name).write_bytes(clip)
    (tmp_path / "in/damaged.wav").write_bytes(clip[:100])
    out = tmp_path / "pairs"
    arguments = (tmp_path / "in", "-o", tmp_path / "x.json", "--save-audio", out, "--segment-seconds", 1, *FAST)
    assert command("evaluate", *arguments)[0] == 1
    lists = {}
    for kind in ("reference", "decoded"):
        lines = (out / f"{kind}.scp").read_text().splitlines()
        assert lines == sorted(lines)
        lists[kind] = dict(line.split(maxsplit=1) for line in lines)  # as VERSA and Kaldi read it
        assert {str(path) for path in (out / kind).iterdir()} == set(lists[kind].values())
    assert set(lists["reference"]) == set(lists["decoded"]) == {"A_x_y", "a_x_y-2", "a_x_y-3", "b.v2"}
    evaluation = Evaluation.read_json(tmp_path / "x.json")
    original, _ = soundfile.read(recordings / "clip_0.wav", dtype="float32")
    for name in lists["reference"]:
        reference, decoded = (soundfile.read(lists[kind][name], dtype="float32") for kind in lists)
        assert reference[1] == decoded[1] == evaluation.sample_rate
        assert np.abs(reference[0] - original).max() <= 2**-15
        score = SignalScores(evaluation.sample_rate, ["si_sdr_db"])(decoded[0][None], reference[0][None])
        # 16 bits are 90 dB below full scale, the codec's error a few.
        assert score["si_sdr_db"] == pytest.approx(evaluation.files[0].scores["si_sdr_db"], abs=0.01)


@pytest.mark.parametrize("there", ["reference", "decoded.scp"])
def test_saved_audio_overwrites_nothing_unless_told_to(command, recordings, tmp_path, there):
    (tmp_path / there).mkdir()
    arguments = ("evaluate", recordings / "clip_0.wav", "--save-audio", tmp_path, *FAST)
    status, _, (line,) = command(*arguments, checkpoint="none.ckpt")
    assert status == 1
    assert f"{tmp_path / there}: exists already; use --force to overwrite it" in line
    if there == "reference":
        assert command(*arguments, "--force")[0] == 0
        assert sorted(path.name for path in (tmp_path / "reference").iterdir()) == ["clip_0.wav"]


@pytest.mark.slow
def test_all_scores_of_speech(command, tmp_path):
    from discrete_ae.data.files import recordings_root

    speech = recordings_root() / "validation/speech_ru_0473.flac"
    status, out, err = command("evaluate", speech, "-o", tmp_path / "x.json", "--jobs", 1, "--metrics", "all")
    if scores.choose(["all"]).missing:
        pytest.skip("pip install 'discrete-ae[quality]'")
    assert (status, err) == (0, [])
    evaluation = Evaluation.read_json(tmp_path / "x.json")
    assert set(SCORES) <= set(evaluation.versions)
    assert all(evaluation.files[0].scores[name] is not None for name in SCORES)
    assert "1 recording, " in out
