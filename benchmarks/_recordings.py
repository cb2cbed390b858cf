"""Recordings for benchmarks: noise with the spectrum and the syllables of speech, of any length, in any format."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from discrete_ae.data import AudioFile, find_audio
from discrete_ae.data.shards import write_shards

NUM_FILES = 4
_BLOCK = 2**16  # libsndfile's Vorbis encoder fails on a whole minute


class Recordings(NamedTuple):
    """A kind of recording."""

    name: str
    sample_rate: int
    channels: int
    container: str = "FLAC"
    subtype: str = "PCM_16"
    in_tars: bool = False
    """True to pack them into tars of one or two recordings each."""


def write(kind: Recordings, folder: Path, duration_s: float) -> list[AudioFile]:
    """Write `NUM_FILES` recordings of a kind and duration, and return them as found by `find_audio`."""
    write_all(kind, folder, [duration_s] * NUM_FILES)
    if not kind.in_tars:
        return find_audio(folder).files
    write_shards(folder, folder / "tars", (folder / f"0.{kind.container.lower()}").stat().st_size)
    return find_audio(folder / "tars").files


def write_all(kind: Recordings, folder: Path, durations_s: Iterable[float]) -> None:
    """Write one recording per duration."""
    for seed, duration_s in enumerate(durations_s):
        path = folder / f"{seed}.{kind.container.lower()}"
        with soundfile.SoundFile(
            path, "w", kind.sample_rate, kind.channels, kind.subtype, format=kind.container
        ) as file:
            for part in _parts(kind, seed, round(duration_s * kind.sample_rate)):
                for start in range(0, len(part), _BLOCK):
                    file.write(part[start : start + _BLOCK])


def _parts(kind: Recordings, seed: int, num_samples: int) -> Iterator[np.ndarray]:
    """Yield a recording minute by minute, (N, C): noise that falls by 6 dB per octave above 500 Hz, in syllables."""
    random = np.random.default_rng(seed)
    for start in range(0, num_samples, 60 * kind.sample_rate):
        count = min(60 * kind.sample_rate, num_samples - start)
        slope = 1 / np.maximum(np.fft.rfftfreq(count, 1 / kind.sample_rate) / 500, 1)
        syllables = np.maximum(np.sin(2 * np.pi * 2 * np.arange(count) / kind.sample_rate), 0) ** 2  # two a second
        spectrum = np.fft.rfft(random.standard_normal((count, kind.channels)), axis=0) * slope[:, None]
        noise = np.fft.irfft(spectrum, count, axis=0)
        yield 0.5 * noise / np.abs(noise).max() * (syllables[:, None] + 0.01)
