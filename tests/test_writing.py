"""Files that are there whole or not at all."""

import pytest

from discrete_ae.errors import DataError
from discrete_ae.writing import write_whole, written_whole


def test_a_file_appears_at_the_end(tmp_path):
    target = tmp_path / "a/b.txt"
    with written_whole(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["b.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "b.txt"
    target.write_text("old")

    def fail():
        with written_whole(target) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_what_a_killed_process_left_is_written_over(tmp_path):
    target = tmp_path / "b.txt"
    with written_whole(target) as temporary:
        name = temporary.name
    (tmp_path / name).write_text("left by a process that was killed, and longer")
    write_whole(target, b"new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("b.txt", "new")]


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    target = tmp_path / "b.txt"
    with written_whole(target) as temporary:
        temporary.write_text("first")
        with pytest.raises(DataError, match="another process is writing it"), written_whole(target):
            pass
        assert temporary.read_text() == "first"
    assert target.read_text() == "first"


@pytest.mark.parametrize("name", ["x" * 250, "a\nb", b"\xff.npz".decode(errors="surrogateescape")])
def test_any_name_that_the_target_may_have(tmp_path, name):
    write_whole(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/b\.txt: cannot be written \(.+\); give another output with -o"):
        write_whole(tmp_path / "file/b.txt", b"new")
