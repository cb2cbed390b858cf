"""Samples of a part of a file, against the same part of the whole file and against formulas; files cut off."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from discrete_ae.data import match_channels, read_audio, stream_audio
from discrete_ae.data.files import probe, require_complete
from discrete_ae.data.resampling import BLOCK_FRAMES
from discrete_ae.errors import DataError


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
        assert np.allclose(streamed, whole, rtol=0, atol=1e-6 if suffix == "mp3" else 0)


def test_channels_are_mixed_or_copied():
    stereo = np.array([[1.0, 3.0], [3.0, -1.0]], dtype=np.float32)
    assert np.array_equal(match_channels(stereo, 1), [[2.0, 1.0]])
    assert np.array_equal(match_channels(stereo[:1], 2), [[1.0, 3.0], [1.0, 3.0]])
    assert match_channels(stereo, None) is stereo
    with pytest.raises(DataError, match="has 2 channels, expected 1 or 6"):
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
TOLD_BY_HEADER = {
    "wav": {"subtype": "PCM_16"},
    "float.wav": {"subtype": "FLOAT"},
    "aiff": {"subtype": "PCM_24"},
    "au": {"subtype": "PCM_16"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}
TOLD_BY_READING = {"flac": {}, "mp3": {}}
FORMATS = TOLD_BY_HEADER | TOLD_BY_READING | {"w64": {"subtype": "PCM_16"}, "caf": {"subtype": "PCM_16"}}


def noise(path: Path, suffix: str) -> Path:
    """Write 60,000 frames of stereo noise."""
    path = path / f"x.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (60_000, 2)), 48000, **FORMATS[suffix])
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_recordings_that_are_cut_off_are_refused_and_whole_ones_taken(tmp_path, suffix):
    path = noise(tmp_path, suffix)
    require_complete(path)
    content = path.read_bytes()
    for share in (0.3, 0.6) if suffix == "mp3" else (0.3, 0.6, 0.95):  # whose decoder bridges a short gap
        path.write_bytes(content[: int(share * len(content))])
        for read in (require_complete,) if suffix in TOLD_BY_HEADER else READERS if suffix in TOLD_BY_READING else ():
            with pytest.raises(DataError, match=rf"x\.{suffix}: "):
                read(path)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0])
def test_lengths_that_a_pipe_could_not_know_are_taken(tmp_path, length):
    path = noise(tmp_path, "wav")
    content = path.read_bytes()
    at = content.index(b"data") + 4
    path.write_bytes(content[:at] + struct.pack("<I", length) + content[at + 4 :])
    require_complete(path)


def test_what_is_no_audio_is_refused(tmp_path):
    (tmp_path / "a.wav").write_text("this is no audio")
    for read in (require_complete, READERS[0]):
        for path in (tmp_path / "a.wav", tmp_path / "nowhere.wav", tmp_path):
            with pytest.raises(DataError, match="not readable as audio"):
                read(path)


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
