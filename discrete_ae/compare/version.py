"""A version of a clip as bytes: to listen to and to look at. Axes: C audio channels, N samples."""

import io

import numpy as np
import soundfile
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from discrete_ae.compare.page.content import Version
from discrete_ae.metrics import LEVELS_DB, levels_db

SHADES = 64  # of 1.25 dB; more would make the file larger and nothing clearer

Audio = NDArray[np.float32]


def make_version(key: str, label: str, audio: Audio, sample_rate: int, note: str = "") -> Version:
    """Return a version as it stands on a page: 16-bit FLAC and a picture of audio (C, N) between -1 and 1, N >= 1."""
    return Version(key, label, flac(audio, sample_rate), spectrogram_png(audio.mean(axis=0), sample_rate), note)


def flac(audio: Audio, sample_rate: int) -> bytes:
    """Return 16-bit FLAC of audio (C, N). Samples that come from 16 bits are kept exactly, louder ones are clipped."""
    # Scaled here, by the factor by which they were read: given floats, libsndfile would scale by 32767.
    samples = np.clip(np.round(audio.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, samples.T, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def spectrogram_png(audio: Audio, sample_rate: int) -> bytes:
    """Return a picture of the `levels_db` of audio (N,), a pixel each, without axes: LEVELS_DB from dark to bright."""
    low, high = LEVELS_DB
    shades = (levels_db(audio, sample_rate) - low) / (high - low) * SHADES
    picture = Image.fromarray(np.clip(shades, 0, SHADES - 1).astype(np.uint8)[::-1])
    picture.putpalette((colormaps["magma"](np.linspace(0, 1, SHADES))[:, :3] * 255).round().astype(np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()
