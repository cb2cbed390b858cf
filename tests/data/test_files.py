"""Finding, probing and splitting files, and what is said of bad ones."""

import errno
import hashlib
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from discrete_ae.data import AudioFile, containers, find_audio, split_by_hash
from discrete_ae.data.files import SUFFIXES, accept, files_of, probe
from discrete_ae.data.index import index
from discrete_ae.errors import DataError
from discrete_ae.paths import real


def write(path: Path, num_frames: int = 80, sample_rate: int = 8000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # whose name soundfile could not take where it is not UTF-8
        soundfile.write(file, np.zeros((num_frames, channels)), sample_rate, format=path.suffix[1:])


def test_every_format_is_found_at_any_depth_in_order(tmp_path):
    for name in ("b.wav", "a/z.FLAC", "a/b/x.ogg", "a/b/y.mp3", "c.aiff", "d.au", "e.caf", "f.w64", "g.rf64"):
        write(tmp_path / name, 8000)
    soundfile.write(tmp_path / "h.opus", np.zeros(8000), 8000, format="OGG", subtype="OPUS")
    write(tmp_path / ".hidden" / "x.wav")
    write(tmp_path / "._b.wav")
    (tmp_path / "notes.txt").write_text("no audio")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    scan = find_audio(tmp_path)
    assert [file.path.relative_to(tmp_path).as_posix() for file in scan.files] == [
        *("a/b/x.ogg", "a/b/y.mp3", "a/z.FLAC", "b.wav", "c.aiff", "d.au", "e.caf", "f.w64", "g.rf64", "h.opus"),
    ]
    assert scan.skipped == []


def test_bad_files_are_skipped_and_named_in_one_warning(tmp_path, caplog):
    write(tmp_path / "good.wav")
    write(tmp_path / "none.wav", num_frames=0)
    (tmp_path / "text.wav").write_text("this is no audio")
    (tmp_path / "empty.flac").touch()
    scan = find_audio(tmp_path)
    assert [file.path.name for file in scan.files] == ["good.wav"]
    assert scan.skipped == ["empty.flac", "none.wav", "text.wav"]
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert message.startswith(f"{tmp_path}: ")
    assert message.endswith(": empty.flac, none.wav, text.wav")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("a.wav", b"this is no audio", "not readable as audio"), ("a.flac", b"", "empty file")],
)
def test_strict_stops_at_the_first_bad_file(tmp_path, name, content, reason):
    write(tmp_path / "good.wav")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: {reason}"):
        find_audio(tmp_path, strict=True)


def test_a_folder_with_several_links_is_searched_once(tmp_path):
    write(tmp_path / "corpus/speech/a.wav")
    for link in ("b", "c"):
        (tmp_path / "corpus" / link).symlink_to("speech")
    (tmp_path / "corpus/speech/up").symlink_to(tmp_path)
    assert [file.place for file in find_audio(tmp_path / "corpus").files] == [str(tmp_path / "corpus/b/a.wav")]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ESTALE])
def test_a_failure_of_the_system_is_not_told_as_one_of_the_file(tmp_path, monkeypatch, number):
    write(tmp_path / "a.wav")

    def fail(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(containers, "open_at", fail)
    with pytest.raises(DataError, match=rf"^{tmp_path}/a\.wav: cannot be read \({os.strerror(number)}\); check"):
        probe(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("nowhere", "no such folder"),
        ("file.wav", "expected a folder, got a file"),
        ("empty", "no audio files"),
        ("broken", "none of its 1 audio files can be read, e.g. a.wav"),
    ],
)
def test_folders_without_audio_are_refused(tmp_path, root, message):
    write(tmp_path / "file.wav")
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "a.wav").touch()
    with pytest.raises(DataError, match=f"^{tmp_path / root}: {message}"):
        find_audio(tmp_path / root)


def named(*names: str) -> list[AudioFile]:
    return [AudioFile(f"/data/{name}", 8000, 1, 80) for name in sorted(names)]


def test_split_is_by_the_hash_of_the_relative_path():
    names = [f"speaker/{k}.wav" for k in range(20)]
    places = {name: hashlib.sha256(name.encode()).digest()[0] / 256 for name in names}  # to 8 bits
    split = split_by_hash(named(*names), "/data", 0.5)
    assert {f"speaker/{file.path.name}" for file in split.validation} == {n for n in names if places[n] < 0.5}


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
def test_no_side_is_left_empty(fraction):
    for count in (2, 10):
        files = named(*(f"{k}.wav" for k in range(count)))
        split = split_by_hash(files, "/data", fraction)
        assert min(len(split.train), len(split.validation)) == 1
        assert sorted([*split.train, *split.validation], key=lambda file: file.path) == files
    with pytest.raises(DataError, match=r"/data: expected at least 2 audio files .* got 1; .* data\.validation_root"):
        split_by_hash(named("a.wav"), "/data", fraction)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    with pytest.raises(DataError, match=r"x\.wav: .*a pipe or device"):
        probe(tmp_path / "x.wav")
    write(tmp_path / "y.wav")
    assert find_audio(tmp_path).skipped == ["x.wav"]


def test_sample_rates_that_would_take_all_memory_are_refused(tmp_path):
    write(tmp_path / "x.wav", sample_rate=768_001)
    with pytest.raises(DataError, match=r"x\.wav: sample rate: expected .* got 768001"):
        probe(tmp_path / "x.wav")


def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch, caplog):
    write(tmp_path / "a/x.wav")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(path):  # permissions would not stop root
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert [file.path.name for file in find_audio(tmp_path).files] == ["x.wav"]
    assert f"Skipped: {tmp_path / 'closed'}: cannot be read (Permission denied)" in caplog.text
    for refused in (partial(find_audio, tmp_path, strict=True), partial(index, tmp_path / "closed")):
        with pytest.raises(DataError, match=r"closed: cannot be read \(Permission denied\)"):
            refused()


def test_files_of_another_length_than_they_say_are_taken_and_named_or_refused(tmp_path, caplog):
    for number in range(12):
        write(tmp_path / f"{number:02}.wav", 8000)
        if number:
            path = tmp_path / f"{number:02}.wav"
            path.write_bytes(path.read_bytes()[:10_000])
    scan = find_audio(tmp_path)
    assert [file.num_frames for file in scan.files] == [8000] + 11 * [4978]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [Path(line.split(": ")[0]).name for line in warnings[:-1]] == [f"{n:02}.wav" for n in range(1, 11)]
    assert warnings[-1] == f"{tmp_path}: 1 file more with a wrong length in the header"
    with pytest.raises(DataError, match=r"01\.wav: its header says 16000 bytes of samples, the file holds 9956"):
        find_audio(tmp_path, strict=True)


def test_what_ffmpeg_can_convert_is_passed_over_and_named(tmp_path, caplog):
    write(tmp_path / "x.wav")
    for name in ("b.m4a", "a.MP4", ".hidden.m4a", "notes.txt"):
        (tmp_path / name).touch()
    assert len(find_audio(tmp_path).files) == 1
    assert len(files_of(tmp_path, SUFFIXES, [], alone=True)) == 1
    said = f"{tmp_path}: skipped 2 files in unsupported formats; convert the files with sound, for example by "
    said += f"ffmpeg -i {tmp_path}/a.MP4 -vn {tmp_path}/a.flac"
    assert len(files_of(tmp_path, {".wav"}, [], alone=True)) == 1  # of codes, nothing is passed over
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [said, said]


def test_names_that_are_not_utf_8_and_links_to_themselves_are_like_others(tmp_path):
    names = [os.fsdecode(b"caf\xe9.wav"), "a.wav", "b.wav"]
    for name in names:
        write(tmp_path / name)
    (tmp_path / "self.wav").symlink_to("self.wav")
    scan = find_audio(tmp_path)
    assert scan.skipped == ["self.wav"]
    split = split_by_hash(scan.files, tmp_path, 0.5)
    assert {file.path.name for file in (*split.train, *split.validation)} == set(names)
    assert real(tmp_path / "self.wav").name == "self.wav"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("corpus/a/x.wav", "corpus/a/x.txt", "corpus/b/c/y.WAV", "corpus/.hidden/z.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "corpus/b")
    return tmp_path


def kept(path, *, alone=True):
    """Return the paths of an input's files below an output folder; the input must have no problems."""
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


def test_messages_name_a_url_as_it_was_given(tmp_path, monkeypatch):
    url = "https://host/a/speech.m4a"
    with pytest.raises(DataError, match=f"^{url}: too short; "):
        accept(AudioFile(url, 16000, 1, 5, doubt="too short"), strict=True)

    def not_audio(*_):
        raise soundfile.LibsndfileError(1)

    monkeypatch.setattr("discrete_ae.data.files.look_into", not_audio)
    with pytest.raises(DataError, match=f"^{url}: .m4a is not supported; convert it: ffmpeg -i {url} -vn speech.flac$"):
        probe(url)
