"""Manifests: whose lines are understood, what is said of wrong ones, and stretches of files."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from discrete_ae.data import AudioDataModule, AudioFile, read_audio, read_manifest, stream_audio, write_manifest
from discrete_ae.data.crops import CropSettings, Packed, TrainingCrops
from discrete_ae.data.files import probe, signs
from discrete_ae.errors import DataError, UsageError, from_system
from tests.recordings import write_noise

RATE = 16000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Ten recordings of a quarter of a second each, below audio/."""
    for k in range(10):
        write_noise(tmp_path / f"audio/{k}.wav", 4000 + k)
    return tmp_path


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def line(path: str = "audio/0.wav", **fields: object) -> dict[str, object]:
    return {"path": path, "duration": 0.25, "sample_rate": RATE, "channels": 1, **fields}


def test_a_line_says_all_and_what_is_more_is_kept(corpus):
    given = line(start=0.05, end=0.2, duration=0.15, weight=2.5, split="dev-clean", text="hello", speaker={"id": 3})
    (file,) = read_manifest(written(corpus / "m.jsonl", given, ""))
    assert (file.path, file.sample_rate, file.channels) == (corpus / "audio/0.wav", RATE, 1)
    assert (file.first_frame, file.num_frames, file.weight, file.split) == (800, 2400, 2.5, "validation")
    assert file.known == {"text": "hello", "speaker": {"id": 3}}


def test_headers_are_read_where_a_line_says_too_little(corpus):
    absolute = str(corpus / "audio/1.wav")
    given = {"path": "audio/0.wav"}, {"path": absolute, "start": 0.1}, {"path": "audio/2.wav", "end": 0.1}
    whole, late, early = read_manifest(written(corpus / "m.jsonl", *given))
    assert whole == probe(corpus / "audio/0.wav")
    assert (late.first_frame, late.num_frames) == (1600, 4001 - 1600)
    assert (early.first_frame, early.num_frames) == (0, 1600)


def test_lines_of_nemo_and_lhotse_are_understood(corpus):
    nemo = {"audio_filepath": "audio/0.wav", "duration": 0.1, "offset": 0.05, "text": "hi"}
    source = {"type": "file", "channels": [0], "source": str(corpus / "audio/1.wav")}
    other = {"type": "file", "channels": [1], "source": str(corpus / "audio/2.wav")}
    recording = {"id": "r", "sources": [other, source], "sampling_rate": RATE, "num_samples": 4001, "duration": 0.250}
    cut = {"id": "c", "start": 0.125, "duration": 0.0625, "channel": 0, "recording": recording, "type": "MonoCut"}
    whole = {**recording, "sources": [{**source, "source": "audio/3.wav"}]}
    path = corpus / "cuts.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, (nemo, cut, whole))).encode()))
    found = [(file.path.name, file.first_frame or 0, file.num_frames) for file in read_manifest(path)]
    assert found == [("0.wav", 800, 1600), ("1.wav", 2000, 1000), ("3.wav", 0, 4001)]
    assert [file.known.get("id") for file in read_manifest(path)] == [None, "c", "r"]


def test_own_fields_may_have_the_names_of_lhotse(corpus):
    own = {"recording": "session-12", "sources": 2, "tracks": ["left"]}
    for name in ("path", "audio_filepath"):
        (file,) = read_manifest(written(corpus / "m.jsonl", {name: "audio/0.wav", **own}))
        assert (file.path.name, file.known) == ("0.wav", own)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (line(duration=-2), "duration: expected a number above 0, got -2"),
        (line(duration="2"), "duration: expected a number above 0, got '2'"),
        (line(duration=float("nan")), "duration: expected a number above 0, got nan"),
        ({"audio_filepath": "audio/0.wav", "offset": -1}, "offset: expected a number of seconds, 0 or above, got -1"),
        (line(sample_rate=7), "sample_rate: expected a sample rate in whole Hz, got 7"),
        (line(channels=0), "channels: expected a whole number above 0, got 0"),
        (line(weight=0), r"weight: expected a number above 0, up to 1e9 \(remove a line .*\), got 0"),
        (line(duration=1e300), "duration: expected less than"),
        (line(group=3), "group: expected a text, got 3"),
        (
            line(split="left"),
            r"split: expected train \(or training\), validation \(or valid, val, dev\), test, got 'left'",
        ),
        (line(split=3), r"split: expected train \(or training\), validation \(or valid, val, dev\), test, got 3"),
        (line(start=0.2, end=0.1), "end: expected more than the start 0.2, got 0.1"),
        (line("audio/none.wav"), "path: no such file, .*/audio/none.wav"),
        (line("audio"), "path: expected a file, got a folder, .*/audio; discrete-ae index"),
        (line("a\0b.wav"), "path: no such file"),
        (line(path=3), "path: expected the path of a file, got 3"),
        ({"duration": 1.0}, "path: expected the path of a file, got nothing"),
        (line(num_bytes=3), "path: .*/audio/0.wav is not the file that was indexed; index it again"),
        ({"path": "audio/0.wav", "start": 5}, "start: expected less than the 0.25 s of the file, got 5"),
        ({"path": "audio/0.wav", "channels": 2}, "channels: expected 1, as in the file, got 2"),
        ({"path": "notes.txt"}, ".*notes.txt: not readable as audio"),
        ("{", "expected a JSON object, got '{'"),
        ("[1]", r"expected a JSON object, got '\[1\]'"),
        ({"id": "c", "type": "MixedCut", "tracks": []}, ".*expected .*Recording, or a MonoCut .*, got MixedCut"),
    ],
)
def test_a_wrong_line_is_told_by_its_number(corpus, wrong, said):
    (corpus / "notes.txt").write_text("no audio")
    path = written(corpus / "m.jsonl", line(), "", wrong, line("audio/1.wav"))
    with pytest.raises(DataError, match=f"^{path}:3: {said}") as caught:
        read_manifest(path)
    assert "more" not in str(caught.value).removeprefix(str(path)).replace("more than", "")
    assert "\n" not in str(caught.value)


def test_of_several_wrong_lines_the_first_is_told_and_the_others_counted(corpus):
    path = written(corpus / "m.jsonl", line(), line("none.wav"), line(duration=0), line(), "x")
    with pytest.raises(DataError, match=r":2: path: no such file, .*; 2 more lines cannot be used"):
        read_manifest(path)
    for content in (b"", b"\n\n", b"\xff\xfe", gzip.compress(b"{}")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"^{path}: .*give a manifest"):
            read_manifest(path)


def test_a_damaged_gzip_file_is_refused_in_one_line(corpus):
    content = bytearray(gzip.compress(b"{}"))
    content[10] |= 0b110  # type 3 of the first block, which does not exist
    (corpus / "m.jsonl.gz").write_bytes(content)
    with pytest.raises(DataError, match=rf"^{corpus}/m\.jsonl\.gz: expected a complete gzip file \([^\n]*; give"):
        read_manifest(corpus / "m.jsonl.gz")


def test_a_folder_in_place_of_a_manifest_is_said_to_be_one(corpus):
    with pytest.raises(OSError) as refused:
        read_manifest(corpus)
    told = str(from_system(refused.value))
    assert told == f"{corpus}: Is a directory; expected a file in its place; give another path"


def test_what_is_written_is_read_again(corpus, tmp_path):
    path = corpus / "audio/0.wav"
    path.write_bytes(path.read_bytes()[:5000])  # cut off
    name = os.fsdecode(b"audio/caf\xe9.wav")
    (corpus / "audio/1.wav").rename(corpus / name)
    odd = Path(corpus / "audio/2.wav")
    odd.write_bytes(odd.read_bytes()[:40] + bytes(4) + odd.read_bytes()[44:])  # a length of 0: read by pieces
    files = [probe(path), probe(odd), probe(corpus / name)]
    assert files[0].doubt
    assert files[1].pieces
    stamps = signs([file.place for file in files])
    for place in (corpus / "m.jsonl", tmp_path / "elsewhere.jsonl"):
        write_manifest(place, files, stamps)
        assert read_manifest(place) == files
    assert '"audio/0.wav"' in (corpus / "m.jsonl").read_text()


@pytest.mark.parametrize(("rate", "speed"), [(RATE, 1.0), (8000, 1.0), (22050, 1.0), (RATE, 1.25)])
@pytest.mark.parametrize("name", ["x.wav", "x.flac"])
def test_a_stretch_is_read_as_a_file_of_these_samples(tmp_path, name, rate, speed):
    audio, _ = soundfile.read(write_noise(tmp_path / "all.wav", 20_000), dtype="int16")
    soundfile.write(tmp_path / name, audio, RATE)
    soundfile.write(tmp_path / "part.wav", audio[6000:13_000], RATE)
    (stretch,) = read_manifest(written(tmp_path / "m.jsonl", line(name, start=0.375, duration=0.4375)))
    part = probe(tmp_path / "part.wav")
    assert stretch.num_frames == part.num_frames == 7000
    for start_s, duration_s in ((0.0, None), (0.1, 0.2), (0.3, 1.0)):
        found = read_audio(stretch, rate, 1, start_s, duration_s, speed=speed)
        assert np.array_equal(found, read_audio(part, rate, 1, start_s, duration_s, speed=speed))
    assert np.array_equal(*(np.concatenate(list(stream_audio(one, rate)), axis=1) for one in (stretch, part)))


def test_durations_may_be_rounded_and_a_file_that_is_much_shorter_is_refused(corpus):
    rounded, wrong = read_manifest(
        written(corpus / "m.jsonl", line("audio/1.wav", duration=0.26), line("audio/2.wav", duration=2.5))
    )
    assert read_audio(rounded, RATE).shape == (1, 4160)
    with pytest.raises(DataError, match=r"2\.wav: "):
        read_audio(wrong, RATE)


def module(**settings: object) -> AudioDataModule:
    rest = {"root": None, "validation_root": None, "sample_rate": RATE, "channels": 1, "crop_seconds": 0.1}
    return AudioDataModule(**{**rest, "batch_size": 2, **settings})


def names(files: list[AudioFile]) -> list[str]:
    return [file.path.name for file in files]


def test_a_manifest_of_a_folder_splits_as_the_folder_and_gives_the_same_crops(corpus):
    by_folder = module(root=str(corpus / "audio"))
    by_folder.setup()
    files = sorted((corpus / "audio").iterdir())
    path = corpus / "audio/m.jsonl"
    write_manifest(path, map(probe, files), signs(list(map(str, files))))
    by_manifest = module(manifest=str(path))
    by_manifest.setup()
    assert by_manifest.train_files == by_folder.train_files
    assert by_manifest.validation_files == by_folder.validation_files
    for number in range(20):
        assert by_manifest.training_crops[number].equal(by_folder.training_crops[number])
    assert names(by_manifest.validation_files) == [name for name, _ in by_manifest.clips(9)]


def test_stretches_of_a_file_are_on_one_side(corpus):
    lines = [line(f"audio/{k}.wav", start=start, duration=0.1) for k in range(3) for start in (0, 0.1)]
    data = module(manifest=str(written(corpus / "m.jsonl", *lines)), validation_fraction=0.5)
    data.setup()
    assert len(data.train_files) + len(data.validation_files) == 6
    assert not set(names(data.train_files)) & set(names(data.validation_files))
    with pytest.raises(DataError, match=r"at least 2 audio files .*got 1;"):
        module(manifest=str(written(corpus / "m.jsonl", *lines[:2]))).setup()


def test_recordings_of_a_group_are_on_one_side(corpus):
    """The SHA-256 of "b" begins with 3e23e8, 0.24 of the whole, that of "a" with ca9781, 0.79."""
    lines = [line(f"audio/{k}.wav", group="ab"[k % 2]) for k in range(10)]
    path = written(corpus / "m.jsonl", *lines)
    write_manifest(path, read_manifest(path))
    data = module(manifest=str(path), validation_fraction=0.5)
    data.setup()
    assert names(data.validation_files) == [f"{k}.wav" for k in (1, 3, 5, 7, 9)]
    assert names(data.train_files) == [f"{k}.wav" for k in (0, 2, 4, 6, 8)]
    with pytest.raises(DataError, match=r"at least 2 groups .*got 1;"):
        module(manifest=str(written(corpus / "m.jsonl", *lines[::2]))).setup()


def test_the_field_split_decides(corpus):
    sides = ["train", "dev", "train-clean-100", "test-other", None, "valid"]
    lines = [line(f"audio/{k}.wav", **({"split": side} if side else {})) for k, side in enumerate(sides)]
    path = written(corpus / "m.jsonl", *lines)
    data = module(manifest=str(path))
    data.setup()
    assert names(data.train_files) == ["0.wav", "2.wav", "4.wav"]
    assert names(data.validation_files) == ["1.wav", "5.wav"]
    other = written(corpus / "v.jsonl", line("audio/0.wav"), line("audio/9.wav"))
    data = module(manifest=[str(path)], validation_manifest=str(other))
    data.setup()
    assert names(data.train_files) == ["2.wav", "4.wav"]  # neither 0, which validates, nor what is not to be trained on
    assert names(data.validation_files) == ["0.wav", "9.wav"]
    for side, lack in (("train", "validation"), ("dev", "train")):
        one_sided = written(corpus / "m.jsonl", line(split=side), line("audio/1.wav", split=side))
        with pytest.raises(DataError, match=f"no line is of split {lack}"):
            module(manifest=str(one_sided)).setup()


def test_what_is_of_the_test_neither_trains_nor_validates(corpus):
    lines = [line(f"audio/{k}.wav", split="test") for k in range(8)]
    path = written(corpus / "m.jsonl", *lines, line("audio/8.wav"), line("audio/9.wav"))
    data = module(manifest=str(path))  # split by hash: no other line says a side
    data.setup()
    assert sorted(names([*data.train_files, *data.validation_files])) == ["8.wav", "9.wav"]
    data = module(manifest=str(path), validation_manifest=str(written(corpus / "v.jsonl", line("audio/9.wav"))))
    data.setup()
    assert names(data.train_files) == ["8.wav"]
    with pytest.raises(DataError, match=r"m\.jsonl: every line is of split test"):
        module(manifest=str(written(corpus / "m.jsonl", *lines))).setup()


def test_validation_takes_only_what_it_has_in_common_from_training(corpus):
    train = written(corpus / "t.jsonl", *(line(start=start, duration=0.05) for start in (0, 0.1, 0.2)))
    validation = written(corpus / "v.jsonl", line(start=0.12, duration=0.05))
    data = module(manifest=str(train), validation_manifest=str(validation))
    data.setup()
    assert [file.first_frame for file in data.train_files] == [0, 3200]


def test_the_draw_is_by_duration_times_weight(corpus):
    files = read_manifest(
        written(
            corpus / "m.jsonl", line(duration=0.05), line("audio/1.wav", duration=0.1, weight=3), line("audio/2.wav")
        )
    )
    crops = TrainingCrops(files, CropSettings(sample_rate=RATE, channels=1, crop_seconds=0.01))
    assert np.allclose(crops._ends, [0.05, 0.35, 0.6])
    assert list(Packed(files)) == files


def test_limits_leave_out_of_training_alone(corpus):
    lines = [line(f"audio/{k}.wav", duration=0.02 * (k + 1), bandwidth_hz=1000 * k, split="train") for k in range(8)]
    path = str(written(corpus / "m.jsonl", *lines, line("audio/9.wav", duration=0.01, split="dev")))
    limits = {"min_seconds": 0.05, "max_seconds": 0.15, "min_bandwidth_hz": 4000}
    data = module(manifest=path, **limits)
    data.setup()
    assert names(data.train_files) == ["4.wav", "5.wav", "6.wav"]
    assert names(data.validation_files) == ["9.wav"]
    # Of 0.02 to 0.16 s, all 8 to train on: 2 are shorter than 0.05 s, 5 longer than 0.07 s, and one is of 2000 Hz.
    limits = {"min_seconds": 0.05, "max_seconds": 0.07, "min_bandwidth_hz": 4000}
    told = r"none of 8 files .* 2 by data\.min_seconds=0\.05, 5 by data\.max_seconds=0\.07, 1 by .*bandwidth_hz=4000;"
    with pytest.raises(DataError, match=told):
        module(manifest=path, **limits).setup()
    with pytest.raises(DataError, match=r"none of 8 files .* 8 by data\.min_seconds=9;"):
        module(manifest=path, min_seconds=9).setup()


def test_a_bandwidth_that_was_not_measured_is_asked_for(corpus):
    with pytest.raises(DataError, match=rf"discrete-ae index {corpus}/audio -o measured.jsonl --measure"):
        module(root=str(corpus / "audio"), min_bandwidth_hz=4000).setup()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"root": "/a", "manifest": "m.jsonl"}, r"data\.manifest: .*data\.root"),
        (
            {"manifest": "m", "validation_root": "/a", "validation_manifest": "m"},
            r"data\.validation_manifest: .*data\.",
        ),
        ({"manifest": []}, r"data\.manifest: "),
        ({"manifest": ""}, r"data\.manifest"),
        ({"validation_manifest": "m.jsonl"}, r"data\.validation_manifest: .*data\.manifest"),
    ],
)
def test_one_source_is_given(settings, said):
    with pytest.raises(UsageError, match=said):
        module(**settings)
