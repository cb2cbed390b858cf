"""`discrete-ae encode` and `decode` from the command line to the files they leave; each mistake is one line."""

import io
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import discrete_ae
from discrete_ae.cli.files import is_dash, piped, refuse_other_suffix
from discrete_ae.cli.options import load_model
from discrete_ae.codec import Codec
from discrete_ae.codes import read_codes, read_npy
from discrete_ae.errors import UsageError
from tests.models import RESIDUAL, save_checkpoint
from tests.processes import COMMAND, Process
from tests.recordings import write_noise


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.ckpt")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """An empty current folder, so that messages hold short paths."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def code(command, checkpoint):
    """Run `discrete-ae encode` or `decode` with a model on the CPU."""

    def run(*arguments, model=checkpoint):
        return command(*arguments, "-c", model, "--device", "cpu")

    return run


def plain(out):
    """A summary without what depends on the machine, or on the format."""
    return [re.sub(r" at [0-9.e+]+ x real time|, files [0-9.]+ kbps with their headers", "", line) for line in out]


def files(folder="."):
    """Everything below a folder, temporary files too, but the manifest of codes."""
    found = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != "manifest.jsonl")
    return sorted(path.relative_to(folder).as_posix() for path in found)


def test_tree_there_and_back(code):
    expected = {"a/x.wav": (44100, 2, 3001), "a/b/y.flac": (8000, 1, 1), "z.wav": (16000, 1, 16000)}
    for name, (rate, channels, num_samples) in expected.items():
        write_noise(name, num_samples, rate, channels)
    Path("a/notes.txt").write_text("no audio, not touched")

    status, out, err = code("encode", "a", "z.wav", "-o", "codes")
    # A frame of 20 ms has 8 codes of 8 bits. There are 4 frames of two channels in 3001/44100 = 0.06805 s, 1 frame in
    # 0.000125 s, and 50 frames in 1 s: 59 * 64 bits in 1.068175 s are 3.54 kbps, in 1.13622 s of single channels 3.32.
    said = "3 files encoded, 0 failed: 1.1 s of audio; codes 3.54 kbps (3.32 kbps for each channel, coded separately)"
    assert (status, plain(out), err) == (0, [said], [])
    assert files("codes") == ["a/b/y.npz", "a/x.npz", "z.npz"]

    status, out, err = code("decode", "codes/a", "codes/z.npz", "-o", "decoded")
    assert (status, plain(out), err) == (0, [said.replace("encoded", "decoded")], [])
    assert files("decoded") == ["a/b/y.wav", "a/x.wav", "z.wav"]
    for name, properties in expected.items():
        info = soundfile.info(Path("decoded", name).with_suffix(".wav"))
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (*properties, "PCM_16")


@pytest.mark.parametrize("form", ["npy", "daec"])
def test_every_format_holds_the_codes_and_decodes(code, command, ste_run, form):
    checkpoint = ste_run / "checkpoints/last.ckpt"  # which has an entropy model
    model = discrete_ae.load(checkpoint)
    expected = Codec(model).encode_file(write_noise("x.wav", 30_001, 22050, 2)).codes
    path = Path(f"y.{form}")
    _, out, _ = code("encode", "x.wav", "-o", path, model=checkpoint)
    found = read_npy(path) if form == "npy" else read_codes(path, model.entropy_model).codes
    assert np.array_equal(found, expected)
    # 30,001 samples at 22050 Hz become 21,770 at 16000 Hz: 69 frames of two channels, with two codes of 8 bits.
    kbps = f"{2 * 69 * 2 * 8 / (30_001 / 22050) / 1000:.2f} kbps"
    assert f"codes {kbps} (" in out[0]
    assert form == "npy" or any(kbps in line for line in command("info", path)[1])
    assert f"files {8 * path.stat().st_size / (30_001 / 22050) / 1000:.2f} kbps with their headers" in out[0]
    assert code("decode", path, "-o", "y.flac", model=checkpoint)[0] == 0
    info = soundfile.info("y.flac")
    # bare codes know neither the rate nor the length
    length = (16000, 2, expected.shape[-1] * 320) if form == "npy" else (22050, 2, 30_001)
    assert (info.format, info.samplerate, info.channels, info.frames) == ("FLAC", *length)


def test_fewer_codebooks_of_a_residual_model_are_the_first_ones(code):
    model = save_checkpoint(Path("best.ckpt"), quantizer=RESIDUAL)
    write_noise("a.wav", 16000)
    for count, kbps in ((3, "0.60"), (4, "0.80")):  # 4 bits a codebook, 50 frames a second
        _, out, _ = code("encode", "a.wav", "-o", f"{count}.npz", "--codebooks", count, model=model)
        assert plain(out) == [f"1 file encoded, 0 failed: 1.0 s of audio; codes {kbps} kbps"]
    assert code("decode", "3.npz", "-o", "3.wav", model=model)[0] == 0
    whole, first = read_codes("4.npz"), read_codes("3.npz")
    assert np.array_equal(first.codes, whole.codes[:, :3])
    assert first.codebook_sizes == (16,) * 3


def test_scalar_model_trained_with_dropout_decodes_from_its_first_codebooks(code, command, run_training):
    short = ("trainer.max_steps=1", "trainer.val_check_interval=1")
    checkpoint = run_training("quantizer=ste", "quantizer.dropout=0.5", *short) / "checkpoints/last.ckpt"
    write_noise("a.wav", 16000)
    for count, kbps in ((1, "0.40"), (2, "0.80")):  # 8 bits a codebook, 50 frames a second
        status, out, err = code("encode", "a.wav", "-o", f"{count}.daec", "--codebooks", count, model=checkpoint)
        assert (status, err) == (0, [])
        assert f"codes {kbps} kbps" in out[-1]  # the training has printed, too
        assert code("decode", f"{count}.daec", "-o", f"{count}.wav", model=checkpoint)[::2] == (0, [])
    entropy_model = discrete_ae.load(checkpoint).entropy_model
    whole, first = (read_codes(Path(f"{count}.daec"), entropy_model).codes for count in (2, 1))
    assert np.array_equal(first, whole[:, :1])
    assert Path("1.wav").read_bytes() != Path("2.wav").read_bytes()
    status, out, err = command("evaluate", "a.wav", "-c", checkpoint, "--codebooks", 1, "--metrics", "si_sdr_db")
    assert (status, err) == (0, [])
    assert any("nominal" in line and " 400 " in line for line in out)
    assert any("decodes from" in line and "the first 1 to 2" in line for line in command("info", checkpoint)[1])


def test_skip_existing_goes_on_where_it_stopped_and_force_overwrites(code):
    for name in "ab":
        write_noise(f"in/{name}.wav")
    code("encode", "in/b.wav", "-o", "codes")
    stamp = Path("codes/b.npz").stat().st_mtime_ns
    status, out, (line,) = code("encode", "in", "-o", "codes")
    assert (status, out) == (1, [])
    assert line.startswith("error: codes/b.npz: already exists")
    status, out, err = code("encode", "in", "-o", "codes", "--skip-existing")
    assert (status, err) == (0, [])
    assert out[0].startswith("1 file encoded, 0 failed, 1 there already")
    assert Path("codes/b.npz").stat().st_mtime_ns == stamp
    assert code("encode", "in", "-o", "codes", "--force")[0] == 0
    assert Path("codes/b.npz").stat().st_mtime_ns != stamp
    code("decode", "codes/a.npz", "-o", "decoded")
    status, out, _ = code("decode", "codes", "-o", "decoded", "--skip-existing")
    assert (status, out[0].split(":")[0]) == (0, "1 file decoded, 0 failed, 1 there already")


def test_bad_inputs_do_not_stop_the_others(code):
    write_noise("a/good.wav", 3200)  # 10 frames
    Path("a/bad.wav").write_text("no audio")
    os.mkfifo("a/pipe.wav")
    Path("empty").mkdir()
    status, out, err = code("encode", "a", "empty", "nowhere", "n" * 300, "-o", "codes")
    named = ["empty", "nowhere", "n" * 300, "a/bad.wav", "a/pipe.wav"]
    assert (status, [line.split(":")[1].strip() for line in err]) == (1, named)
    assert plain(out) == ["1 file encoded, 5 failed: 0.2 s of audio; codes 3.20 kbps"]
    assert files("codes") == ["a/good.npz"]

    Path("codes/a/cut.npz").write_bytes(Path("codes/a/good.npz").read_bytes()[:900])
    status, out, err = code("decode", "codes", "empty", "-o", "decoded")
    assert (status, [line.split(":")[1].strip() for line in err]) == (1, ["empty", "codes/a/cut.npz"])
    assert plain(out) == ["1 file decoded, 2 failed: 0.2 s of audio; codes 3.20 kbps"]
    assert files("decoded") == ["codes/a/good.wav"]


def test_codes_of_another_model_need_force(code):
    write_noise("x.wav", channels=9)
    code("encode", "x.wav", "-o", "codes")
    other = save_checkpoint(Path("other.ckpt"), seed=1)
    status, out, (line,) = code("decode", "codes/x.npz", "-o", "decoded", model=other)
    assert (status, out) == (1, ["0 files decoded, 1 failed"])
    assert line.startswith("error: codes/x.npz: codes of another model (")
    assert not Path("decoded").exists()
    Path("old.wav").touch()
    assert code("decode", "codes/x.npz", "-o", "old.wav", model=other) == (1, [], [line])
    assert "old.wav: already exists" in code("decode", "codes/x.npz", "-o", "old.wav")[2][0]
    status, _, err = code("decode", "codes/x.npz", "-o", "decoded", "--force", model=other)
    assert (status, err) == (0, ["warning: codes/x.npz: decoded codes of another model"])
    for name in "yz":
        Path(f"codes/{name}.npz").write_bytes(Path("codes/x.npz").read_bytes())
    write_noise("w.wav")
    status, _, (line,) = code("encode", "w.wav", "-o", "codes", model=other)
    assert (status, "codes/x.npz: codes of another model" in line) == (1, True)
    code("encode", "w.wav", "-o", "codes", "--force", model=other)
    status, out, (line,) = code("decode", "codes", "-o", "several", model=other)
    assert (status, out[0][:24], files("several")) == (1, "1 file decoded, 3 failed", ["w.wav"])
    assert line.startswith("error: 3 files, such as codes/x.npz: codes of another model (hash ")
    status, _, err = code("decode", "codes", "-o", "several", "--force", model=other)
    assert (status, err) == (0, ["warning: 3 files, such as codes/x.npz: decoded codes of another model"])
    status, _, (line,) = code("decode", "codes/x.npz", "-o", "y.flac")
    assert (status, "x.npz: 9 channels at 16000 Hz cannot be written as flac" in line) == (1, True)


def test_help_gives_a_pattern_of_what_the_command_reads(command):
    for name, pattern in (("encode", "corpus/**/*.wav"), ("decode", "codes/**/*.npz")):
        assert any(pattern in line for line in command(name, "--help")[1])


@pytest.mark.parametrize(
    ("arguments", "model", "status", "words"),
    [
        (["encode", "x.wav", "-o", "occupied/below"], ..., 1, "occupied/below: "),
        (["encode", "x.wav", "-o", "n" * 300], ..., 1, "n: File name too long"),
        (["encode", "x.wav", "-o", "y"], "occupied", 1, "occupied: "),
        (["encode", "x.wav", "-o", "y.npz", "--codebooks", "7"], ..., 2, "--codebooks"),
        (["encode", ".", "-o", "-"], ..., 2, "expected one input file"),
        (["decode", "x.npz", "-o", "z.mp3"], ..., 2, "decode writes .wav or .flac"),
        (["decode", "x.npz", "-o", "z.flac", "--format", "wav"], ..., 2, "to match -o z.flac"),
        (["encode", "x.wav", "-o", "y", "--force", "--skip-existing"], ..., 2, "give only one of them"),
        (["info", "n" * 300 + "=1"], None, 1, "n=1: cannot be read (File name too long)"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(command, code, checkpoint, arguments, model, status, words):
    write_noise("x.wav")
    Path("occupied").write_text("a regular file")
    given = checkpoint if model is ... else model
    found, out, (line,) = code(*arguments, model=given) if given else command(*arguments)
    assert (found, out) == (status, [])
    assert line.startswith("error: ")
    assert words in line
    assert files() == ["occupied", "x.wav"]


def test_suffixes_of_what_a_command_does_not_write_name_no_folders():
    Path("corpus.ogg").mkdir()
    for out in ("corpus.ogg", "z.wav", "folder", "version1.2", "-"):
        refuse_other_suffix(Path(out), "decode", [".wav", ".flac"])
    with pytest.raises(UsageError, match=r"-o new/z\.MP3: decode writes \.wav or \.flac"):
        refuse_other_suffix(Path("new/z.MP3"), "decode", [".wav", ".flac"])


def test_names_that_become_too_long_stop_no_other(code):
    # The longest name there is; beside its namesake it would have to keep its suffix, which makes it longer.
    for name in (f"{'n' * 251}.wav", f"{'n' * 250}.flac", f"{'n' * 250}.wav"):
        write_noise(f"a/{name}")
    status, _, err = code("encode", "a", "-o", "codes")
    assert (status, len(err)) == (1, 2)
    assert all("File name too long" in line for line in err)
    assert files("codes") == [f"{'n' * 251}.npz"]


def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("discrete_ae.build.load", lambda checkpoint, device="cpu", trust=(): device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_model(Path("x"), "auto") == "cpu"
    with pytest.raises(UsageError, match="no GPU"):
        load_model(Path("x"), "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert load_model(Path("x"), "cpu") == "cpu"
    assert load_model(Path("x"), "auto") == "cuda:0"
    for name in ("SLURM_LOCALID", "LOCAL_RANK"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "3")
            assert load_model(Path("x"), "auto") == "cuda:1"  # 3 modulo 2


def test_interrupt_leaves_nothing_half_written(code, monkeypatch):
    for name in ("x", "y"):
        write_noise(f"a/{name}.wav")
    replace = Path.replace

    def interrupted(temporary, target):
        assert temporary.stat().st_size > 0
        if target.name == "y.npz":
            raise KeyboardInterrupt
        return replace(temporary, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    status, _, (line,) = code("encode", "a", "-o", "codes")
    assert (status, files("codes")) == (130, ["x.npz"])
    assert line.startswith("warning: interrupted after 1 file encoded; ")


def test_full_disk_leaves_the_old_file(code, monkeypatch):
    write_noise("x.wav", 2_000_000)  # of 50 kB of codes
    code("encode", "x.wav", "-o", "x.npz")
    for name in ("out.wav", "out.npz"):
        Path(name).write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        decoded = code("decode", "x.npz", "-o", "out.wav", "--force")
        encoded = code("encode", "x.wav", "-o", "out.npz", "--force")
        with Path("x.wav").open() as recording:
            monkeypatch.setattr(sys, "stdin", recording)
            held = code("encode", "-", "-o", "y.npz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for (status, _, (line,)), said in (
        (decoded, r"error: (x\.npz: )?out\.wav: File too large; check the limit"),
        (encoded, r"error: out\.npz: File too large; check the limit"),
        (held, "error: .*standard input .*: File too large"),
    ):
        assert status == 1
        assert re.match(said, line)
    assert files() == ["out.npz", "out.wav", "x.npz", "x.wav"]
    for name in ("out.wav", "out.npz"):
        assert Path(name).read_bytes() == b"old"


# Encodes and decodes as one process, which says after each command the peak of memory since the one before.
ONE_AFTER_ANOTHER = """
import sys
from pathlib import Path
from discrete_ae.cli.main import main

for minutes in (1, 8):
    for files in (["encode", f"{minutes}.wav", f"-o{minutes}.npz"], ["decode", f"{minutes}.npz", f"-oof{minutes}.wav"]):
        Path("/proc/self/clear_refs").write_text("5")
        try:
            main([*files, *sys.argv[1:]])
        except SystemExit as ended:
            assert not ended.code
        print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(checkpoint):
    """Peak memory of the process for 1 and for 8 minutes of stereo: 8 minutes alone are 170 MB as float32."""
    minute = np.random.default_rng(0).uniform(-0.5, 0.5, (60 * 44100, 2))
    for minutes in (1, 8):
        with soundfile.SoundFile(f"{minutes}.wav", "w", 44100, 2, subtype="PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
    command = [sys.executable, "-c", ONE_AFTER_ANOTHER, "-c", str(checkpoint), "--device", "cpu", "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    encoded, decoded, encoded_8, decoded_8 = (int(kib) / 1024 for kib in re.findall(r"VmHWM:\s*(\d+)", done.stdout))
    assert max(encoded_8 - encoded, decoded_8 - decoded) < 60


def test_only_a_lone_dash_is_a_standard_stream():
    assert [is_dash(path) for path in ("-", Path("-"), "./-", "a", "")] == [True, True, False, False, False]
    with piped(["./-", "x.wav"], "./-", ".npz") as (inputs, out):
        assert (inputs, out) == ([Path("./-"), Path("x.wav")], Path("./-"))


def test_pipes_carry_recordings_and_codes(code, checkpoint, monkeypatch):
    path = write_noise("x.wav", 20_000, 44100)
    content = [path.read_bytes()]
    for command in ("encode", "decode"):
        stdout = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content[-1]))))
        monkeypatch.setattr(sys, "stdout", stdout)
        status, _, (line,) = code(command, "-", "-o", "-")
        assert (status, line.startswith(f"1 file {command}d, 0 failed")) == (0, True)
        content.append(stdout.buffer.getvalue())
    Path("x.npz").write_bytes(content[1])
    expected = Codec(discrete_ae.load(checkpoint)).encode_file(path)
    assert np.array_equal(read_codes("x.npz").codes, expected.codes)
    assert soundfile.info(io.BytesIO(content[2])).frames == 20_000


def test_closed_streams_are_said(code, monkeypatch):
    for name, arguments in (("stdin", ("-", "-o", "x.npz")), ("stdout", ("x.wav", "-o", "-"))):
        with monkeypatch.context() as closed:
            closed.setattr(sys, name, None)
            status, _, (line,) = code("encode", *arguments)
        assert (status, line.split(";")[0].endswith("is closed")) == (2, True)


def test_a_recording_of_another_length_than_it_says_is_named_or_refused(code):
    path = write_noise("x.wav", 20_000)
    path.write_bytes(path.read_bytes()[:20_044])
    said = "x.wav: its header says 40000 bytes of samples, the file holds 20000"
    assert code("encode", "x.wav", "-o", "out", "--strict")[::2] == (
        1,
        [f"error: {said}; save the file again, or run without strict"],
    )
    status, _, err = code("encode", "x.wav", "-o", "out")
    assert (status, err) == (0, [f"warning: {said}; reading all of it (0.6 s)"])
    assert read_codes("out/x.npz").num_samples == 10_000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_streams_that_cannot_be_written(checkpoint):
    write_noise("x.wav")
    reading, closed = os.pipe()
    os.close(reading)
    encode = ("encode", "x.wav", "-o", "-", "-c", checkpoint, "--device", "cpu")
    with Path("/dev/full").open("wb") as full, os.fdopen(closed, "wb") as unread:
        done = [Process(COMMAND, *encode, cwd=Path(), stdout=to) for to in (full, unread)]
        told = Process(COMMAND, "info", "x.wav", cwd=Path(), stdout=full)
    assert [process.wait() for process in (*done, told)] == [1, 1, 1]
    (line,) = told.err.splitlines()
    assert line.startswith("error: standard output: No space left on device")
    (line,) = done[0].err.splitlines()
    assert line.startswith("error: -o -: No space left on device")
    assert done[1].err == ""  # a reader that stops is no error to speak of


def test_train_gets_its_arguments_untouched(command, monkeypatch):
    from discrete_ae.cli import train

    given = []
    monkeypatch.setattr(train, "main", given.append)
    arguments = ["-m", "quantizer=ste,fourier", "--cfg", "job", "--help", "++a=[1, 2]", "-o", "~b", "--", "c=1"]
    assert command("train", *arguments)[0] == 0
    assert given == [arguments]
