"""Pictures and files of clips against signals whose spectrum and samples are known; read back by other programs."""

import io

import numpy as np
import pytest
import soundfile
from matplotlib import colormaps
from matplotlib.image import imread

from discrete_ae.compare.clips import SHADES, flac, make_version, spectrogram_png
from discrete_ae.metrics.spectrogram import HEIGHT, LEVELS_DB, WIDTH
from tests.metrics.sines import RATE, mel_band, sine


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


def test_a_version_of_samples_that_are_no_numbers_is_silent_there():
    audio = np.full((1, RATE), np.nan, dtype=np.float32)
    version = make_version("ste", "ste", audio, RATE, "3.2 kbps")
    read, _ = soundfile.read(io.BytesIO(version.flac), dtype="int16")
    assert not read.any()
    assert not pixels(version.spectrogram_png).any()
    assert (version.key, version.label, version.note) == ("ste", "ste", "3.2 kbps")


@pytest.mark.parametrize("shape", [(1, 0), (100,), (0, 100)])
def test_a_version_needs_samples_of_channels(shape):
    with pytest.raises(ValueError, match="C, N"):
        make_version("a", "a", np.zeros(shape, dtype=np.float32), RATE)


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
