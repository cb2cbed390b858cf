"""Files and folders that are there whole or not at all, and what the system says where they cannot be."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from discrete_ae.errors import DataError, from_system
from discrete_ae.writing import whole_folder, write_whole, written_whole

ROOT = Path(__file__).parents[1]


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("failure", [ZeroDivisionError, KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    target = tmp_path / "b.txt"
    target.write_text("old")

    def fail():
        with written_whole(target) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure if isinstance(failure, type) else OSError):
        fail()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["b.txt"]


@pytest.mark.parametrize("name", ["x" * 250, "a/b\nc", b"\xff.npz".decode(errors="surrogateescape")])
def test_any_name_that_the_target_may_have(tmp_path, name):
    write_whole(tmp_path / name, b"new")
    assert names(tmp_path)[-1] == name


def test_what_the_system_says_names_the_target(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as refused:
        write_whole(tmp_path / "file/b.txt", b"new")
    assert str(from_system(refused.value)).startswith(f"{tmp_path}/file: ")
    with pytest.raises(OSError) as refused, written_whole(tmp_path / "b.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")  # as of a write, which names no file
    assert str(from_system(refused.value)).startswith(f"{tmp_path}/b.txt: No space left on device; free some space")
    with pytest.raises(OSError) as refused, written_whole(tmp_path / "b.txt"):
        Path("none.txt").read_bytes()
    assert refused.value.filename == "none.txt"  # no fault of the target


def test_a_folder_appears_at_the_end_and_replaces_only_its_like(tmp_path):
    target = tmp_path / "set"
    for content in ("one", "two"):
        with whole_folder(target, ["*.txt"], overwrite=True) as folder:
            (folder / f"{content}.txt").write_text(content)
            assert names(target) == ([] if content == "one" else ["one.txt"])
    assert names(tmp_path) == ["set", "set/two.txt"]
    with pytest.raises(OSError), whole_folder(target, ["*.txt"], overwrite=True) as folder:
        (folder / "none/half.txt").touch()
    with pytest.raises(DataError, match="already exists"), whole_folder(target, ["*.txt"]):
        pass
    with pytest.raises(DataError, match=r"holds two\.txt"), whole_folder(target, ["*.csv"], overwrite=True):
        pass
    with pytest.raises(DataError, match="got a file"), whole_folder(target / "two.txt", []):
        pass
    assert names(tmp_path) == ["set", "set/two.txt"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit, OSError(errno.EIO, "broken")])
def test_a_failure_between_the_two_renames_leaves_the_old_folder(tmp_path, monkeypatch, failure):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/one.txt").touch()
    rename = Path.rename

    def fail(path, target):
        if path.name == "new":
            raise failure
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with (
        pytest.raises(failure if isinstance(failure, type) else OSError),
        whole_folder(tmp_path / "set", ["*"], overwrite=True),
    ):
        pass
    assert names(tmp_path) == ["set", "set/one.txt"]


def killed(tmp_path, block):
    """Run a block that ends its process by `kill()`, before anything is cleaned up."""
    kill = "def kill(*_):\n    os.kill(os.getpid(), 9)"
    code = f"import os\nfrom pathlib import Path\nfrom discrete_ae.writing import *\n{kill}\n{block}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -9


def test_what_a_killed_process_left_goes_with_the_next_writing(tmp_path):
    killed(tmp_path, "with written_whole(Path('b.txt')) as file:\n    file.write_text('half'); kill()")
    killed(tmp_path, "with whole_folder(Path('set'), ['*']) as folder:\n    (folder / 'a').write_text('half'); kill()")
    assert len([name for name in names(tmp_path) if name.endswith(".partial")]) == 2
    write_whole(tmp_path / "b.txt", b"new")
    with whole_folder(tmp_path / "set", ["*"]) as folder:
        (folder / "b").touch()
    assert names(tmp_path) == ["b.txt", "set", "set/b"]


def test_a_folder_that_a_killed_process_moved_away_comes_back_with_the_next_writing(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/one.txt").touch()
    move = "rename = Path.rename\nPath.rename = lambda path, to: kill() if path.name == 'new' else rename(path, to)"
    killed(tmp_path, f"{move}\nwith whole_folder(Path('set'), ['*'], overwrite=True): pass")
    assert "set" not in names(tmp_path)
    with pytest.raises(DataError, match="already exists"), whole_folder(tmp_path / "set", ["*"]):
        pytest.fail("refused only after the work")
    assert names(tmp_path) == ["set", "set/one.txt"]


def test_two_that_write_the_same_do_not_meet(tmp_path):
    with written_whole(tmp_path / "b.txt") as one:
        one.write_text("one")
        with written_whole(tmp_path / "b.txt") as other:
            other.write_text("other")
            assert one.read_text() == "one"
        assert (tmp_path / "b.txt").read_text() == "other"
    assert (tmp_path / "b.txt").read_text() == "one"
    assert names(tmp_path) == ["b.txt"]
