"""A corpus encoded by several processes, by all three ways to start them, is that of one process; one may be killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from discrete_ae.cli import main

ENCODE = ("-m", "discrete_ae.cli.main", "encode", "corpus")
BROKEN = "error: corpus/broken.wav: not readable as audio; remove or replace it"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder `corpus` of recordings of many lengths, one of them broken, the longest of 20 s."""
    root = tmp_path_factory.mktemp("shares")
    random = np.random.default_rng(0)
    for i in range(24):
        path = root / f"corpus/{i % 3}/{i:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = random.uniform(-0.5, 0.5, (2000 + 13000 * i, 1 + (i % 5 == 0)))
        soundfile.write(path, noise, (16000, 22050)[i % 2], subtype="PCM_16")
    (root / "corpus/broken.wav").write_text("no audio")
    return root


@pytest.fixture(scope="module")
def options(ste_run):
    return ["-c", str(ste_run / "checkpoints/best.ckpt"), "--device", "cpu"]


def encode(corpus, *arguments):
    """The exit status of encoding by this process."""
    with contextlib.chdir(corpus), pytest.raises(SystemExit) as ended:
        main.main(["encode", "corpus", *arguments])
    return ended.value.code


@pytest.fixture(scope="module")
def single(corpus, options):
    """What one process leaves, with its manifest."""
    assert encode(corpus, "-o", "single", *options) == 1  # of the broken one
    found = contents(corpus / "single")
    assert found["manifest.jsonl"].count(b"\n") == len(found) - 1 == 24
    return found


def contents(folder):
    """The bytes of every file below a folder by its name, those that were broken off left out."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".partial")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def start(corpus, *command, **variables):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)} | variables
    return subprocess.Popen([sys.executable, *command], cwd=corpus, env=environment, **streams)


def end(*processes):
    """Of each process the status; and all lines of stdout and of stderr."""
    found = [(process.communicate(timeout=100), process.returncode) for process in processes]
    lines = [[line for streams, _ in found for line in streams[i].splitlines()] for i in (0, 1)]
    return [status for _, status in found], *lines


def joined(corpus, out, options):
    """What is there after the same command as one process, which has nothing left to do but the manifest."""
    before = {path: path.stat().st_mtime_ns for path in (corpus / out).rglob("*.npz")}
    assert encode(corpus, "-o", out, *options, "--skip-existing") == 1
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    return contents(corpus / out)


@pytest.mark.slow
def test_processes_of_torchrun_leave_what_one_leaves(corpus, single, options):
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python", sys.executable]
    statuses, said, err = end(start(corpus, *torchrun, *ENCODE, "-o", "torchrun", *options))
    assert sorted(line[:14] for line in said) == ["share 1 of 2: ", "share 2 of 2: "]
    assert statuses == [0]  # torchrun would end the other process when one has another status
    assert BROKEN in err
    found = contents(corpus / "torchrun")
    parts = [found.pop(f"manifest-{number}-of-2.jsonl") for number in (1, 2)]
    assert b"".join(sorted(b"".join(parts).splitlines(keepends=True))) == b"".join(
        sorted(single["manifest.jsonl"].splitlines(keepends=True))
    )
    assert found.items() < single.items()
    assert joined(corpus, "torchrun", options) == single


@pytest.mark.slow
def test_of_a_killed_process_its_own_recordings_are_lost_and_the_same_command_goes_on(corpus, single, options):
    def ranks(*numbers):
        command = [*ENCODE, "-o", "srun", *options, "--skip-existing", "--jobs", "1"]
        return [start(corpus, *command, SLURM_PROCID=str(number), SLURM_STEP_NUM_TASKS="2") for number in numbers]

    first, second = ranks(0, 1)
    part = corpus / "srun/manifest-2-of-2.jsonl"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    second.send_signal(signal.SIGKILL)
    (of_first, of_second), _, _ = end(first, second)
    assert (of_first in (0, 1), of_second) == (True, -signal.SIGKILL)
    left = contents(corpus / "srun")
    assert left["manifest-1-of-2.jsonl"].count(b"\n") >= 11  # all of the first
    assert {name: left[name] for name in left if name in single}.items() < single.items()  # each file is whole
    end(*ranks(1))
    assert joined(corpus, "srun", options) == single
