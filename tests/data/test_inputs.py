"""Which files a user means, and which part of their tree they keep."""

from pathlib import Path

import pytest

from discrete_ae.data.files import files_of
from discrete_ae.errors import DataError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("corpus/a/x.wav", "corpus/a/x.txt", "corpus/b/c/y.WAV", "corpus/.hidden/z.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "corpus/b")
    return tmp_path


def kept(path, *, alone=True):
    """Where the files of an input would lie below an output; nothing may be wrong with it."""
    problems: list[DataError] = []
    found = [(folder / file.name).as_posix() for file, folder in files_of(Path(path), {".wav"}, problems, alone=alone)]
    assert problems == []
    return found


def test_folders_keep_their_tree_and_among_others_their_name(tree):
    for path in ("..", tree / "corpus"):
        assert kept(path) == ["a/x.wav", "b/c/y.WAV"]
        assert kept(path, alone=False) == ["corpus/a/x.wav", "corpus/b/c/y.WAV"]
    assert kept(".", alone=False) == ["b/c/y.WAV"]


def test_patterns_keep_the_tree_below_their_first_wildcard(tree):
    for alone in (True, False):
        assert kept(tree / "corpus/**/*.*", alone=alone) == ["a/x.txt", "a/x.wav", "b/c/y.WAV"]
        assert kept("../a/x.*", alone=alone) == ["x.txt", "x.wav"]


def test_a_file_keeps_its_name_alone_whatever_its_suffix(tree):
    assert kept("../a/x.txt") == kept("../a/x.txt", alone=False) == ["x.txt"]


def test_a_name_with_brackets_is_no_pattern_where_it_is_there(tree):
    (tree / "take [1].wav").touch()
    assert kept(tree / "take [1].wav") == ["take [1].wav"]


@pytest.mark.parametrize(
    ("path", "words"),
    [("none", "no such file or folder"), ("*.flac", "matches no file"), ("d", "no .wav files in it")],
)
def test_what_holds_nothing_is_said(tree, path, words):
    (tree / "corpus/b/d").mkdir()
    with pytest.raises(DataError, match=words):
        files_of(Path(path), {".wav"}, [], alone=True)
