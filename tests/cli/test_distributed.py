"""Encoding by several processes: who encodes what, and that what they leave is what one process leaves."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from discrete_ae import load
from discrete_ae.cli import main
from discrete_ae.cli.distributed import split_overrides
from discrete_ae.cli.encoding import Report, Settings
from discrete_ae.cli.files import Job
from discrete_ae.cli.outcome import Outcome, outcome_of_existing
from discrete_ae.cli.shares import GROUP_JOBS, Measured, in_groups, in_turn, measure, share_out
from discrete_ae.codec import encode_file
from discrete_ae.codes.container import FORMATS, write_codes
from discrete_ae.codes.entry import ManifestEntry, describe
from discrete_ae.codes.manifest import read_manifest, write_manifest
from discrete_ae.codes.shards import ShardKind
from discrete_ae.errors import DataError

DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
INSTALLED = Path(sys.executable).with_name("discrete-ae")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def measured(*durations):
    return [Measured(Job(Path(f"{i}.wav"), Path(f"{i}.npz")), seconds, False) for i, seconds in enumerate(durations)]


def test_the_longest_goes_to_whom_has_the_least():
    shares = share_out(measured(1, 5, 3, 3, 2), 2)
    # 5 to rank 0, 3 and 3 to rank 1, 2 to rank 0, and 1, at 7 to 6, to rank 1
    assert [[found.duration_s for found in share] for share in shares] == [[5, 2], [3, 3, 1]]
    assert [found.job.source.stem for found in shares[1]] == ["2", "3", "0"]


def test_recordings_of_unknown_length_are_shared_out_too():
    assert [len(share) for share in share_out(measured(*[0] * 7), 3)] == [3, 2, 2]
    assert [len(share) for share in share_out(measured(4), 3)] == [1, 0, 0]
    assert share_out([], 2) == [[], []]


def test_shares_of_many_recordings_are_nearly_equal():
    durations = np.random.default_rng(0).lognormal(1.5, 1, 10000)
    loads = [sum(found.duration_s for found in share) for share in share_out(measured(*durations), 64)]
    assert sum(loads) == pytest.approx(durations.sum())
    assert max(loads) - min(loads) < durations.max()
    assert max(loads) < 1.001 * durations.sum() / 64


def test_groups_hold_a_few_minutes_or_one_recording():
    groups = in_groups(measured(700, 400, 200, 1), max_seconds=600)
    assert [[found.duration_s for found in group] for group in groups] == [[700], [400, 200], [1]]
    assert [len(group) for group in in_groups(measured(*[0] * (GROUP_JOBS + 1)))] == [GROUP_JOBS, 1]
    assert in_groups([]) == []


def test_what_the_ranks_measured_comes_in_the_order_of_the_jobs():
    found = measured(*range(8))
    assert in_turn([found[rank::3] for rank in range(3)]) == found
    assert in_turn([[], []]) == []


def test_a_recording_is_measured_by_its_header(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), 16000)
    (tmp_path / "b.wav").write_text("no audio")
    (tmp_path / "a.npz").touch()
    jobs = [Job(tmp_path / f"{name}.wav", tmp_path / f"{name}.npz") for name in ("a", "b", "gone")]
    assert [tuple(found[1:]) for found in measure(jobs, keep_existing=False)] == [(0.25, False), (0, False), (0, False)]
    assert [found.is_done for found in measure(jobs, keep_existing=True)] == [True, False, False]


def test_a_name_that_is_too_long_is_no_crash(tmp_path):
    # 251 + 4 bytes are a name, 251 + 5 are none
    job = Job(tmp_path / f"{'n' * 251}.wav", tmp_path / f"{'n' * 251}.daec")
    soundfile.write(job.source, np.zeros(4000), 16000)
    for keep_existing in (False, True):
        assert measure([job], keep_existing=keep_existing) == [(job, 0.25 if not keep_existing else 0.0, False)]


@pytest.fixture
def report(tmp_path):
    """One of a run with --shards, into a folder with a.npz, of in/a.wav."""
    (tmp_path / "a.npz").touch()
    write_manifest(tmp_path, [entry_of_file("a.npz", tmp_path / "in/a.wav")])
    settings = Settings("daec", None, None, 30.0, None, tmp_path)
    return Report(None, settings, [], has_manifest=True, shards=ShardKind.TAR)


def entry_of_file(path, source):
    return ManifestEntry(path, str(source), 0.25, 16000, 4000, 1, (4, 300), 13, "ab" * 32, 52, "cd" * 32)


def test_keys_that_would_clash_in_shards_are_refused_before_the_work(tmp_path, report):
    again, other = (Job(tmp_path / f"in/a.{suffix}", tmp_path / "a.daec") for suffix in ("wav", "flac"))
    report.check_shards([again, Job(tmp_path / "in/b.wav", tmp_path / "b.daec")])  # a.npz makes place
    with pytest.raises(DataError, match=r"a\.npz and a\.daec have the same name but for the suffix, a; remove"):
        report.check_shards([other])
    report.shards = None
    report.check_shards([other])


def test_a_recording_under_two_names_is_said(tmp_path, report, capfd):
    report.shards = None
    job = Job(tmp_path / "in/a.wav", tmp_path / "sub/a.daec")
    outcome = Outcome(job, entry_of_file("sub/a.daec", job.source), None, was_there=True)
    assert report.finish([report.say(outcome)]) == 0
    out, err = capfd.readouterr()
    assert out == "0 files encoded, 0 failed, 1 there already\n"
    assert err == (
        f"warning: {tmp_path}: holds 1 recording under two names, such as a.npz and sub/a.daec; the manifest lists "
        "the latter, remove the former\n"
    )
    assert [entry.path for entry in read_manifest(tmp_path)] == ["sub/a.daec"]
    assert report.finish([report.say(outcome)]) == 0
    assert capfd.readouterr().err == ""


def test_settings_of_the_trainer_are_told_from_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ["trainer=ddp", "trainer.devices=2", "+trainer.plugins=null", "~trainer.max_steps="]
    inputs = ["a.wav", "trainer", "trainers=x", "a/trainer=x", "k=v"]
    assert split_overrides([*inputs, *settings]) == (inputs, settings)
    (tmp_path / "trainer=ddp").touch()
    assert split_overrides(["trainer=ddp"]) == (["trainer=ddp"], [])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder `corpus` of recordings of many lengths, one of them broken, the longest of 20 s."""
    root = tmp_path_factory.mktemp("distributed")
    random = np.random.default_rng(0)
    for i in range(24):
        path = root / f"corpus/{i % 3}/{i:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = random.uniform(-0.5, 0.5, (2000 + 13000 * i, 1 + (i % 5 == 0)))
        soundfile.write(path, noise, (16000, 22050)[i % 2], subtype="PCM_16")
    (root / "corpus/broken.wav").write_text("no audio")
    return root


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_is_there_must_be_what_encoding_would_write(tmp_path, corpus, ste_run, format):
    model = load(ste_run / "checkpoints/best.ckpt")
    source = tmp_path / "03.wav"
    shutil.copy(corpus / "corpus/0/03.wav", source)
    code_file = encode_file(model, source)
    job = Job(source, tmp_path / f"a/03.{format}")
    job.target.parent.mkdir()

    def found(codebooks=None):
        return outcome_of_existing(model, codebooks, tmp_path, job)

    write_codes(code_file, job.target, format)
    assert found().entry == describe(code_file, job.target, tmp_path, job.source)
    assert (found().error, found().was_there) == (None, True)
    assert found(codebooks=1).entry is None
    assert "codebooks" in found(codebooks=1).error
    if format != "npy":  # which names no model
        write_codes(replace(code_file, model_hash="f" * 64), job.target, format)
        assert found().error.startswith(f"{job.target}: codes of another model (ffffffffffff)")
        write_codes(code_file, job.target, format)
    # 2000 + 13000 * 3 = 41000 samples at 22050 Hz were encoded, 29751 at 16000 Hz: 93 frames of 320; 30000 would be 69
    soundfile.write(source, np.zeros(30000), 22050)
    another = f"{job.target}: codes of another recording than {source} is now, of "
    if format == "npy":
        assert found().error.startswith(another)
        assert found().error.endswith("of 93 frames, not 69; encode it again with --force")
    else:
        change = "41000 samples at 22050 Hz, not 30000 at 22050 Hz"
        assert found().error == f"{another}{change}; encode it again with --force"
        soundfile.write(source, np.zeros(41000), 16000)
        assert "not 41000 at 16000 Hz" in found().error
        source.write_text("no audio")
        assert found().entry is not None
        source.unlink()
        assert found().entry is not None
    job.target.write_bytes(b"damaged")
    shutil.copy(corpus / "corpus/0/03.wav", source)
    assert found().entry is None
    assert found().error.startswith(f"{job.target}: damaged")


def arguments(checkpoint, out, *more):
    return ["encode", "corpus", "-o", str(out), "-c", str(checkpoint), *more]


def contents(folder):
    """The bytes of every file below a folder by its name, temporary ones left out."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def single(corpus, ste_run):
    """What one process without any trainer leaves, with its manifest."""
    previous = Path.cwd()
    os.chdir(corpus)
    try:
        with pytest.raises(SystemExit) as ended:
            main.main(arguments(ste_run / "checkpoints/best.ckpt", "single", "--device", "cpu"))
    finally:
        os.chdir(previous)
    assert ended.value.code == 1  # of the broken one
    found = contents(corpus / "single")
    assert len(found) == 25
    assert found["manifest.jsonl"].count(b"\n") == 24
    return found


def start(corpus, command, **variables):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = ENVIRONMENT | variables
    return subprocess.Popen([*map(str, command)], cwd=corpus, env=environment, start_new_session=True, **streams)


def end(process):
    """The status, stdout and stderr of a process, which with all of its own is gone afterwards."""
    try:
        out, err = process.communicate(timeout=100)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out.splitlines(), err.splitlines()


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_takes_the_other_with_it_and_the_next_run_goes_on(corpus, single, ste_run, killed):
    out = corpus / f"killed_{killed}"
    command = [sys.executable, "-m", "discrete_ae.cli.main"]
    given = arguments(ste_run / "checkpoints/best.ckpt", out.name, "--skip-existing", *DDP)
    process = start(corpus, [*command, *given])
    wait_for(lambda: list(out.rglob("*.npz")))
    (child,) = children(process.pid)
    pids = (process.pid, child)
    os.kill(pids[killed], signal.SIGKILL)
    wait_for(lambda: not is_running(pids[1 - killed]), seconds=30)
    status, printed, _ = end(process)
    assert status != 0
    assert printed == []
    left = contents(out)
    assert 0 < len(left) < 24
    assert left.items() <= single.items()  # each file is whole, and there is no manifest

    if killed == 1:
        command = [INSTALLED] if INSTALLED.exists() else command
        status, printed, err = end(start(corpus, [*command, *given]))
        assert status == 1
        assert err == ["error: corpus/broken.wav: not readable as audio; remove or replace it"]
        assert len(printed) == 1
        assert printed[0].startswith(f"{24 - len(left)} files encoded, 1 failed, {len(left)} there already")
        assert contents(out) == single


@pytest.mark.slow
def test_processes_of_slurm_leave_what_one_leaves(corpus, single, ste_run):
    shutil.rmtree(corpus / "slurm", ignore_errors=True)
    slurm = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": "encode",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NODELIST": "localhost",
        "SLURM_NODEID": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(20000 + os.getpid() % 10000),
    }
    given = arguments(ste_run / "checkpoints/best.ckpt", "slurm", *DDP)
    command = [sys.executable, "-m", "discrete_ae.cli.main", *given]
    ranks = [start(corpus, command, **slurm, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in "01"]
    (first, out, err), second = [end(process) for process in ranks]
    assert first == 1
    assert err == ["error: corpus/broken.wav: not readable as audio; remove or replace it"]
    assert out[0].startswith("24 files encoded, 1 failed")
    assert second == (1, [], [])  # the status is that of all, the words are those of the first
    assert contents(corpus / "slurm") == single


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["trainer=dpp"], "did you mean 'ddp'?"),
        (["trainer=cpu", "trainer.device=2"], "did you mean 'trainer.devices'?"),
        (["trainer=cpu", "trainer.precision=16-mixed"], "codes are always computed in float32"),
        (["trainer=ddp", "trainer.accelerator=cpu", "trainer.strategy=ddp_spawn"], "DDPStrategy cannot encode"),
        (list(DDP), "several processes are started by the command discrete-ae encode only"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(corpus, ste_run, monkeypatch, capfd, settings, message):
    monkeypatch.chdir(corpus)
    with pytest.raises(SystemExit) as ended:
        main.main(arguments(ste_run / "checkpoints/best.ckpt", "refused", *settings))
    out, err = capfd.readouterr()
    assert ended.value.code == 2
    assert (out, err.count("\n"), err.startswith("error: ")) == ("", 1, True)
    assert message in err
    assert not (corpus / "refused").exists()
