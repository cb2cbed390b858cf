"""Jobs of encoding: the output of each input, and its share."""

from pathlib import Path

import pytest

from discrete_ae.codec.jobs import Job, Share, plan
from discrete_ae.errors import UsageError

WAV = [".wav", ".flac"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names, size=1):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(bytes(size))


def targets(*inputs, out="out"):
    return [job.target.relative_to(out).as_posix() for job in plan(inputs, out, WAV, ".npz").jobs]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["a"], ["b/y.npz", "x.npz"]),  # a folder alone keeps its tree
        (["a", "z.wav"], ["a/b/y.npz", "a/x.npz", "z.npz"]),  # one of several its name too
        ([".", "z.wav"], ["HERE/a/b/y.npz", "HERE/a/x.npz", "HERE/z.npz", "z.npz"]),
        (["a", "a"], ["a/b/y.npz", "a/x.npz"]),  # given twice, done once
        (["**/*.wav"], ["a/x.npz", "z.npz"]),
        (["notes.txt"], ["notes.npz"]),  # a file is taken whatever its name
    ],
)
def test_trees_are_kept(here, inputs, expected):
    make("a/x.wav", "a/b/y.flac", "a/notes.txt", "a/.hidden.wav", "z.wav", "notes.txt")
    assert targets(*inputs) == [name.replace("HERE", here.name) for name in expected]


def test_same_name_with_two_suffixes_keeps_both():
    make("a/x.wav", "a/x.flac", "a/y.wav", "a/b/x.wav", "a/x.wav.wav", "b/x.wav")
    # x.wav.wav would become x.wav.npz, which is taken once x.wav keeps its suffix
    assert targets("a") == ["b/x.npz", "x.flac.npz", "x.wav.npz", "x.wav.wav.npz", "y.npz"]
    with pytest.raises(UsageError, match=r"a/x\.wav and b/x\.wav would both become out/x\.wav\.npz"):
        targets("a/x.wav", "b/x.wav")


def test_out_may_be_the_file():
    make("x.wav")
    assert plan(["x.wav"], "new/y.NPZ", WAV, ".npz").jobs == [Job(Path("x.wav"), Path("new/y.NPZ"))]
    for inputs in (["x.wav", "x.wav"], ["."]):
        with pytest.raises(UsageError, match="expected a folder for several inputs or an input folder"):
            plan(inputs, "y.npz", WAV, ".npz")
    Path("y.npz").mkdir()
    assert targets("x.wav", out="y.npz") == ["x.npz"]


def test_what_cannot_be_read_is_a_problem_of_its_input():
    make("in/x.wav")
    Path("empty").mkdir()
    said = {"empty": "no .wav, .flac", "none": "no such file", "n" * 300: "name too long", "*.ogg": "matches no file"}
    planned = plan(["in", *said], "out", WAV, ".npz")
    assert planned.jobs == [Job(Path("in/x.wav"), Path("out/in/x.npz"))]
    assert [str(path) for path, _ in planned.problems] == list(said)
    assert all(said[str(path)] in str(error) for path, error in planned.problems)


def jobs_of(*sizes):
    for i, size in enumerate(sizes):
        make(f"{i:05}.wav", size=size)
    return [Job(Path(f"{i:05}.wav"), Path(f"{i:05}.npz")) for i in range(len(sizes))]


def test_shares_take_turns_from_the_largest_file_on():
    jobs = jobs_of(1, 5, 3, 3, 2)
    # by size 5, 3, 3, 2, 1: share 1 takes 5, the second 3 and 1, share 2 the first 3 and 2; in the order of the jobs
    assert [Share(number, 2).of(jobs) for number in (1, 2)] == [[jobs[0], jobs[1], jobs[3]], [jobs[2], jobs[4]]]
    assert Share().of(jobs) == jobs
    assert [len(Share(number, 3).of(jobs_of(*[0] * 7))) for number in (1, 2, 3)] == [3, 2, 2]
    gone = [Job(Path("gone.wav"), Path("gone.npz"))]
    assert [Share(number, 2).of(gone) for number in (1, 2)] == [gone, []]


def test_a_share_is_given_or_found_in_the_environment():
    assert Share.parse("3/16") == Share(3, 16)
    for text in ("0/2", "3/2", "3", "a/b", "-1/2", "1/2/3", "1/0"):
        with pytest.raises(UsageError, match=f"--share {text}: expected"):
            Share.parse(text)
    assert Share.of_environment({}) == Share(1, 1)
    assert Share.of_environment({"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}) == Share(1, 4)
    batch_script = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}  # which runs once; srun starts its steps
    assert Share.of_environment(batch_script) == Share(1, 1)
    assert Share.of_environment(batch_script | {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}) == Share(4, 4)
