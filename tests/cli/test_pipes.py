"""`-`, and names that are impossible or mean something else: each mistake is one line, and none a traceback."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from discrete_ae.build import load
from discrete_ae.cli import decode as decode_module
from discrete_ae.cli.decode import Format, write_audio
from discrete_ae.cli.files import Job, plan, refuse_other_suffix
from discrete_ae.cli.pipes import is_dash, piped
from discrete_ae.codes import read_daec_header
from discrete_ae.errors import DataError, UsageError

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = ["-c", str(GOLDEN / "bundle_v1"), "--device", "cpu"]
MAIN = [sys.executable, "-m", "discrete_ae.cli.main"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, num_samples=8000, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, num_samples), rate)
    return path


def run(*arguments, **given):
    return subprocess.run([*MAIN, *map(str, arguments)], stderr=subprocess.PIPE, text=True, check=False, **given)


def run_here(capfd, *arguments):
    """Exit status and stderr of the command in this process, which is quicker."""
    from discrete_ae.cli import main

    with pytest.raises(SystemExit) as ended:
        main.main(list(map(str, arguments)))
    return ended.value.code or 0, capfd.readouterr().err


def test_only_a_lone_dash_is_a_standard_stream(here):
    assert [is_dash(path) for path in ("-", Path("-"), "./-", "a", "")] == [True, True, False, False, False]
    with piped(["./-", "x.wav"], "./-", ".npz") as (inputs, out):
        assert (inputs, out) == ([Path("./-"), Path("x.wav")], Path("./-"))


def test_codes_in_a_file_named_dash(here, capfd):
    (here / "-").write_bytes((GOLDEN / "codes_v1.npz").read_bytes())
    status, err = run_here(capfd, "decode", "./-", "-o", "y.wav", *MODEL)
    assert status == 1
    assert err.startswith("error: -: codes of another model")  # so it was the file that was read


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_standard_output_that_is_full(here):
    write(here / "x.wav")
    with Path("/dev/full").open("wb") as full:
        done = run("encode", "x.wav", "-o", "-", *MODEL, stdout=full)
    expected = "error: -o -: standard output cannot be written (No space left on device); give another output"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, expected)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_a_reader_that_stops_is_no_error_to_speak_of(here):
    write(here / "x.wav")
    reading, writing = os.pipe()
    os.close(reading)
    done = run("encode", "x.wav", "-o", "-", *MODEL, stdout=writing)
    os.close(writing)
    (summary,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert summary.startswith("1 file encoded, 0 failed")


@pytest.mark.slow
def test_standard_input_for_which_there_is_no_room(here):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    with write(here / "x.wav").open("rb") as recording:
        done = run("encode", "-", "-o", "x.npz", *MODEL, stdin=recording, preexec_fn=limit)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: -: standard input cannot be copied to ")
    assert line.endswith("(File too large); make room there, set TMPDIR to another folder, or give a file")


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "n" * 300, "-o", "x.npz", *MODEL],
        ["encode", "n" * 300, "-o", "-", *MODEL],
        ["encode", "x.wav", "-o", "x.npz", "-c", "n" * 300],
        ["decode", "n" * 300, "-o", "x.wav", *MODEL],
        ["decode", "n" * 300, "-o", "-", *MODEL],
        ["info", "n" * 300],
        ["info", "n" * 300 + "=1"],
    ],
)
def test_impossible_names_are_one_line(here, capfd, arguments):
    from discrete_ae.cli import main

    write(here / "x.wav")
    with pytest.raises(SystemExit) as ended:
        main.main(arguments)
    (line,) = capfd.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert line.startswith("error: " + "n" * 300)
    assert "cannot be read (File name too long)" in line


@pytest.mark.slow
def test_a_pipe_in_a_folder_does_not_stop_the_others(here):
    write(here / "in/x.wav")
    os.mkfifo(here / "in/pipe.wav")
    done = run("encode", "in", "-o", "codes", *MODEL, stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert "error: in/pipe.wav: a pipe or device, expected a file; give -" in done.stderr
    assert (here / "codes/x.npz").is_file()


def test_folders_that_cannot_be_read_are_failures_of_encode(here, monkeypatch):
    write(here / "in/x.wav")
    (here / "in/closed").mkdir()
    (here / "shut").mkdir()
    scandir = os.scandir

    def refusing(path):  # permissions would not stop root
        if os.fspath(path).endswith(("closed", "shut")):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    planned = plan([Path("in"), Path("shut")], Path("out"), [".wav"], ".npz")
    assert planned.jobs == [Job(Path("in/x.wav"), Path("out/in/x.npz"))]
    assert [str(problem) for problem in planned.problems] == [
        f"{folder}: cannot be read (Permission denied); see to its permissions" for folder in ("in/closed", "shut")
    ]


def test_files_of_other_kinds_do_not_become_folders(here, capfd):
    for out in ("z.ogg", "z.MP3", "z.npz", "new/z.daec"):
        with pytest.raises(UsageError, match=rf"-o {out}: decode writes .wav or .flac; give one of these, or a folder"):
            refuse_other_suffix(Path(out), "decode", [".wav", ".flac"])
    with pytest.raises(
        UsageError, match=r"-o g\.mp3: encode writes \.npz, \.npy or \.daec; give one of these, or a folder"
    ):
        refuse_other_suffix(Path("g.mp3"), "encode", [".npz", ".npy", ".daec"])
    (here / "corpus.ogg").mkdir()
    for out in ("corpus.ogg", "z.wav", "folder", "version1.2", "-"):
        refuse_other_suffix(Path(out), "decode", [".wav", ".flac"])
    status, _ = run_here(capfd, "decode", "g.npz", "-o", "z.ogg", *MODEL)
    assert (status, sorted(here.iterdir())) == (2, [here / "corpus.ogg"])


def test_long_wav_files_have_lengths_of_64_bits(here, monkeypatch):
    block = np.array([[0.5, -0.5]], np.float32)
    monkeypatch.setattr(decode_module, "MAX_WAV_BYTES", 44 + 4)  # two samples of 16 bits
    write_audio(here / "a.wav", [block], 8000, 1, 2, Format.WAV)
    write_audio(here / "b.wav", [block, block[:, :1]], 8000, 1, 3, Format.WAV)
    write_audio(here / "c.flac", [block, block[:, :1]], 8000, 1, 3, Format.FLAC)
    assert [soundfile.info(path).format for path in ("a.wav", "b.wav", "c.flac")] == ["WAV", "RF64", "FLAC"]
    samples, _ = soundfile.read("b.wav", dtype="int16")
    assert samples.tolist() == [16384, -16384, 16384]


def test_durations_need_no_entropy_decoding(here, monkeypatch):
    model = load(GOLDEN / "bundle_v1")
    path = GOLDEN / "codes_context_v1.daec"
    monkeypatch.setattr(decode_module, "_read", None)
    assert decode_module._duration_s(model, path) == read_daec_header(path).duration_s > 0
    with pytest.raises(DataError, match="no such file"):
        decode_module._duration_s(model, here / "none.daec")


def test_sample_rates_of_codes_that_would_take_all_memory(here, capfd):
    with np.load(GOLDEN / "codes_v1.npz") as golden:
        np.savez(here / "x.npz", **(dict(golden) | {"sample_rate": 2**31 - 1, "num_samples": 2**40}))
    status, err = run_here(capfd, "decode", "x.npz", "-o", "out", *MODEL)
    assert status == 1
    assert "sample_rate: expected whole Hz from 100 to 768000, got 2147483647" in err


@pytest.mark.parametrize("rate", [8000.5, 2**40, 2**70, True, 99])
def test_sample_rates_of_bundles_that_no_model_has(here, rate):
    (here / "bundle").mkdir()
    for part in (GOLDEN / "bundle_v1").iterdir():
        (here / "bundle" / part.name).write_bytes(part.read_bytes())
    config = json.loads((here / "bundle/config.json").read_text())
    config["model"]["sample_rate"] = rate
    (here / "bundle/config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="sample_rate: expected whole Hz from 100 to 768000, got "):
        load(here / "bundle")
