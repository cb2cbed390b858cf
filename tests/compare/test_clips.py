"""Clips that evaluations left, against signals whose spectrum and samples are known; read back by other programs."""

import io

import numpy as np
import pytest
import soundfile
from matplotlib import colormaps
from matplotlib.image import imread

from discrete_ae.compare.clips import Heard, key_of, make_clips
from discrete_ae.compare.version import SHADES, flac, spectrogram_png
from discrete_ae.evaluation.results import SavedClip
from discrete_ae.metrics import HEIGHT, LEVELS_DB, WIDTH
from tests.compare.comparisons import make_evaluation
from tests.sines import RATE, mel_band, sine


def pixels(png: bytes) -> np.ndarray:
    """Shades, lowest frequency first, found again by their colors."""
    colors = (colormaps["magma"](np.linspace(0, 1, SHADES))[:, :3] * 255).round()
    image = (imread(io.BytesIO(png), format="png")[..., :3] * 255).round()
    distance = np.abs(image[:, :, None, :] - colors).sum(axis=-1)
    assert distance.min(axis=-1).max() == 0
    return distance.argmin(axis=-1)[::-1]


def test_samples_of_16_bits_come_back_exactly_and_louder_ones_are_clipped():
    samples = np.array([[-32768, -1, 0, 1, 12345, 32767]], dtype=np.int16).repeat(2, axis=0)
    read, rate = soundfile.read(io.BytesIO(flac((samples / 32768).astype(np.float32), 22050)), dtype="int16")
    assert rate == 22050
    assert np.array_equal(read.T, samples)
    loud, _ = soundfile.read(io.BytesIO(flac(np.array([[1.5, 1.0, -7.0]], dtype=np.float32), RATE)), dtype="int16")
    assert loud.tolist() == [32767, 32767, -32768]


def test_the_picture_has_the_whole_duration_across_and_frequency_upwards():
    audio = np.concatenate([np.zeros(3 * RATE, dtype=np.float32), sine(2000)])
    shades = pixels(spectrogram_png(audio, RATE))
    assert shades.shape == (HEIGHT, WIDTH)
    # Silent for three quarters; a window of 32 ms reaches 1.3 pixels beyond its place.
    assert not shades[:, : WIDTH * 3 // 4 - 2].any()
    bright = shades[:, WIDTH * 3 // 4 + 2 : -2]
    assert np.abs(bright.argmax(axis=0) - mel_band(2000)).max() <= 1
    # 0 dB less what is lost between two bins is the brightest shade, of (0 - -80) / 64 = 1.25 dB.
    assert (bright.max(axis=0) == SHADES - 1).all()


def test_a_level_has_the_shade_of_its_place_between_the_limits():
    low, high = LEVELS_DB
    shades = pixels(spectrogram_png(0.01 * sine(2000), RATE))[:, 160]
    assert shades.max() == pytest.approx((-40 - low) / (high - low) * SHADES, abs=1)


def with_noise(audio):
    """With noise of a hundredth of the energy that has nothing in common with it: an SI-SDR of 20 dB."""
    noise = np.random.default_rng(1).standard_normal(audio.shape)
    energy = np.square(audio).sum(1, keepdims=True)
    noise -= (noise * audio).sum(1, keepdims=True) / energy * audio
    return (audio + noise * np.sqrt(energy / np.square(noise).sum(1, keepdims=True)) / 10).astype(np.float32)


def heard(folder, label, rate, decoded, original, note="", **about):
    """With one clip of a second."""
    folder.mkdir()
    for name, audio in (("d.flac", decoded), ("o.flac", original)):
        soundfile.write(folder / name, audio.T, rate)
    clip = SavedClip(recording="a.wav", start_s=0.5, duration_s=1.0, decoded="d.flac", original="o.flac")
    made = make_evaluation({"pesq": [1.0]}, clips=(clip,), sample_rate=rate, **about)
    return Heard(label, note, made, folder)


def test_clips_hold_every_version_at_one_rate_and_length(tmp_path):
    original = (0.1 * np.random.default_rng(0).standard_normal((2, RATE))).astype(np.float32)
    half = with_noise(original) / 2
    first = heard(tmp_path / "a", "vq, 3.2 kbps", RATE, half, original, "3.2 kbps")
    slow = heard(tmp_path / "b", "vq 3.2 kbps", RATE // 2, original[:, ::2], original[:, ::2], keeps_waveform=False)
    (clip,) = make_clips([first, slow], RATE)
    assert (clip.name, clip.duration_s) == ("a.wav", 1.0)
    assert [version.key for version in clip.versions] == ["original", "vq_3_2_kbps", "vq_3_2_kbps_2"]
    assert [version.note for version in clip.versions] == ["", "3.2 kbps, SI-SDR 20.0 dB", ""]
    for version, expected in zip(clip.versions, (original, half, None), strict=True):
        audio, rate = soundfile.read(io.BytesIO(version.flac), dtype="float32", always_2d=True)
        assert (audio.shape, rate) == ((RATE, 2), RATE)
        if expected is not None:
            assert pytest.approx(expected, abs=2**-14) == audio.T
    other = first._replace(evaluation=first.evaluation.model_copy(update={"clips": ()}))
    assert make_clips([first, other], RATE) == []  # only what all have


def test_keys_are_names_of_files():
    assert key_of("../Opus 6 kbps", {"original"}) == "opus_6_kbps"
    assert key_of("∆", {"original"}) == "method"
    assert key_of("Original", {"original", "original_2"}) == "original_3"
