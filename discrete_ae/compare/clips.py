"""Versions of a clip to listen to and to look at. Axes: C audio channels, N samples."""

import io
import struct
import zlib

import numpy as np
import soundfile
from matplotlib import colormaps
from numpy.typing import NDArray

from discrete_ae.compare.page.content import Version
from discrete_ae.metrics.spectrogram import LEVELS_DB, levels_db

SHADES = 64  # of 1.25 dB; more would make the file larger and nothing clearer


def make_version(key: str, label: str, audio: NDArray[np.float32], sample_rate: int, note: str = "") -> Version:
    """The version as it stands on a page: 16-bit FLAC and a picture.

    Args:
        audio: (C, N) between -1 and 1, N >= 1; what lies outside is clipped, what is not a number becomes silence.

    Raises:
        ValueError: the audio is empty or has not two axes.
    """
    if audio.ndim != 2 or not audio.size:
        raise ValueError(f"audio must be (C, N) with samples, got shape {audio.shape}")
    audio = np.nan_to_num(audio, nan=0.0, posinf=1.0, neginf=-1.0)
    return Version(key, label, flac(audio, sample_rate), spectrogram_png(audio.mean(axis=0), sample_rate), note)


def flac(audio: NDArray[np.float32], sample_rate: int) -> bytes:
    """16-bit FLAC of audio (C, N). Samples that come from 16 bits are kept exactly."""
    # Scaled here, by the factor by which they were read: given floats, libsndfile would scale by 32767.
    samples = np.clip(np.round(audio.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, samples.T, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def spectrogram_png(audio: NDArray[np.float32], sample_rate: int) -> bytes:
    """Picture of the `levels_db` of audio (N,), a pixel each, without axes: LEVELS_DB from dark to bright."""
    low, high = LEVELS_DB
    shades = (levels_db(audio, sample_rate) - low) / (high - low) * SHADES
    palette = (colormaps["magma"](np.linspace(0, 1, SHADES))[:, :3] * 255).round().astype(np.uint8)
    return _png(np.clip(shades, 0, SHADES - 1).astype(np.uint8)[::-1], palette)


def _png(pixels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """PNG (ISO/IEC 15948) of pixels (height, width), each the number of a color of the palette (n, 3)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape
    lines = np.pad(pixels, ((0, 0), (1, 0)))  # each begins with 0: no filter
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", palette.tobytes()),
            chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            chunk(b"IEND", b""),
        )
    )
