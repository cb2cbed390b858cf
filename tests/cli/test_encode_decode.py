"""`discrete-ae encode` and `decode` from the command line to the files they leave; each mistake is one line."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import discrete_ae
from discrete_ae.cli import main
from discrete_ae.cli.files import is_dash, piped, refuse_other_suffix
from discrete_ae.codec import Codec
from discrete_ae.codes import read_codes, read_npy
from discrete_ae.errors import UsageError
from tests.models import RESIDUAL, save_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"
MAIN = [sys.executable, "-m", "discrete_ae.cli.main"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.ckpt")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, the current one, so that messages hold short paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capfd, checkpoint):
    """Run `discrete-ae` in this process; its exit status, the lines of its stdout and of its stderr."""

    def run(*arguments, model=checkpoint):
        given = [str(argument) for argument in arguments]
        if given[0] in ("encode", "decode") and model:
            given += ["-c", str(model), "--device", "cpu"]
        with pytest.raises(SystemExit) as ended:
            main.main(given)
        out, err = capfd.readouterr()
        return ended.value.code or 0, out.splitlines(), err.splitlines()

    return run


def write(path, num_samples=4000, rate=16000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(num_samples).uniform(-0.5, 0.5, (num_samples, channels))
    soundfile.write(path, noise, rate, subtype="PCM_16")
    return path


def plain(out):
    """A summary without what depends on the machine, or on the format."""
    return [re.sub(r" at [0-9.e+]+ x real time|, as files [0-9.]+ kbps", "", line) for line in out]


def files(folder):
    """Everything below a folder, temporary files too, but the manifest of codes."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.jsonl")
    return sorted(path.relative_to(folder).as_posix() for path in found)


# What is written ------------------------------------------------------------------------------------------------------


def test_tree_there_and_back(here, command):
    write(here / "a/x.wav", 3001, 44100, 2)
    write(here / "a/b/y.flac", 1, 8000)
    write(here / "z.wav", 16000, 16000)
    (here / "a/notes.txt").write_text("no audio, not touched")

    status, out, err = command("encode", "a", "z.wav", "-o", "codes")
    assert (status, err) == (0, [])
    # 8 codebooks of 256 entries at 50 frames a second are 3.2 kbps a channel. The durations: 3001/44100 = 0.068 s of
    # two channels, 0.000125 s, 1 s; so (0.068 * 6.4 + 1 * 3.2) / 1.068 = 3.40 kbps on the whole.
    assert plain(out) == ["3 files encoded, 0 failed: 1.1 s of audio; codes of all channels 3.40 kbps"]
    assert files(here / "codes") == ["a/b/y.npz", "a/x.npz", "z.npz"]

    status, out, err = command("decode", "codes/a", "codes/z.npz", "-o", "decoded")
    assert (status, err) == (0, [])
    assert plain(out) == ["3 files decoded, 0 failed: 1.1 s of audio; codes of all channels 3.40 kbps"]
    assert files(here / "decoded") == ["a/b/y.wav", "a/x.wav", "z.wav"]
    for name, expected in {"a/x.wav": (44100, 2, 3001), "a/b/y.wav": (8000, 1, 1), "z.wav": (16000, 1, 16000)}.items():
        info = soundfile.info(here / "decoded" / name)
        assert (info.samplerate, info.channels, info.frames) == expected
        assert info.subtype == "PCM_16"


@pytest.mark.parametrize("form", ["npy", "daec"])
def test_every_format_holds_the_codes_and_decodes(here, command, ste_run, form):
    checkpoint = ste_run / "checkpoints/last.ckpt"  # which has an entropy model
    model = discrete_ae.load(checkpoint)
    expected = Codec(model).encode_file(write(here / "x.wav", 30_001, 22050, 2)).codes
    _, out, _ = command("encode", "x.wav", "-o", f"y.{form}", model=checkpoint)
    path = here / f"y.{form}"
    found = read_npy(path) if form == "npy" else read_codes(path, model.entropy_model).codes
    assert np.array_equal(found, expected)
    assert f"as files {8 * path.stat().st_size / (30_001 / 22050) / 1000:.2f} kbps" in out[0]
    assert command("decode", f"y.{form}", "-o", "y.flac", model=checkpoint)[0] == 0
    info = soundfile.info(here / "y.flac")
    # bare codes know neither the rate nor the length
    length = (16000, 2, expected.shape[-1] * 320) if form == "npy" else (22050, 2, 30_001)
    assert (info.format, info.samplerate, info.channels, info.frames) == ("FLAC", *length)


def test_fewer_codebooks_of_a_residual_model_are_the_first_ones(here, command, tmp_path_factory):
    model = save_checkpoint(tmp_path_factory.mktemp("residual") / "best.ckpt", quantizer=RESIDUAL)
    write(here / "a.wav", num_samples=16000)
    for count, kbps in ((3, "0.60"), (4, "0.80")):  # 4 bits a codebook, 50 frames a second
        _, out, _ = command("encode", "a.wav", "-o", f"{count}.npz", "--codebooks", count, model=model)
        assert plain(out) == [f"1 file encoded, 0 failed: 1.0 s of audio; codes of all channels {kbps} kbps"]
    assert command("decode", "3.npz", "-o", "3.wav", model=model)[0] == 0
    whole, first = read_codes("4.npz"), read_codes("3.npz")
    assert np.array_equal(first.codes, whole.codes[:, :3])
    assert first.codebook_sizes == (16,) * 3


def test_skip_existing_goes_on_where_it_stopped_and_force_overwrites(here, command):
    for name in "abc":
        write(here / f"in/{name}.wav")
    command("encode", "in/b.wav", "-o", "codes")
    stamp = (here / "codes/b.npz").stat().st_mtime_ns
    status, out, err = command("encode", "in", "-o", "codes")
    assert (status, out, len(err)) == (1, [], 1)
    assert err[0].startswith("error: codes/b.npz: exists already")
    for encoded, there in ((2, 1), (0, 3)):
        status, out, err = command("encode", "in", "-o", "codes", "--skip-existing")
        assert (status, err) == (0, [])
        assert out[0].startswith(f"{encoded} files encoded, 0 failed, {there} there already")
        assert (here / "codes/b.npz").stat().st_mtime_ns == stamp
    assert command("encode", "in", "-o", "codes", "--force")[0] == 0
    assert (here / "codes/b.npz").stat().st_mtime_ns != stamp
    command("decode", "codes/a.npz", "-o", "decoded")
    status, out, _ = command("decode", "codes", "-o", "decoded", "--skip-existing")
    assert (status, out[0].split(":")[0]) == (0, "2 files decoded, 0 failed, 1 there already")


# What cannot be done --------------------------------------------------------------------------------------------------


def test_bad_inputs_do_not_stop_the_others(here, command):
    write(here / "a/good.wav")
    (here / "a/bad.wav").write_text("no audio")
    soundfile.write(here / "a/nan.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    os.mkfifo(here / "a/pipe.wav")
    (here / "empty").mkdir()
    status, out, err = command("encode", "a", "empty", "nowhere", "n" * 300, "-o", "codes")
    assert status == 1
    assert [line.split(":")[1].strip() for line in err] == [
        "empty",
        "nowhere",
        "n" * 300,
        *(f"a/{name}.wav" for name in ("bad", "nan", "pipe")),
    ]
    assert plain(out) == ["1 file encoded, 6 failed: 0.2 s of audio; codes of all channels 3.20 kbps"]
    assert files(here / "codes") == ["a/good.npz"]

    (here / "codes/a/cut.npz").write_bytes((here / "codes/a/good.npz").read_bytes()[:900])
    np.savez(here / "codes/a/foreign.npz", weights=np.zeros(3))
    status, out, err = command("decode", "codes", "empty", "-o", "decoded")
    assert status == 1
    assert [line.split(":")[1].strip() for line in err] == ["empty", "codes/a/cut.npz", "codes/a/foreign.npz"]
    assert plain(out) == ["1 file decoded, 3 failed: 0.2 s of audio; codes of all channels 3.20 kbps"]
    assert files(here / "decoded") == ["codes/a/good.wav"]


def test_codes_of_another_model_need_force(here, command, tmp_path_factory):
    write(here / "x.wav", channels=9)
    command("encode", "x.wav", "-o", "codes")
    other = save_checkpoint(tmp_path_factory.mktemp("other") / "best.ckpt", seed=1)
    status, out, err = command("decode", "codes/x.npz", "-o", "decoded", model=other)
    assert (status, out, len(err)) == (1, ["0 files decoded, 1 failed"], 1)
    assert err[0].startswith("error: codes/x.npz: codes of another model (")
    assert not (here / "decoded").exists()
    status, _, err = command("decode", "codes/x.npz", "-o", "decoded", "--force", model=other)
    assert (status, err) == (0, ["warning: codes/x.npz: codes of another model, decoded all the same"])

    unfit = save_checkpoint(tmp_path_factory.mktemp("other") / "best.ckpt", hop_length=160)
    for arguments, words in (
        (["-o", "new", "--force", "-c", unfit], "codes/x.npz: has 13 frames where"),
        (["-o", "y.flac", "-c", other, "--force"], "codes/x.npz: 9 channels at 16000 Hz cannot be written as flac"),
    ):
        status, _, err = command("decode", "codes/x.npz", *arguments, model=None)
        assert (status, err[0].startswith(f"error: {words}"), len(err)) == (1, True, 1)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["encode", "x.wav", "-o", "occupied"], 1, "occupied: "),
        (["encode", "x.wav", "-o", "occupied/below"], 1, "occupied/below: "),
        (["encode", "x.wav", "-o", "n" * 300], 1, "n: File name too long"),
        (["encode", "x.wav", "-o", "y.npz", "--codebooks", "7"], 2, "--codebooks"),
        (["encode", "x.wav", "-o", "y.npz", "--share", "1/2"], 2, "a share of the work needs a folder"),
        (["encode", "x.wav", "-o", "z", "--share", "3/2"], 2, "--share 3/2"),
        (["decode", "x.npz", "-o", "z.mp3"], 2, "decode writes .wav or .flac"),
        (["decode", "x.npz", "-o", "z.flac", "--format", "wav"], 2, "--format wav, but -o z.flac"),
        (["encode", "x.wav", "x.wav", "-o", "y.npz"], 2, "one file, for several inputs"),
        (["encode", ".", "-o", "-"], 2, "one stream, for several inputs"),
        (["encode"], 2, "Missing argument 'INPUT'; see discrete-ae encode --help"),
        (["encode", "x", "-o", "y"], 2, "Missing option '--checkpoint' / '-c'; see discrete-ae encode --help"),
        (["encde"], 2, "No such command 'encde'"),
        (["encode", "x", "-o", "y", "-c", "z", "--device", "tpu"], 2, "Invalid value for '--device'"),
        (["encode", "x.wav", "-o", "y", "-c", "occupied"], 1, "occupied: "),
        (["info", "n" * 300 + "=1"], 1, "n=1: cannot be read (File name too long)"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(here, command, checkpoint, arguments, status, words):
    write(here / "x.wav")
    (here / "occupied").write_text("a regular file")
    is_whole = "-o" in arguments and "-c" not in arguments and arguments != ["encode", "x", "-o", "y"]
    found, out, err = command(*arguments, model=checkpoint if is_whole else None)
    assert (found, out, len(err)) == (status, [], 1)
    assert err[0].startswith("error: ")
    assert words in err[0]
    assert files(here) == ["occupied", "x.wav"]


def test_suffixes_of_what_a_command_does_not_write_name_no_folders(here):
    (here / "corpus.ogg").mkdir()
    for out in ("corpus.ogg", "z.wav", "folder", "version1.2", "-"):
        refuse_other_suffix(Path(out), "decode", [".wav", ".flac"])
    with pytest.raises(UsageError, match=r"-o new/z\.MP3: decode writes \.wav or \.flac"):
        refuse_other_suffix(Path("new/z.MP3"), "decode", [".wav", ".flac"])


def test_names_that_become_too_long_stop_no_other(here, command):
    # The longest name there is; beside its namesake it would have to keep its suffix, which makes it longer.
    for name in (f"{'n' * 251}.wav", f"{'n' * 250}.flac", f"{'n' * 250}.wav"):
        write(here / "a" / name)
    status, _, err = command("encode", "a", "-o", "codes")
    assert (status, len(err)) == (1, 2)
    assert all("File name too long" in line for line in err)
    assert files(here / "codes") == [f"{'n' * 251}.npz"]


def test_cuda_without_a_gpu_is_a_usage_error(here, command, monkeypatch, checkpoint):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, (line,) = command("encode", "x.wav", "-o", "y", "-c", checkpoint, "--device", "cuda", model=None)
    assert (status, "no GPU" in line) == (2, True)


@pytest.mark.parametrize("variables", [{"LOCAL_RANK": "3"}, {"SLURM_LOCALID": "3"}, {}])
def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch, variables):
    from discrete_ae.cli.options import load_model

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("discrete_ae.build.load", lambda checkpoint, device="cpu": device)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert load_model(Path("x"), "auto") == f"cuda:{1 if variables else 0}"  # 3 modulo 2
    assert load_model(Path("x"), "cpu") == "cpu"


# What ends in the middle ----------------------------------------------------------------------------------------------


def test_interrupt_leaves_nothing_half_written(here, command, monkeypatch):
    for name in ("x", "y"):
        write(here / f"a/{name}.wav")
    replace = Path.replace

    def interrupted(temporary, target):
        assert temporary.stat().st_size > 0
        if target.name == "y.npz":
            raise KeyboardInterrupt
        return replace(temporary, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    status, _, (line,) = command("encode", "a", "-o", "codes")
    assert (status, files(here / "codes")) == (130, ["x.npz"])
    assert line.startswith("warning: interrupted after 1 file encoded; ")


# Runs the commands that it is given as JSON; after each, its exit status and the peak of memory since the one before.
ONE_AFTER_ANOTHER = """
import json, sys
from pathlib import Path
from discrete_ae.cli.main import main

for arguments in json.loads(sys.argv[1]):
    Path("/proc/self/clear_refs").write_text("5")
    try:
        main(arguments)
    except SystemExit as ended:
        status = ended.code or 0
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    print("status and KiB:", status, peak)
"""


def one_after_another(commands, **options):
    """Exit status and peak memory in MiB of each command, and all of stderr."""
    given = [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(commands)]
    done = subprocess.run(given, capture_output=True, text=True, check=True, **options)
    found = re.findall(r"status and KiB: (\d+) (\d+)", done.stdout)
    return [int(status) for status, _ in found], [int(peak) / 1024 for _, peak in found], done.stderr


def limited():
    """No file may grow beyond 100 bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


@pytest.mark.slow
def test_full_disk_leaves_the_old_file(here, checkpoint, command):
    write(here / "x.wav", 60_000)
    command("encode", "x.wav", "-o", "x.npz")
    for name in ("out.wav", "out.npz"):
        (here / name).write_bytes(b"old")
    options = ["-c", str(checkpoint), "--device", "cpu", "--force"]
    commands = [["decode", "x.npz", "-o", "out.wav", *options], ["encode", "x.wav", "-o", "out.npz", *options]]
    statuses, _, err = one_after_another(commands, preexec_fn=limited)
    assert statuses == [1, 1]
    assert re.fullmatch(r"error: (x\.npz: )?out\.wav: .+\nerror: out\.npz: .+\n", err)
    assert files(here) == ["out.npz", "out.wav", "x.npz", "x.wav"]
    for name in ("out.wav", "out.npz"):
        assert (here / name).read_bytes() == b"old"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(here, checkpoint):
    """Peak memory of the process for 1 and for 8 minutes of stereo: 8 minutes alone are 170 MB as float32."""
    minute = np.random.default_rng(0).uniform(-0.5, 0.5, (60 * 44100, 2))
    commands = []
    for minutes in (1, 8):
        with soundfile.SoundFile(here / f"{minutes}.wav", "w", 44100, 2, subtype="PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        options = ["-c", str(checkpoint), "--device", "cpu", "--jobs", "2"]
        commands += [
            ["encode", f"{minutes}.wav", "-o", f"{minutes}.npz", *options],
            ["decode", f"{minutes}.npz", "-o", f"{minutes}_decoded.wav", *options],
        ]
    statuses, peaks, _ = one_after_another(commands)
    assert statuses == [0, 0, 0, 0]
    assert max(peaks[2] - peaks[0], peaks[3] - peaks[1]) < 60


# Standard streams -----------------------------------------------------------------------------------------------------


def run(checkpoint, *arguments, **given):
    command = [*MAIN, *arguments, "-c", str(checkpoint), "--device", "cpu"]
    return subprocess.run(command, stderr=subprocess.PIPE, check=False, **given)


def test_only_a_lone_dash_is_a_standard_stream(here):
    assert [is_dash(path) for path in ("-", Path("-"), "./-", "a", "")] == [True, True, False, False, False]
    with piped(["./-", "x.wav"], "./-", ".npz") as (inputs, out):
        assert (inputs, out) == ([Path("./-"), Path("x.wav")], Path("./-"))


@pytest.mark.slow
def test_pipes_carry_recordings_and_codes(here, checkpoint):
    path = write(here / "x.wav", 20_000, 44100)
    pipes = {"stdout": subprocess.PIPE}
    coded = run(checkpoint, "encode", "-", "-o", "-", input=path.read_bytes(), **pipes)
    assert b"1 file encoded, 0 failed" in coded.stderr
    (here / "x.npz").write_bytes(coded.stdout)
    expected = Codec(discrete_ae.load(checkpoint)).encode_file(path)
    assert np.array_equal(read_codes(here / "x.npz").codes, expected.codes)
    decoded = run(checkpoint, "decode", "-", "-o", "-", input=coded.stdout, **pipes)
    (here / "y.wav").write_bytes(decoded.stdout)
    assert soundfile.info(here / "y.wav").frames == 20_000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_streams_that_cannot_be_written_or_held(here, checkpoint):
    write(here / "x.wav")
    reading, closed = os.pipe()
    os.close(reading)
    with Path("/dev/full").open("wb") as full, (here / "x.wav").open("rb") as recording:
        to_full = run(checkpoint, "encode", "x.wav", "-o", "-", stdout=full)
        to_nobody = run(checkpoint, "encode", "x.wav", "-o", "-", stdout=closed)
        too_long = run(checkpoint, "encode", "-", "-o", "x.npz", stdin=recording, preexec_fn=limited)
    os.close(closed)
    assert [done.returncode for done in (to_full, to_nobody, too_long)] == [1, 1, 1]
    assert to_full.stderr.decode().splitlines() == [
        "error: -o -: No space left on device; make room, or give another place"
    ]
    assert to_nobody.stderr == b""  # a reader that stops is no error to speak of
    (line,) = too_long.stderr.decode().splitlines()
    assert re.match("error: .*stdin: File too large", line)


# The command itself ---------------------------------------------------------------------------------------------------


def test_train_gets_its_arguments_untouched(command, monkeypatch):
    from discrete_ae.cli import train

    given = []
    monkeypatch.setattr(train, "main", given.append)
    arguments = ["-m", "quantizer=ste,fourier", "--cfg", "job", "--help", "++a=[1, 2]", "-o", "~b", "--", "c=1"]
    assert command("train", *arguments)[0] == 0
    assert given == [arguments]


def test_help_needs_no_torch():
    code = (
        "import sys; from discrete_ae.cli.main import main\n"
        "for arguments in ([], ['encode', '--help'], ['decode', '--help'], ['--version']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit as ended: assert not ended.code\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("discrete-ae") >= 4
