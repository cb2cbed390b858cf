"""Recordings of a data set: their names, their segments, and which stretches are listened to."""

import os

import numpy as np
import pytest
import soundfile

from discrete_ae.codec.files import opened
from discrete_ae.data.files import probe
from discrete_ae.errors import DataError
from discrete_ae.evaluation.recordings import (
    Source,
    choose_excerpts,
    cut,
    find_sources,
    loudest,
    segment_lengths,
)

RATE = 8000


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.wav", "a/sub/x.flac", "a/.hidden.wav", "b/x.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, np.zeros((100, 2)), RATE)
    (tmp_path / "a/notes.txt").write_text("")
    return tmp_path


def names(*inputs):
    return [source.name for source in find_sources(inputs).sources]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ("a", "sub/x.flac x.wav"),
        ("a b", "a/sub/x.flac a/x.wav b/x.wav"),
        ("a/x.wav b", "b/x.wav x.wav"),
        ("a/x.wav a/x.wav", "x.wav"),
        ("a/x.wav b/x.wav", "a/x.wav b/x.wav"),  # of one name, so with their folders
        ("a/**/x.*", "sub/x.flac x.wav"),
        ("*/x.wav a/sub", "a/x.wav b/x.wav sub/x.flac"),
    ],
)
def test_names_are_paths_below_the_folder_or_the_first_wildcard(corpus, inputs, expected):
    assert names(*inputs.split()) == expected.split()
    assert names(corpus / "a/**/x.*") == names(corpus / "a") == ["sub/x.flac", "x.wav"]


def test_names_of_dots_are_those_of_the_folders(corpus, monkeypatch):
    monkeypatch.chdir("a")
    assert names(".") == ["sub/x.flac", "x.wav"]
    assert names(".", "../b") == ["a/sub/x.flac", "a/x.wav", "b/x.wav"]


def test_problems_do_not_hide_what_is_there(corpus):
    (corpus / "empty").mkdir()
    found = find_sources(["none", "empty", "*/y.wav", "b"])
    assert [source.name for source in found.sources] == ["b/x.wav"]
    assert [str(problem).split(":")[0] for problem in found.problems] == ["none", "empty", "*/y.wav"]


def test_what_does_not_fit_or_with_strict_was_cut_off_is_not_opened(corpus):
    path = corpus / "a/x.wav"
    assert opened(path, 1).channels == opened(path, 2).channels == 2
    with pytest.raises(DataError, match="expected 3 channels, as in the model, got 2"):
        opened(path, 3)
    soundfile.write(path, np.zeros(10_000), RATE)
    path.write_bytes(path.read_bytes()[:10_000])
    assert opened(path, 1).num_frames == (10_000 - 44) // 2
    with pytest.raises(DataError, match=r"x\.wav: its header says 20000 bytes of samples, the file holds 9956"):
        opened(path, 1, strict=True)


def test_a_recording_has_a_name_in_utf8_and_is_known_by_its_bytes(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"1234")
    assert names(tmp_path) == ["caf\\xe9.wav"]
    for name, content in (("a", b"1234"), ("c", b"1235")):
        (tmp_path / name).write_bytes(content)
    (source,) = find_sources([tmp_path]).sources
    a, c, none = (Source(tmp_path / name, name).sha256 for name in ("a", "c", "none"))
    assert source.sha256 == a != c is not None
    assert none is None


@pytest.mark.parametrize("num_samples", [1, 99, 300, 399, 400, 899, 999])
def test_lengths_of_segments_of_3_seconds_at_100_hz(num_samples):
    *whole, last = segment_lengths(num_samples, 100, 3)
    assert sum(whole) + last == num_samples
    assert set(whole) <= {300}
    assert last <= 300 + 99  # less than a second more than a segment
    assert last >= 100 or not whole


def test_a_segment_may_be_longer_than_any_recording():
    assert segment_lengths(100, 16000, 1e308) == [100]  # 1e308 s have more samples than a float can count


def test_cutting_does_not_depend_on_the_blocks_and_shows_an_early_end():
    random = np.random.default_rng(0)
    signal = random.standard_normal((2, 1000)).astype(np.float32)
    expected = np.split(signal, [300, 310, 700], axis=1)
    for count in (0, 1, 5, 100):
        blocks = np.split(signal, np.sort(random.integers(0, 1001, count)), axis=1)  # some of them empty
        for lengths in ([300, 10, 390, 300], [300, 10, 390, 900, 5]):
            for found, wanted in zip(cut(blocks, lengths), expected, strict=True):
                assert np.array_equal(found, wanted)
    assert [part.shape for part in cut([signal[:1, :250]], [100, 150, 100])] == [(1, 100), (1, 150)]


def write(path, seconds, loud_at=None):
    """Quiet noise, with a second that is loud."""
    audio = 0.01 * np.random.default_rng(0).standard_normal(int(seconds * RATE))
    if loud_at is not None:
        audio[int(loud_at * RATE) : int((loud_at + 1) * RATE)] *= 20
    soundfile.write(path, audio, RATE)
    return Source(path, path.name)


def test_the_loudest_stretch_holds_what_is_loud(tmp_path):
    file = probe(write(tmp_path / "a.wav", 10, loud_at=6).path)
    (found,) = loudest(file, 1, 2.0)
    assert 5 <= found <= 6
    quiet, loud = loudest(file, 2, 2.0)
    assert (0 <= quiet <= 3, 5 <= loud <= 6) == (True, True)
    assert loudest(file, 5, 2.0) == [0.0, 2.0, 4.0, 6.0, 8.0]  # parts as short as a stretch: all of them
    # Parts from 0, 2.5, 5 and 7.5 s on: 0.1 s longer than a stretch, so no other step fits.
    assert loudest(file, 4, 2.4) == [0.0, 2.5, 5.0, 7.5]


def test_a_recording_is_read_once_for_all_its_stretches(tmp_path, monkeypatch):
    source, opened = write(tmp_path / "a.wav", 10), []
    read = soundfile.SoundFile.__init__
    monkeypatch.setattr(soundfile.SoundFile, "__init__", lambda *a, **k: (opened.append(a), read(*a, **k))[1])
    loudest(probe(source.path), 3, 2.0)
    assert len(opened) <= 2  # its header, and its samples


def test_excerpts_are_spread_over_the_recordings(tmp_path):
    sources = [write(tmp_path / f"{i}.wav", 1) for i in range(9)]
    found = choose_excerpts(sources, 3, 6.0)
    assert [excerpt.place for excerpt in found] == [(f"{i}.wav", 0.0, 1.0) for i in (1, 4, 7)]


def test_few_recordings_give_several_stretches_each_where_they_are_long_enough(tmp_path):
    sources = [write(tmp_path / "long.wav", 12, loud_at=8), write(tmp_path / "short.wav", 2.5)]
    found = choose_excerpts(sources, 6, 2.0)
    assert [excerpt.recording for excerpt in found] == ["long.wav"] * 3 + ["short.wav"]
    for i, excerpt in enumerate(found[:3]):
        assert 4 * i <= excerpt.start_s <= 4 * i + 2  # within its third
        assert excerpt.duration_s == 2.0
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    assert choose_excerpts([Source(tmp_path / "bad.wav", "bad.wav")], 6, 2.0) == []
