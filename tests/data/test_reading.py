"""Samples of a part of a file, against the same part of the whole file and against formulas; files cut off."""

import resource
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from discrete_ae.data import match_channels, read_audio, stream_audio
from discrete_ae.data.files import accept, probe
from discrete_ae.data.reading import recorded_whole
from discrete_ae.data.resampling import BLOCK_FRAMES
from discrete_ae.errors import DataError, from_system
from tests.recordings import write_noise


def test_part_at_the_files_own_rate_is_the_slice(tmp_path):
    ramp = np.arange(1000, dtype=np.int16)
    soundfile.write(tmp_path / "a.flac", ramp, 8000)
    # 16-bit samples are multiples of 2^-15 and exact in float32.
    audio = read_audio(tmp_path / "a.flac", 8000, start_s=100 / 8000, duration_s=50 / 8000)
    assert audio.dtype == np.float32
    assert np.array_equal(audio, ramp[None, 100:150] / np.float32(2**15))
    assert read_audio(tmp_path / "a.flac", 8000, start_s=990 / 8000, duration_s=1.0).shape == (1, 10)
    assert read_audio(tmp_path / "a.flac", 8000, start_s=1.0).shape == (1, 0)


@pytest.mark.parametrize(("source_rate", "rate"), [(44100, 16000), (48000, 16000), (22050, 16000), (8000, 44100)])
def test_resampled_part_is_the_part_of_the_resampled_whole(tmp_path, source_rate, rate):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2 * source_rate, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, source_rate, subtype="FLOAT")
    whole = soxr.resample(noise, source_rate, rate).T
    # soxr does not quite treat what lies before the first sample as silence, as we do: the first 5 ms are left out.
    read = read_audio(tmp_path / "a.wav", rate)
    assert read.shape == whole.shape
    assert np.allclose(read[:, rate // 200 :], whole[:, rate // 200 :], atol=1e-5)
    for start_s in (0.5, 1.0, 1.5):  # at these times a sample of the file falls on a sample of the result
        part = read_audio(tmp_path / "a.wav", rate, start_s=start_s, duration_s=0.25)
        start = round(start_s * rate)
        assert part.shape == (2, rate // 4)
        assert np.allclose(part, whole[:, start : start + rate // 4], atol=1e-5)


def test_resampled_tone_keeps_frequency_phase_and_level(tmp_path):
    times = np.arange(44100) / 44100
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * times), 44100, subtype="FLOAT")
    start_s = 12345 / 44100  # between two samples of the result's own grid
    part = read_audio(tmp_path / "a.wav", 16000, 1, start_s, 0.25)[0]
    expected = 0.5 * np.sin(2 * np.pi * 440 * (start_s + np.arange(4000) / 16000))
    assert np.allclose(part, expected, atol=1e-4)


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg"])
@pytest.mark.parametrize(("source_rate", "rate"), [(44100, 16000), (16000, 16000), (8000, 44100)])
def test_blocks_are_the_whole(tmp_path, source_rate, rate, suffix):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2 * BLOCK_FRAMES + 17, 2))
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise, source_rate)
    for channels in (None, 1):
        blocks = list(stream_audio(probe(path), rate, channels))
        assert len(blocks) > 3
        streamed, whole = np.concatenate(blocks, axis=1), read_audio(path, rate, channels)
        assert streamed.shape == whole.shape
        assert np.array_equal(streamed, whole)


def test_channels_are_mixed_or_copied():
    stereo = np.array([[1.0, 3.0], [3.0, -1.0]], dtype=np.float32)
    assert np.array_equal(match_channels(stereo, 1), [[2.0, 1.0]])
    assert np.array_equal(match_channels(stereo[:1], 2), [[1.0, 3.0], [1.0, 3.0]])
    assert match_channels(stereo, None) is stereo
    with pytest.raises(DataError, match="expected 1 or 6 channels, got 2"):
        match_channels(stereo, 6)


def test_samples_that_are_no_numbers_are_refused(tmp_path):
    for bad in (np.nan, -np.inf):
        audio = np.zeros(8000)
        audio[5000] = bad
        soundfile.write(tmp_path / "a.wav", audio, 8000, subtype="FLOAT")
        assert read_audio(tmp_path / "a.wav", 8000, duration_s=0.5).shape == (1, 4000)  # before it, all is well
        for read in READERS:
            with pytest.raises(DataError, match=r"a\.wav: holds NaN or infinite samples"):
                read(tmp_path / "a.wav")


READERS = (lambda path: read_audio(path, 8000), lambda path: list(stream_audio(probe(path), 8000)))
FORMATS = {
    "wav": {"subtype": "PCM_16"},
    "float.wav": {"subtype": "FLOAT"},
    "aiff": {"subtype": "PCM_24"},
    "au": {"subtype": "PCM_16"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {},
    "flac": {},
    "w64": {"subtype": "PCM_16"},
    "caf": {"subtype": "PCM_16"},
}


def noise(path: Path, suffix: str) -> Path:
    """Write 60,000 frames of stereo noise."""
    path = path / f"x.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (60_000, 2)), 48000, **FORMATS[suffix])
    return path


@pytest.mark.parametrize("suffix", sorted(FORMATS.keys() - {"flac", "caf"}))
def test_of_a_recording_that_is_cut_off_all_that_is_there_is_read_and_that_is_said(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (300_000, 2)), 48000, **FORMATS[suffix])
    assert probe(path).doubt is None
    content, whole = path.read_bytes(), read_audio(path, 48000)
    for share in (0.3, 0.6) if suffix == "mp3" else (0.3, 0.6, 0.95):  # the last frames of an MP3 may be missing
        path.write_bytes(content[: int(share * len(content))])
        file, parts = probe(path), [read(path) for read in (lambda p: read_audio(p, 48000), streamed)]
        assert file.doubt or suffix == "w64"  # of whose lengths libsndfile says nothing
        for part in parts:
            # Half of the last block of Vorbis, Opus and MP3 is missing, and of Ogg the last page.
            assert share - 0.25 < part.shape[1] / 300_000 <= share + 0.02
            assert np.array_equal(part[:, :-2000], whole[:, : part.shape[1] - 2000])
        if file.doubt:
            with pytest.raises(DataError, match=rf"x\.{suffix}: .*; save .* again"):
                accept(file, strict=True)


def test_a_flac_that_is_cut_off_is_refused_when_its_end_is_reached(tmp_path):
    path = noise(tmp_path, "flac")
    content = path.read_bytes()
    for share in (0.3, 0.6, 0.95):
        path.write_bytes(content[: int(share * len(content))])
        for read in READERS:
            with pytest.raises(DataError, match=r"x\.flac: "):
                read(path)


def streamed(path: Path) -> np.ndarray:
    file = probe(path)
    return np.concatenate(list(stream_audio(file, file.sample_rate)), axis=1)


def assert_read_as(path: Path, expected: np.ndarray) -> None:
    """All ways of reading give (C, N)."""
    file = probe(path)
    assert (file.channels, file.num_frames) == expected.shape
    assert np.array_equal(read_audio(file, file.sample_rate), expected)
    assert np.array_equal(streamed(path), expected)
    for start in (1, expected.shape[1] // 2 - 100, expected.shape[1] - 200):  # across the seam of two halves, too
        part = read_audio(file, file.sample_rate, None, start / file.sample_rate, 200 / file.sample_rate)
        assert np.allclose(part, expected[:, start : start + 200], atol=1e-6)


def with_lengths(path: Path, riff: int | None, data: int) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", data)
    if riff is not None:
        content[4:8] = struct.pack("<I", riff)
    path.write_bytes(content)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_lengths_that_a_pipe_could_not_know_are_taken(tmp_path, length):
    path = noise(tmp_path, "wav")
    whole = read_audio(path, 48000)
    with_lengths(path, None, length)
    assert probe(path).doubt is None
    assert_read_as(path, whole)


@pytest.mark.parametrize(("riff", "data"), [(0, 0), (36, 0), (None, 0), (None, 16000)])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_wav_whose_header_was_not_closed_or_is_wrong_is_read_to_its_end(tmp_path, riff, data, subtype, caplog):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (60_000, 2)), 48000, subtype=subtype)
    whole, num_bytes = read_audio(path, 48000), path.stat().st_size
    with_lengths(path, riff, data)
    assert_read_as(path, whole)
    held = num_bytes - path.read_bytes().index(b"data") - 8
    for _ in range(2):
        accept(probe(path))
    said = f"{path}: its header says {data} bytes of samples, the file holds {held}; reading all of it (1.2 s)"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_what_lies_behind_the_samples_of_a_wav_is_not_read_as_samples(tmp_path):
    path = noise(tmp_path, "wav")
    content, whole = path.read_bytes(), read_audio(path, 48000)
    chunk = b"LIST" + struct.pack("<I", 5000) + bytes(range(250)) * 20
    odd = b"id3 " + struct.pack("<I", 2001) + b"x" * 2001
    for behind in (chunk, chunk + odd + b"\0", odd, b"TAG" + bytes(125), b"\xff" * 5000):
        for riff in (len(content) - 8, len(content) - 8 + len(behind), 0xFFFFFFFF)[: 1 if behind[0] == 255 else 3]:
            path.write_bytes(content[:4] + struct.pack("<I", riff) + content[8:] + behind)
            assert_read_as(path, whole)
            assert probe(path).doubt is None
    path.write_bytes(content[:40] + struct.pack("<I", 0) + chunk)
    with pytest.raises(DataError, match="no samples"):
        probe(path)


def test_a_wav_beyond_4_gb_whose_length_has_wrapped_is_as_long_as_the_file(tmp_path):
    path = noise(tmp_path, "wav")
    num_bytes = 2**32 + 240_000
    with path.open("r+b") as file:
        file.truncate(44 + num_bytes)  # a hole, which takes no space; the header says 240,000 as it should
    found = probe(path)
    assert found.num_frames == num_bytes // 4
    assert found.doubt == f"its header says 240000 bytes of samples, the file holds {num_bytes}"
    end = read_audio(found, 48000, None, found.duration_s - 0.01)
    assert end.shape == (2, 480)
    assert not end.any()


def without_length(flac: bytes) -> bytes:
    """A FLAC whose STREAMINFO gives 0 for the number of samples, "unknown": its low 36 bits of bytes 18 to 25."""
    packed = int.from_bytes(flac[18:26]) & ~(2**36 - 1)
    return flac[:18] + packed.to_bytes(8) + flac[26:]


def test_a_flac_of_unknown_length_is_as_long_as_it_is(tmp_path):
    path = noise(tmp_path, "flac")
    whole = read_audio(path, 48000)
    path.write_bytes(without_length(path.read_bytes()))
    assert_read_as(path, whole)


def test_what_cannot_be_sought_in_is_read_on_from_its_beginning(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 100_000), 8000, subtype="GSM610")
    assert not soundfile.SoundFile(path).seekable()
    assert_read_as(path, soundfile.read(path, dtype="float32")[0][None])


def mp3_frames(content: bytes) -> list[bytes]:
    """The frames of an MPEG-1 layer III file at 48 kHz of libsndfile's, its tag first."""
    kbps = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    frames, at = [], 0
    while at < len(content):
        length = 144_000 * kbps[content[at + 2] >> 4] // 48_000 + (content[at + 2] >> 1 & 1)
        frames.append(content[at : at + length])
        at += length
    return frames


def uneven_mp3(path: Path) -> list[bytes]:
    """Write silence, then noise, at a rate that varies; return the frames."""
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (100_000, 2))
    audio[:50_000] *= 1e-4
    with soundfile.SoundFile(path, "w", 48000, 2, format="MP3", bitrate_mode="VARIABLE") as file:
        file.write(audio)
    frames = mp3_frames(path.read_bytes())
    assert b"Info" in frames[0] or b"Xing" in frames[0]
    assert len({len(frame) for frame in frames}) > 3
    return frames


def test_an_mp3_of_uneven_rate_without_a_length_is_read_to_its_end(tmp_path):
    path = tmp_path / "x.mp3"
    frames = uneven_mp3(path)
    whole = read_audio(path, 48000)
    for kept in (frames, frames[::-1]):  # its guess by the first frame is too short, or too long
        tags_too = b"ID3\x03\0\0\0\0\x01\x00" + bytes(128), b"TAG" + bytes(125)
        path.write_bytes(b"".join([tags_too[0], *(frame for frame in kept if frame is not frames[0]), tags_too[1]]))
        file = probe(path)
        # Every frame is 1152 samples; a decoder begins 529 late.
        assert file.num_frames == 1152 * (len(frames) - 1) - 529
        assert file.doubt is None
        assert streamed(path).shape == (2, file.num_frames)
        if kept is frames:
            found = streamed(path)
            late = 1105 - 529  # the encoder's delay, which the tag tells with the decoder's
            middle = slice(5000, 90_000)
            assert np.allclose(found[:, late:][:, middle], whole[:, middle], atol=1e-5)


@pytest.mark.parametrize("quiet", [1e-4, 1])
def test_a_part_of_an_mp3_is_the_part_of_the_whole(tmp_path, quiet):
    path = tmp_path / "x.mp3"
    tone = 0.5 * np.sin(np.arange(200_000) / 10)
    tone[50_000:] *= quiet
    with soundfile.SoundFile(path, "w", 48000, 1, format="MP3", bitrate_mode="VARIABLE") as file:
        file.write(tone)
    whole = read_audio(path, 48000)
    for start in range(1000, 190_000, 7777):  # frames of which borrow bits of those before
        part = read_audio(path, 48000, None, start / 48000, 2000 / 48000)
        assert np.allclose(part, whole[:, start : start + 2000], atol=1e-6)


@pytest.mark.parametrize("suffix", ["ogg", "opus", "mp3"])
def test_recordings_put_together_are_read_one_after_the_other(tmp_path, suffix):
    path, other = noise(tmp_path, suffix), tmp_path / f"y.{suffix}"
    tone = 0.5 * np.sin(np.arange(60_000) / 10)
    soundfile.write(other, np.stack([tone, -tone], axis=1), 48000, **FORMATS[suffix])
    both = np.concatenate([read_audio(path, 48000), read_audio(other, 48000)], axis=1)
    for between in (b"", b"TAG" + bytes(125) + b"ID3\x03\0\0\0\0\x20\x00" + b"\xff" * 4096)[: 1 + (suffix == "mp3")]:
        (tmp_path / f"z.{suffix}").write_bytes(path.read_bytes() + between + other.read_bytes())
        assert_read_as(tmp_path / f"z.{suffix}", both)
        assert "2 streams" in (probe(tmp_path / f"z.{suffix}").doubt or "")


def test_streams_of_different_kinds_put_together_are_refused(tmp_path):
    for name, rate in (("a", 48000), ("b", 44100)):
        soundfile.write(tmp_path / f"{name}.ogg", np.zeros(1000), rate)
    (tmp_path / "c.ogg").write_bytes((tmp_path / "a.ogg").read_bytes() + (tmp_path / "b.ogg").read_bytes())
    with pytest.raises(
        DataError, match=r"c\.ogg: holds 2 streams .* different rates .* ffmpeg -i .*c\.ogg -vn .*c\.flac"
    ):
        probe(tmp_path / "c.ogg")


def test_an_mp3_with_a_hole_loses_no_more_than_the_hole(tmp_path):
    path = tmp_path / "x.mp3"
    frames = uneven_mp3(path)
    damage = np.random.default_rng(1).bytes(3000).replace(b"\xff", b"\0")
    path.write_bytes(b"".join([*frames[:40], damage, *frames[40:]]))
    file = probe(path)
    assert "2 streams" in (file.doubt or "")
    assert abs(file.num_frames - 100_000) < 4 * 1152
    assert streamed(path).shape == (2, file.num_frames)


@pytest.mark.parametrize("suffix", ["m4a", "MP4"])
def test_what_ffmpeg_can_convert_is_answered_with_its_command(tmp_path, suffix):
    path = tmp_path / f"a b.{suffix}"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    command = f"ffmpeg -i '{tmp_path}/a b.{suffix}' -vn '{tmp_path}/a b.flac'"
    with pytest.raises(DataError) as raised:
        probe(path)
    assert str(raised.value).endswith(f"convert it: {command}")


def test_what_is_no_audio_is_refused(tmp_path):
    (tmp_path / "a.wav").write_text("this is no audio")
    for read in (probe, READERS[0]):
        for path, words in (
            (tmp_path / "a.wav", "not readable as audio"),
            (tmp_path / "nowhere.wav", "No such file"),
            (tmp_path, "Is a directory"),
        ):
            with pytest.raises(DataError, match=words):
                read(path)


def test_flac_that_is_cut_off_is_named_as_truncated(tmp_path):
    path = write_noise(tmp_path / "a.flac", 40_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"a\.flac: damaged or truncated, expected the 40000 samples of its header; "):
        read_audio(path, 16000)


def test_file_that_is_no_longer_the_same_recording_is_a_data_error(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    file = probe(tmp_path / "a.wav")
    for shape in ((8000, 2), (1600, 1), (24000, 1)):
        soundfile.write(tmp_path / "a.wav", np.zeros(shape), 8000)
        with pytest.raises(DataError, match=r"a\.wav: was replaced by another recording"):
            read_audio(file, 8000)


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg"])
def test_parts_do_not_depend_on_what_was_read_before(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 40000), 8000)
    orders = (range(20), reversed(range(20)))
    forwards, backwards = ({k: read_audio(path, 8000, 1, k / 5, 0.1) for k in order} for order in orders)
    assert all(np.array_equal(forwards[k], backwards[k]) for k in forwards)


@pytest.mark.parametrize("limit", [0, 10_000])  # the header cannot be written; the samples cannot
@pytest.mark.parametrize("name", ["WAV", "FLAC"])
def test_a_recording_that_cannot_be_written_is_refused_in_the_words_of_the_system(tmp_path, name, limit):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with (
            pytest.raises(OSError, match="File too large") as refused,
            recorded_whole(tmp_path / "x", 8000, 1, name) as write,
        ):
            write(np.random.default_rng(0).uniform(-1, 1, (1, 80_000)).astype(np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(from_system(refused.value)).startswith(f"{tmp_path}/x: File too large; check the limit")
    assert not any(tmp_path.iterdir())
