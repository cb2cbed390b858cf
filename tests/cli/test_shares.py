"""A corpus encoded by several processes, by all three ways to start them, is that of one process; one may be killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from discrete_ae.cli import main
from tests.recordings import write_noise

pytestmark = pytest.mark.slow
ENCODE = ("-m", "discrete_ae.cli.main", "encode", "corpus")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder `corpus` of recordings of many lengths, one of them broken, the longest of 20 s."""
    root = tmp_path_factory.mktemp("shares")
    for i in range(24):
        write_noise(root / f"corpus/{i % 3}/{i:02}.wav", 2000 + 13000 * i, (16000, 22050)[i % 2], 1 + (i % 5 == 0))
    (root / "corpus/broken.wav").write_text("no audio")
    return root


@pytest.fixture(scope="module")
def options(ste_run):
    return ["-c", str(ste_run / "checkpoints/best.ckpt"), "--device", "cpu"]


def encode(corpus, *arguments):
    """Encode by this process; the broken recording makes it fail."""
    with contextlib.chdir(corpus), pytest.raises(SystemExit) as ended:
        main.main(["encode", "corpus", *arguments])
    assert ended.value.code == 1


@pytest.fixture(scope="module")
def single(corpus, options):
    """Files that a single process writes, with the manifest."""
    encode(corpus, "-o", "single", *options)
    found = contents(corpus / "single")
    assert found["manifest.jsonl"].count(b"\n") == len(found) - 1 == 24
    return found


def contents(folder):
    """The bytes of every file below a folder by its name, those that were broken off left out."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".partial")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def start(corpus, *command, **variables):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)} | variables
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command], cwd=corpus, env=environment, **streams)


def joined(corpus, out, options):
    """Run the same command in one process, which has only the manifest left to write; return all files."""
    before = {path: path.stat().st_mtime_ns for path in (corpus / out).rglob("*.npz")}
    encode(corpus, "-o", out, *options, "--skip-existing")
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    return contents(corpus / out)


def test_processes_of_torchrun_leave_what_one_leaves(corpus, single, options):
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python", sys.executable]
    process = start(corpus, *torchrun, *ENCODE, "-o", "torchrun", *options)
    said, err = process.communicate(timeout=100)
    assert process.returncode == 0  # torchrun would end the other process when one has another status
    assert sorted(line[:14] for line in said.splitlines()) == ["share 1 of 2: ", "share 2 of 2: "]
    assert "error: corpus/broken.wav: not readable as audio" in err
    found = contents(corpus / "torchrun")
    parts = [found.pop(f"manifest-{number}-of-2.jsonl") for number in (1, 2)]
    assert sorted(b"".join(parts).splitlines()) == sorted(single["manifest.jsonl"].splitlines())
    assert found.items() < single.items()
    assert joined(corpus, "torchrun", options) == single


def test_of_a_killed_process_its_own_recordings_are_lost_and_the_same_command_goes_on(corpus, single, options):
    def rank(number):
        command = [*ENCODE, "-o", "srun", *options, "--skip-existing", "--jobs", "1"]
        return start(corpus, *command, SLURM_PROCID=str(number), SLURM_STEP_NUM_TASKS="2")

    first, second = rank(0), rank(1)
    part = corpus / "srun/manifest-2-of-2.jsonl"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    second.send_signal(signal.SIGKILL)
    for process in (first, second):
        process.communicate(timeout=100)
    assert first.returncode in (0, 1)
    assert second.returncode == -signal.SIGKILL
    left = contents(corpus / "srun")
    assert left["manifest-1-of-2.jsonl"].count(b"\n") >= 11  # all of the first
    assert {name: left[name] for name in left if name in single}.items() < single.items()  # each file is whole
    rank(1).communicate(timeout=100)
    assert joined(corpus, "srun", options) == single
