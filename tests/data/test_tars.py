"""Recordings in tars: against the same files on disk, and what is said of tars that are damaged."""

import errno
import gzip
import io
import itertools
import json
import logging
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from discrete_ae.build import training_recordings, validation_recordings
from discrete_ae.data import (
    AudioDataModule,
    AudioFile,
    TrainingCrops,
    ValidationSegments,
    containers,
    find_audio,
    headers,
    read_audio,
    read_manifest,
    write_manifest,
)
from discrete_ae.data.crops import CropSettings
from discrete_ae.data.datamodule import TrainingBatches
from discrete_ae.data.files import name_of, signs
from discrete_ae.data.index import index
from discrete_ae.data.reading import stream_audio
from discrete_ae.data.shards import write_shards
from discrete_ae.data.tars import members
from discrete_ae.data.workers import AudioLoader
from discrete_ae.errors import DataError, UsageError

RATE = 16000
FORMATS = {
    "wav": {"subtype": "PCM_16"},
    "flac": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "mp3": {},
}


def encoded(suffix: str, seconds: float, seed: int = 0, rate: int = RATE) -> bytes:
    content = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate))
    soundfile.write(content, noise, rate, **{"format": suffix.upper(), **FORMATS[suffix]})
    return content.getvalue()


def without_tag(mp3: bytes) -> bytes:
    """From the second frame on: nothing says how many follow. All frames of these begin alike."""
    return mp3[mp3.index(mp3[:2], 4) :]


def with_other_serial(ogg: bytes) -> bytes:
    """Another stream to a reader that looks at serial numbers; none looks at the checksum before it meets the page."""
    return ogg.replace(ogg[14:18], bytes(4))


def recordings() -> dict[str, bytes]:
    """Return recordings of every format, and of every kind that is read in pieces."""
    files = {f"{suffix}/{n}.{suffix}": encoded(suffix, 1 + n, n) for suffix in FORMATS for n in range(2)}
    wav, mp3 = encoded("wav", 2, 7), encoded("mp3", 3, 8)
    files["pieces/length_0.wav"] = wav[:40] + bytes(4) + wav[44:]
    files["pieces/too_long.wav"] = wav[:40] + (10**6).to_bytes(4, "little") + wav[44:]
    files["pieces/no_tag.mp3"] = without_tag(mp3)
    files["pieces/two.mp3"] = mp3 + encoded("mp3", 2, 9)
    files["pieces/chained.ogg"] = encoded("ogg", 1, 1) + encoded("ogg", 2, 2)
    files["pieces/cut.opus"] = encoded("opus", 3, 3)[:20_000]
    return files


def write_tar(path: Path, files: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


@pytest.fixture
def both(tmp_path) -> tuple[list[AudioFile], list[AudioFile]]:
    """The same recordings in a folder and in a tar, between other things and in another order."""
    files = recordings()
    shuffled = dict(sorted(files.items(), key=lambda one: one[1]))
    sidecars = {"wav/0.json": b"{}", "wav/0.txt": b"words", ".hidden.wav": b"", "a/._b.wav": b"", "README": b"x" * 700}
    tar = write_tar(tmp_path / "x.tar", {**sidecars, **shuffled})
    return find_audio(write_folder(tmp_path / "folder", files)).files, index(tar).files


def test_members_are_found_as_the_files_of_a_folder_are(tmp_path, both):
    on_disk, in_tar = both
    assert len(on_disk) == len(recordings())
    assert [name_of(one, tmp_path / "folder") for one in on_disk] == [one.member for one in in_tar]
    for disk, tar in zip(on_disk, in_tar, strict=True):
        assert (tar.sample_rate, tar.channels, tar.num_frames) == (disk.sample_rate, disk.channels, disk.num_frames)
        assert tar.doubt == disk.doubt
        assert tar.path == tmp_path / "x.tar"
        assert tar.name == f"{tmp_path}/x.tar/{tar.member}"
        assert name_of(tar, tmp_path) == f"x.tar/{tar.member}"


def test_reading_a_member_is_reading_the_file_bit_for_bit(both):
    for disk, tar in zip(*both, strict=True):
        for rate, start_s, duration_s in ((RATE, 0.0, None), (RATE, 0.7, 0.2), (RATE, 0.3, 9.0), (22050, 0.31, 0.5)):
            expected = read_audio(disk, rate, None, start_s, duration_s)
            assert expected.any()
            assert np.array_equal(read_audio(tar, rate, None, start_s, duration_s), expected), tar.name
        streamed = zip(stream_audio(disk, RATE), stream_audio(tar, RATE), strict=True)
        assert all(np.array_equal(one, other) for one, other in streamed)


def crops_of(files: list[AudioFile], **changes: object) -> TrainingCrops:
    return TrainingCrops(files, CropSettings.of({"sample_rate": RATE, "channels": 1, "crop_seconds": 0.25, **changes}))


def test_crops_and_segments_are_those_of_the_files(both):
    on_disk, in_tar = map(crops_of, both)
    assert all(torch.equal(on_disk[number], in_tar[number]) for number in range(100))
    on_disk, in_tar = (ValidationSegments(files, on_disk.settings, 20) for files in both)
    assert len(in_tar) == 20
    assert all(torch.equal(on_disk[number], in_tar[number]) for number in range(20))


def test_a_run_over_tars_resumes_with_another_number_of_workers(tmp_path):
    tars = [
        write_tar(
            tmp_path / f"{n}.tar", {f"{k}.{suffix}": encoded(suffix, 1 + k, n) for k, suffix in enumerate(FORMATS)}
        )
        for n in range(2)
    ]
    crops = crops_of([file for tar in tars for file in index(tar).files])

    def batches(workers: int, first: int) -> list[torch.Tensor]:
        return list(AudioLoader(crops, batch_sampler=TrainingBatches(4, first=first, total=6), num_workers=workers))

    undisturbed = batches(0, 0)
    resumed = [*itertools.islice(batches(2, 0), 3), *batches(1, 3)]
    assert len(resumed) == 6
    assert all(torch.equal(one, other) for one, other in zip(undisturbed, resumed, strict=True))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_places_are_those_of_the_archive(tmp_path, format):
    long = "a" * 90 + "/" + "b" * (90 if format == tarfile.USTAR_FORMAT else 400) + "/x.wav"
    files = {long: b"first", "./dot/ü.flac": b"x" * 1000, "empty.wav": b""}
    found = list(members(write_tar(tmp_path / "x.tar", files, format)))
    content = (tmp_path / "x.tar").read_bytes()
    assert {one.name: content[one.piece.start : one.piece.stop] for one in found} == {
        long: b"first",
        "dot/ü.flac": b"x" * 1000,
        "empty.wav": b"",
    }


def test_folders_and_links_in_a_tar_are_no_recordings(tmp_path):
    write_folder(tmp_path / "folder", {"a/x.wav": encoded("wav", 1)})
    (tmp_path / "folder/a/link.wav").symlink_to("x.wav")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "folder", ".")
    assert [one.member for one in index(tmp_path / "x.tar").files] == ["a/x.wav"]


def refused(path: Path, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        index(path)
    assert str(caught.value).startswith(f"{path}")
    assert "\n" not in str(caught.value)


def test_tars_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    whole = write_tar(tmp_path / "x.tar", {"a.wav": encoded("wav", 1), "b.wav": encoded("wav", 2)}).read_bytes()
    start = list(members(tmp_path / "x.tar"))[1].piece.start
    bad = tmp_path / "bad.tar"

    def refused_content(content: bytes, words: str) -> None:
        bad.write_bytes(content)
        refused(bad, words)

    refused(tmp_path / "none.tar", "no such file")
    refused_content(b"", "not a tar, or truncated")
    refused_content(b"text" * 1000, "not a tar, or truncated")
    refused_content(bytes(10240), "an empty tar")
    refused_content(whole[: start + 1000], "truncated")  # in a file
    refused_content(whole[: start - 300], "truncated")  # in a header
    broken = bytearray(whole)
    broken[start - 512 : start - 500] = b"\xff" * 12
    refused_content(bytes(broken), f"damaged or truncated at byte {start - 512}")
    refused_content(gzip.compress(whole), "compressed, .*decompress it")
    refused(write_tar(bad, {"a.txt": b"words", "b.json": b"{}"}), "none of the 2 files in it is audio")


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [-(2**40), -512, -1, 2**40, 2**80])
def test_a_member_of_an_impossible_size_is_refused_in_one_line(tmp_path, kind, size):
    """A size of -512 bytes leads from the end of the header back to its beginning."""
    fields = tarfile.TarInfo("b.wav")
    fields.type = kind
    header = bytearray(fields.tobuf(tarfile.GNU_FORMAT))
    # A number in base 256 begins with the byte 0x80, or with 0xFF if it is negative.
    header[124:136] = (b"\xff" if size < 0 else b"\x80") + (size % 256**11).to_bytes(11)
    header[148:156] = b"%06o\0 " % sum(header[:148] + b" " * 8 + header[156:])
    first = write_tar(tmp_path / "a.tar", {"a.wav": bytes(600)}).read_bytes()[: 512 + 1024]
    (tmp_path / "bad.tar").write_bytes(first + header + bytes(1024))

    with pytest.raises(DataError, match=r"^\S+bad\.tar: [^\n(]*truncated[^\n]*; fetch or write it again$"):
        list(itertools.islice(members(tmp_path / "bad.tar"), 10))


def test_members_that_cannot_be_read_are_left_out_and_named(tmp_path, caplog):
    tar = write_tar(tmp_path / "x.tar", {"a.wav": b"words", "b.wav": encoded("wav", 1), "c.flac": b""})
    for _ in range(2):  # and again, of what is kept
        found = index(tar)
        assert [one.member for one in found.files] == ["b.wav"]
        assert {name: str(error).partition(";")[0] for name, error in found.errors.items()} == {
            name: f"{name}: not readable as audio" for name in (f"{tar}/a.wav", f"{tar}/c.flac")
        }
    scan = find_audio(tmp_path)
    assert [one.member for one in scan.files] == ["b.wav"]
    assert scan.skipped == ["x.tar/a.wav", "x.tar/c.flac"]
    (record,) = (one for one in caplog.records if one.levelno >= logging.WARNING)
    assert record.getMessage() == f"{tmp_path}: skipped 2 files, unreadable or empty: x.tar/a.wav, x.tar/c.flac"
    with pytest.raises(DataError, match=r"x\.tar/a\.wav: not readable as audio"):
        find_audio(tmp_path, strict=True)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_a_member_that_is_damaged_meanwhile_is_named_and_replaced(tmp_path, suffix, cut, caplog):
    names = [f"{k}.{suffix}" for k in range(4)]
    contents = {name: encoded(suffix, 2, k) for k, name in enumerate(names)}
    tar = write_tar(tmp_path / "x.tar", contents)
    files = index(tar).files
    undisturbed = crops_of(files)
    before = [undisturbed[number] for number in range(30)]
    bad = files[3 if cut else 1]
    start, stop = bad.pieces[0].start, bad.pieces[0].stop
    with tar.open("r+b") as file:
        if cut:
            file.truncate(start + 1000)
        else:
            file.seek(start)
            file.write(bytes(stop - start))
    crops, again = crops_of(files), crops_of(files)
    after = [crops[number] for number in range(30)]
    (record,) = (one for one in caplog.records if one.levelno >= logging.WARNING)
    assert f"(1 so far): {tar}/{bad.member}: " in record.getMessage()
    same = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert 15 <= sum(same) < 30  # a quarter of the draws falls on the damaged one
    assert all(torch.equal(again[number], after[number]) for number in reversed(range(30)))
    with pytest.raises(DataError, match=bad.name):
        [crops_of(files, strict=True)[number] for number in range(30)]


def test_what_the_system_says_while_libsndfile_reads_is_told_and_not_printed(tmp_path, monkeypatch, capfd):
    (file,) = index(write_tar(tmp_path / "x.tar", {"a.flac": encoded("flac", 2)})).files

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("discrete_ae.data.containers.open_at", lambda path: Failing())
    with pytest.raises(DataError, match=r"x\.tar/a\.flac: cannot be read \(Input/output error\)"):
        read_audio(file, RATE)
    assert capfd.readouterr().err == ""


def module(**settings: object) -> AudioDataModule:
    rest = {"root": None, "validation_root": None, "sample_rate": RATE, "channels": 1, "crop_seconds": 0.1}
    data = AudioDataModule(**{**rest, "batch_size": 2, "validation_fraction": 0.3, **settings})
    data.setup()
    return data


@pytest.fixture
def corpus(tmp_path) -> tuple[Path, Path]:
    """A folder of 24 recordings of two speakers, and one of three tars of it."""
    suffixes = itertools.cycle(FORMATS)
    names = [f"{speaker}/{n:02}.{next(suffixes)}" for speaker in ("ann", "bob") for n in range(12)]
    files = {name: encoded(Path(name).suffix[1:], 0.2 + n / 20, n) for n, name in enumerate(names)}
    folder = write_folder(tmp_path / "folder", files)
    assert len(write_shards(folder, tmp_path / "shards", 150_000).shards) == 3
    return folder, tmp_path / "shards"


def manifest_of(path: Path, *places: Path | str) -> Path:
    files = index(places).files
    write_manifest(path, files, signs([file.place for file in files]))
    return path


def changed_time(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


@pytest.mark.parametrize("balance", ["duration", "folder"])
def test_tars_split_and_train_as_the_folder_that_they_are_made_of(tmp_path, corpus, balance):
    folder, shards = corpus
    path = manifest_of(tmp_path / "m.jsonl", *sorted(shards.iterdir()))
    expected = module(root=str(folder), balance=balance)
    assert len(expected.validation_files) > 1
    for tars in (module(root=str(shards), balance=balance), module(manifest=str(path), balance=balance)):
        assert len(tars.train_files) == len(expected.train_files)
        assert [one.member for one in tars.validation_files] == [
            name_of(one, folder) for one in expected.validation_files
        ]
        assert all(torch.equal(tars.training_crops[number], expected.training_crops[number]) for number in range(50))
        segments, others = tars.validation_segments, expected.validation_segments
        assert all(torch.equal(segments[number], others[number]) for number in range(len(others)))
        assert len(segments) == len(others)
        names = [f"{Path(one.place).name}/{one.member}" for one in tars.validation_files]
        assert [name for name, _ in tars.clips(99)] == names


def test_tars_beside_recordings_are_what_these_were_unpacked_from(corpus, caplog):
    folder, shards = corpus
    (shards / "shard-000000.tar").rename(folder / "all.tar")
    assert all(not file.member for file in find_audio(folder).files)
    assert len(index(folder).files) == 24


def test_a_bad_tar_of_a_folder_is_named_and_left_out(corpus, caplog):
    _, shards = corpus
    write_tar(shards / "words.tar", {"a.txt": b"words"})
    scan = find_audio(shards)
    assert (len(scan.files), scan.skipped) == (24, ["words.tar"])
    (record,) = (one for one in caplog.records if one.levelno >= logging.WARNING)
    assert record.getMessage().startswith(f"Skipped: {shards}/words.tar: none of the 1 files in it is audio")
    assert index(shards).errors.keys() == {str(shards / "words.tar")}
    with pytest.raises(DataError, match=r"words\.tar: none of the 1 files in it is audio"):
        find_audio(shards, strict=True)
    for path in shards.glob("shard*"):
        path.unlink()
    with pytest.raises(DataError, match=r"words\.tar: none of the 1 files in it is audio"):
        find_audio(shards)


def test_what_is_known_of_a_tar_is_kept_until_it_changes(corpus, monkeypatch):
    _, shards = corpus
    opened: list[str] = []
    found = headers.audio_members
    monkeypatch.setattr(headers, "audio_members", lambda tar: (opened.append(Path(tar).name), found(tar))[1])
    first = find_audio(shards)
    assert len(opened) == 3
    assert find_audio(shards) == first
    assert index(sorted(shards.iterdir())).files == first.files
    assert len(opened) == 3
    changed_time(shards / "shard-000001.tar")
    assert find_audio(shards) == first
    assert opened[3:] == ["shard-000001.tar"]


def test_a_failure_of_the_disk_is_not_kept_as_one_of_the_recording(corpus, monkeypatch):
    _, shards = corpus

    def fail(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(containers, "open_at", fail)
        with pytest.raises(DataError, match=rf"\({os.strerror(errno.EIO)}\)"):
            find_audio(shards, strict=True)
    assert len(find_audio(shards, strict=True).files) == 24


def test_a_manifest_says_where_members_lie(tmp_path, corpus, monkeypatch):
    _, shards = corpus
    path = manifest_of(tmp_path / "m.jsonl", shards)
    files = read_manifest(path)
    assert files == index(shards).files
    lines = list(map(json.loads, path.read_text().splitlines()))
    assert (lines[0]["path"], lines[0]["member"]) == ("shards/shard-000000.tar", "ann/00.wav")
    # A line by hand: a stretch of one, whose place is found.
    tar, member = files[0].place, files[0].member
    by_hand = tmp_path / "hand.jsonl"
    whole = {"path": tar, "member": member}
    stretch = {**whole, "start": 0.05, "duration": 0.1, "sample_rate": RATE, "channels": 1}
    by_hand.write_text(f"{json.dumps(whole)}\n{json.dumps(stretch)}\n")
    one, part = read_manifest(by_hand)
    assert one == files[0]
    assert np.array_equal(read_audio(part, RATE), read_audio(one, RATE, None, 0.05, 0.1))
    # Copied, which changes its time: it is looked into once, and taken.
    changed_time(Path(tar))
    assert read_manifest(path) == files
    monkeypatch.setattr(headers, "audio_members", lambda tar: pytest.fail("looked into again"))
    assert read_manifest(path) == files


def test_a_tar_that_is_not_the_indexed_one_is_refused_by_the_line(tmp_path):
    contents = {f"{n}.wav": encoded("wav", 1, n) for n in range(3)}
    tar = write_tar(tmp_path / "x.tar", contents)
    path = manifest_of(tmp_path / "m.jsonl", tar)

    def refused_as(number: int, words: str) -> None:
        with pytest.raises(DataError, match=rf"^{path}:{number}: {words}") as caught:
            module(manifest=str(path))
        assert "\n" not in str(caught.value)

    size = tar.stat().st_size
    other = {"0.wav": contents["0.wav"], "2.wav": contents["1.wav"], "1.wav": contents["2.wav"]}
    write_tar(tar, other)  # two have changed places
    changed_time(tar)
    assert tar.stat().st_size == size
    refused_as(2, rf"path: {tar} is not the file that was indexed; index it again; 1 more line")
    write_tar(tar, {"0.wav": contents["0.wav"], "1.wav": encoded("wav", 1, 1, 8000) * 2, "2.wav": contents["2.wav"]})
    refused_as(2, f"path: {tar} is not the file")
    write_tar(tar, {**contents, "3.wav": contents["0.wav"]})  # of another size
    refused_as(1, f"path: {tar} is not the file")
    tar.unlink()
    refused_as(1, f"path: no such file, {tar}")
    write_tar(tar, contents)
    for line, words in (
        (
            {"path": "x.tar"},
            r"member: expected the name of a recording in the tar; discrete-ae index lists its recordings",
        ),
        ({"path": "x.tar", "member": "none.wav"}, rf"member: no recording none\.wav in {tar}"),
        ({"path": "m.jsonl", "member": "0.wav"}, r"path: expected the path of a tar beside member, got m\.jsonl"),
    ):
        path.write_text(json.dumps(line))
        refused_as(1, words)


def test_a_run_over_tars_says_that_it_cannot_be_evaluated_by_itself(corpus):
    _, shards = corpus
    settings = {"root": str(shards), "validation_root": None, "sample_rate": RATE, "channels": 1}
    target = {"_target_": "discrete_ae.data.AudioDataModule", "crop_seconds": 0.1, "batch_size": 2}
    with pytest.raises(UsageError, match=r"expected whole files to validate on, got a part of one, .*\.tar/"):
        validation_recordings({**target, **settings})
    assert training_recordings({**target, **settings}) == []
