"""`encode` and `decode` beyond files and folders: formats, patterns, pipes, broken-off runs, full disks, long audio."""

import functools
import json
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch

import discrete_ae
from discrete_ae.codec import Codec
from discrete_ae.codes import read_codes, read_npy

MAIN = [sys.executable, "-m", "discrete_ae.cli.main"]


@pytest.fixture(scope="module")
def small_checkpoint(ste_run):
    return ste_run / "checkpoints/last.ckpt"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capfd, small_checkpoint):
    """Run `discrete-ae` in this process; its exit status, stdout and the lines of its stderr."""
    from discrete_ae.cli import main

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main.main([*map(str, arguments), "-c", str(small_checkpoint), "--device", "cpu"])
        out, err = capfd.readouterr()
        return ended.value.code or 0, out, err.splitlines()

    return run


def write(path, num_samples=8000, rate=16000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(num_samples).uniform(-0.5, 0.5, (num_samples, channels))
    soundfile.write(path, noise, rate, subtype="PCM_16")
    return path


def names(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.jsonl")
    return sorted(path.relative_to(folder).as_posix() for path in found)


@pytest.mark.parametrize("form", ["npz", "npy", "daec"])
def test_every_format_holds_the_codes_and_decodes(here, command, small_checkpoint, form):
    write(here / "in/x.wav", 30_001, 22050, 2)
    status, out, err = command("encode", "in", "-o", "codes", "--format", form)
    assert (status, err) == (0, [])
    path = here / f"codes/x.{form}"
    model = discrete_ae.load(small_checkpoint)
    expected = Codec(model).encode_file(here / "in/x.wav").codes
    found = read_npy(path) if form == "npy" else read_codes(path, model.entropy_model).codes
    assert np.array_equal(found, expected)
    measured = 8 * path.stat().st_size / (30_001 / 22050) / 1000
    assert f"{measured:.2f} kbps measured" in out
    assert command("encode", "in/x.wav", "-o", f"y.{form}")[0] == 0  # by the suffix
    assert (here / f"y.{form}").read_bytes() == path.read_bytes()

    status, out, err = command("decode", "codes", "-o", "decoded")
    assert (status, err) == (0, [])
    info = soundfile.info(here / "decoded/x.wav")
    if form == "npy":  # bare codes know neither the rate nor the length
        assert (info.samplerate, info.channels, info.frames) == (16000, 2, expected.shape[-1] * 320)
    else:
        assert (info.samplerate, info.channels, info.frames) == (22050, 2, 30_001)


def test_codes_do_not_depend_on_how_they_are_computed(here, command):
    for name, length in (("a", 1), ("b", 400_000), ("c", 160_000), ("d", 8000)):
        write(here / f"in/{name}.wav", length)
    command("encode", "in", "-o", "plain")
    ways = (["--jobs", 1], ["--jobs", 3, "--chunk-seconds", 0.1], ["--batch-seconds", 1, "--deterministic"])
    for i, options in enumerate(ways):
        assert command("encode", "in", "-o", f"way{i}", *options)[0] == 0
        for name in "abcd":
            assert (here / f"way{i}/{name}.npz").read_bytes() == (here / f"plain/{name}.npz").read_bytes()


def test_patterns_are_expanded_and_keep_their_tree(here, command):
    for name in ("corpus/a/x.wav", "corpus/a/x.flac", "corpus/b/x.wav", "corpus/y.wav"):
        write(here / name)
    assert command("encode", "corpus/**/*.wav", "-o", "codes")[0] == 0
    assert names(here / "codes") == ["a/x.npz", "b/x.npz", "y.npz"]
    status, _, err = command("encode", "corpus/*.ogg", "-o", "codes")
    assert (status, err) == (1, ["error: corpus/*.ogg: matches no file; check the pattern"])


@pytest.mark.slow
def test_pipes_carry_recordings_and_codes(here, small_checkpoint):
    path = write(here / "x.wav", 20_000, 44100)
    model = ["-c", str(small_checkpoint), "--device", "cpu"]
    coded = subprocess.run(
        [*MAIN, "encode", "-", "-o", "-", *model], input=path.read_bytes(), capture_output=True, check=True
    )
    assert b"1 file encoded, 0 failed" in coded.stderr
    (here / "x.npz").write_bytes(coded.stdout)
    expected = Codec(discrete_ae.load(small_checkpoint)).encode_file(path)
    assert np.array_equal(read_codes(here / "x.npz").codes, expected.codes)
    decoded = subprocess.run(
        [*MAIN, "decode", "-", "-o", "-", *model], input=coded.stdout, capture_output=True, check=True
    )
    (here / "y.wav").write_bytes(decoded.stdout)
    assert soundfile.info(here / "y.wav").frames == 20_000


def test_pipe_of_several_inputs_is_refused(here, command):
    write(here / "in/x.wav")
    for inputs in (["in"], ["in/x.wav", "in/x.wav"]):
        status, out, err = command("encode", *inputs, "-o", "-")
        assert (status, out) == (2, "")
        assert err == ["error: -o -: one stream, for several inputs or a folder; give a folder"]


def test_skip_existing_goes_on_where_it_stopped(here, command):
    for name in "abc":
        write(here / f"in/{name}.wav")
    command("encode", "in/b.wav", "-o", "codes")
    stamp = (here / "codes/b.npz").stat().st_mtime_ns
    status, out, err = command("encode", "in", "-o", "codes", "--skip-existing")
    assert (status, err) == (0, [])
    assert out.startswith("2 files encoded, 0 failed, 1 there already: 1.0 s of audio")
    assert (here / "codes/b.npz").stat().st_mtime_ns == stamp
    status, out, err = command("encode", "in", "-o", "codes", "--skip-existing")
    assert (status, out, err) == (0, "0 files encoded, 0 failed, 3 there already\n", [])
    command("decode", "codes/a.npz", "-o", "decoded")
    status, out, _ = command("decode", "codes", "-o", "decoded", "--skip-existing")
    assert (status, out.split(":")[0]) == (0, "2 files decoded, 0 failed, 1 there already")


# Kills itself, with a signal that it cannot handle, before the third file gets its name.
KILLED_AT_THE_THIRD = """
import os, signal, sys
from pathlib import Path
from discrete_ae.cli.main import main

replace, count = Path.replace, 0

def counted(self, target):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

Path.replace = counted
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_killed_run_leaves_whole_files_and_is_gone_on_with(here, command, small_checkpoint, verb):
    for i in range(6):
        write(here / f"in/{i}.wav", 8000 + i)
    command("encode", "in", "-o", "codes")
    source, suffix = ("in", "npz") if verb == "encode" else ("codes", "wav")
    assert command(verb, source, "-o", "whole")[0] == 0
    given = [verb, source, "-o", "out", "-c", str(small_checkpoint), "--device", "cpu", "--jobs", "1"]
    done = subprocess.run([sys.executable, "-c", KILLED_AT_THE_THIRD, *given], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    left = [name for name in names(here / "out") if not name.startswith(".")]
    assert left == [f"0.{suffix}", f"1.{suffix}"]
    assert len(names(here / "out")) == 3  # the third, which has no name yet
    for name in left:
        assert (here / "out" / name).read_bytes() == (here / "whole" / name).read_bytes()
    status, out, err = command(verb, source, "-o", "out", "--skip-existing")
    assert (status, err) == (0, [])
    assert out.startswith(f"4 files {verb}d, 0 failed, 2 there already")
    left = [name for name in names(here / "out") if not name.endswith(".partial")]
    assert left == names(here / "whole")
    assert all((here / "out" / n).read_bytes() == (here / "whole" / n).read_bytes() for n in names(here / "whole"))


@pytest.mark.slow
def test_interrupt_in_the_middle_of_a_recording_ends_cleanly(here, small_checkpoint):
    write(here / "in/a.wav", 16000)
    write(here / "in/long.wav", 16000 * 1800)
    given = [*MAIN, "encode", "in", "-o", "out", "-c", str(small_checkpoint), "--device", "cpu", "--jobs", "1"]
    # A process that a shell started in the background ignores it, and so would its children.
    heeding = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(given, **pipes, preexec_fn=heeding) as process:
        deadline = time.monotonic() + 60
        while not (here / "out/a.npz").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.3)  # the file is there a moment before it is counted; the long recording takes seconds
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    # On a busy machine the second, of half an hour, may still be read when the first is there and not yet counted.
    counts = ("0 files", "1 file")
    assert err in [
        f"warning: interrupted after {n} encoded; the same command with --skip-existing goes on\n" for n in counts
    ]
    assert [path.name for path in (here / "out").iterdir()] == ["a.npz"]


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


@pytest.mark.slow
def test_full_disk_leaves_the_old_file(here, small_checkpoint, command):
    write(here / "x.wav", 60_000)
    command("encode", "x.wav", "-o", "x.npz")
    for name in ("out.wav", "out.npz"):
        (here / name).write_bytes(b"old")

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    options = ["-c", str(small_checkpoint), "--device", "cpu", "--force"]
    commands = [["decode", "x.npz", "-o", "out.wav", *options], ["encode", "x.wav", "-o", "out.npz", *options]]
    statuses, _, err = one_after_another(commands, preexec_fn=limit)
    assert statuses == [1, 1]
    assert re.fullmatch(r"error: (x\.npz: )?out\.wav: .+\nerror: out\.npz: .+\n", err)
    assert names(here) == ["out.npz", "out.wav", "x.npz", "x.wav"]
    for name in ("out.wav", "out.npz"):
        assert (here / name).read_bytes() == b"old"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(here, small_checkpoint):
    """Peak memory of the process for 1 and for 8 minutes of stereo: 8 minutes alone are 170 MB as float32."""
    minute = np.random.default_rng(0).uniform(-0.5, 0.5, (60 * 44100, 2))
    commands = []
    for minutes in (1, 8):
        with soundfile.SoundFile(here / f"{minutes}.wav", "w", 44100, 2, subtype="PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        options = ["-c", str(small_checkpoint), "--device", "cpu", "--jobs", "2"]
        commands += [
            ["encode", f"{minutes}.wav", "-o", f"{minutes}.npz", *options],
            ["decode", f"{minutes}.npz", "-o", f"{minutes}_decoded.wav", *options],
        ]
    statuses, peaks, _ = one_after_another(commands)
    assert statuses == [0, 0, 0, 0]
    assert max(peaks[2] - peaks[0], peaks[3] - peaks[1]) < 60
