"""Which recordings a data set has, and what they are called."""

import numpy as np
import pytest
import soundfile

from discrete_ae.errors import DataError
from discrete_ae.evaluation.recordings import find_sources, opened


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.wav", "a/sub/x.flac", "a/.hidden.wav", "a/notes.txt", "b/x.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".txt"):
            (tmp_path / name).write_text("")
        else:
            soundfile.write(tmp_path / name, np.zeros((100, 2)), 16000)
    return tmp_path


def names(*inputs):
    return [source.name for source in find_sources(inputs).sources]


def test_names(corpus, monkeypatch):
    assert names("a") == ["sub/x.flac", "x.wav"]
    assert names(corpus / "a") == ["sub/x.flac", "x.wav"]
    assert names("a", "b") == ["a/sub/x.flac", "a/x.wav", "b/x.wav"]
    assert names("a/x.wav", "b") == ["b/x.wav", "x.wav"]
    assert names("a/x.wav", "a/x.wav") == ["x.wav"]
    assert names("a/x.wav", "b/x.wav") == ["a/x.wav", "b/x.wav"]  # of one name, so with their folders
    monkeypatch.chdir("a")
    assert names(".") == ["sub/x.flac", "x.wav"]
    assert names(".", "../b") == ["a/sub/x.flac", "a/x.wav", "b/x.wav"]


def test_patterns_keep_the_tree_below_the_first_wildcard(corpus):
    assert names("a/**/x.*") == ["sub/x.flac", "x.wav"]
    assert names(corpus / "a/**/x.*") == ["sub/x.flac", "x.wav"]
    assert names("*/x.wav") == ["a/x.wav", "b/x.wav"]
    assert names("*/x.wav", "a/sub") == ["a/x.wav", "b/x.wav", "sub/x.flac"]
    (problem,) = find_sources(["*/y.wav"]).problems
    assert str(problem) == "*/y.wav: matches no file; check the pattern"


def test_problems_do_not_hide_what_is_there(corpus):
    (corpus / "empty").mkdir()
    found = find_sources(["none", "empty", "b"])
    assert [source.name for source in found.sources] == ["b/x.wav"]
    assert [str(problem).split(":")[0] for problem in found.problems] == ["none", "empty"]


def test_opened(corpus):
    path = corpus / "a/x.wav"
    assert opened(path, 1).channels == opened(path, 2).channels == 2
    with pytest.raises(DataError, match="has 2 channels, the model takes 3"):
        opened(path, 3)
    soundfile.write(corpus / "long.wav", np.zeros(10_000), 16000)
    (corpus / "long.wav").write_bytes((corpus / "long.wav").read_bytes()[:10_000])
    with pytest.raises(DataError, match="was cut off"):
        opened(corpus / "long.wav", 1)
