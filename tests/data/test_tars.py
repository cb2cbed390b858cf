"""Recordings in tars: against the same files on disk, and what is said of tars that are damaged."""

import gzip
import io
import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from discrete_ae.data import AudioFile, TrainingCrops, ValidationSegments, find_audio, read_audio
from discrete_ae.data.crops import CropSettings
from discrete_ae.data.datamodule import AudioLoader, TrainingBatches
from discrete_ae.data.files import name_of
from discrete_ae.data.index import index
from discrete_ae.data.reading import stream_audio
from discrete_ae.data.tars import members
from discrete_ae.errors import DataError

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
    """Of every format, and of every kind that is read in pieces."""
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
    refused_content(b"", "no tar, or cut off")
    refused_content(b"text" * 1000, "no tar, or cut off")
    refused_content(bytes(10240), "an empty tar")
    refused_content(whole[: start + 1000], "cut off")  # in a file
    refused_content(whole[: start - 300], "cut off")  # in a header
    broken = bytearray(whole)
    broken[start - 512 : start - 500] = b"\xff" * 12
    refused_content(bytes(broken), f"damaged or cut off at byte {start - 512}")
    refused_content(gzip.compress(whole), "compressed, .*unpack it.*discrete-ae shards")
    refused(write_tar(bad, {"a.txt": b"words", "b.json": b"{}"}), "none of the 2 files in it is audio")


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
    (record,) = caplog.records
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
    assert crops.damaged == {bad.name}
    (record,) = caplog.records
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
    with pytest.raises(DataError, match=r"x\.tar/a\.flac: not readable"):
        read_audio(file, RATE)
    assert capfd.readouterr().err == ""
