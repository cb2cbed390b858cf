"""Training crops per second of one core, from recordings of ten minutes, beside two ways in common use.

    python benchmarks/loading.py                 # about 2 minutes on one core

Generates its recordings in a temporary folder: noise with the spectrum and the syllables of speech, as FLAC. The ways
take turns, and the time is the processor's, so that a busy machine disturbs little, and all alike. Writes
benchmarks/results/loading.md.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from _common import machine, publish, table, versions

from discrete_ae.data import AudioFile, TrainingCrops, find_audio
from discrete_ae.data.augmentation import Augmentation

MODEL_RATE = 16000
NUM_FILES = 4
MINUTES = 10
ROUNDS = 9
CROPS = 200
"""In each turn; of the way that decodes whole recordings, one."""
COLUMNS = ("way", "crops/s", "times the whole file", "times opening it")

Load = Callable[[int], object]


class Recordings(NamedTuple):
    """A kind of recording, in words and numbers."""

    name: str
    sample_rate: int
    channels: int


RECORDINGS = (
    Recordings("16 kHz mono, as the model's audio", 16000, 1),
    Recordings("44.1 kHz stereo, mixed down and resampled to 16 kHz", 44100, 2),
)


def minutes(kind: Recordings, seed: int) -> Iterator[np.ndarray]:
    """A recording minute by minute, each (N, C): noise that falls by 6 dB an octave from 500 Hz, in syllables."""
    count = 60 * kind.sample_rate
    slope = 1 / np.maximum(np.fft.rfftfreq(count, 1 / kind.sample_rate) / 500, 1)
    syllables = np.maximum(np.sin(2 * np.pi * 2 * np.arange(count) / kind.sample_rate), 0) ** 2  # two a second
    random = np.random.default_rng(seed)
    for _ in range(MINUTES):
        noise = np.fft.irfft(
            np.fft.rfft(random.standard_normal((count, kind.channels)), axis=0) * slope[:, None], axis=0
        )
        yield 0.5 * noise / np.abs(noise).max() * (syllables[:, None] + 0.01)


def write(kind: Recordings, folder: Path) -> list[AudioFile]:
    """Write the recordings of a kind and find them."""
    for seed in range(NUM_FILES):
        path = folder / f"{seed}.flac"
        with soundfile.SoundFile(path, "w", kind.sample_rate, kind.channels, "PCM_16") as file:
            for minute in minutes(kind, seed):
                file.write(minute)
    return find_audio(folder).files


def simple_load(files: list[AudioFile], *, whole: bool) -> Load:
    """One second of a file at a random place, from all of it decoded or from a fresh opening and a seek."""

    def load(number: int) -> torch.Tensor:
        random = np.random.default_rng(number)
        file = files[random.integers(len(files))]
        start = int(random.integers(file.num_frames - file.sample_rate))
        if whole:
            audio = soundfile.read(file.path, dtype="float32", always_2d=True)[0][start : start + file.sample_rate]
        else:
            audio = soundfile.read(file.path, file.sample_rate, start, dtype="float32", always_2d=True)[0]
        audio = audio.mean(axis=1)
        return torch.from_numpy(soxr.resample(audio, file.sample_rate, MODEL_RATE))[None]

    return load


def ways(files: list[AudioFile]) -> dict[str, Load]:
    """What is measured; the first two are for comparison."""
    shape = (MODEL_RATE, MODEL_RATE, 1)
    changes = Augmentation(gain_db=(-12.0, 6.0), flip_polarity=True)
    return {
        "decoding the whole file": simple_load(files, whole=True),
        "opening the file, seeking": simple_load(files, whole=False),
        "`TrainingCrops`": TrainingCrops(files, *shape).__getitem__,
        "with gain and polarity": TrainingCrops(files, *shape, augmentation=changes).__getitem__,
        "with loudness": TrainingCrops(files, *shape, loudness_lufs=-23.0).__getitem__,
        "with all three": TrainingCrops(files, *shape, loudness_lufs=-23.0, augmentation=changes).__getitem__,
    }


def measure(found: dict[str, Load]) -> list[list[str]]:
    """A row for each way: the median of its rates over the rounds, and its ratios to the first two."""
    whole, opening, *_ = found
    rates: dict[str, list[float]] = {name: [] for name in found}
    for round_number in range(-1, ROUNDS):  # the first, in which the files get into memory, does not count
        for name, load in found.items():
            numbers = range(1 if name == whole else CROPS)
            start = time.process_time()
            for number in numbers:
                load(round_number * CROPS + number + CROPS)
            if round_number >= 0:
                rates[name].append(len(numbers) / (time.process_time() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return [
        [name, f"{rate:,.4g}", f"{rate / medians[whole]:.0f}", f"{rate / medians[opening]:.3g}"]
        for name, rate in medians.items()
    ]


def main() -> None:
    """Measure and write the tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)  # as in a loading process
    lines = [
        "# Loading of training crops",
        "",
        f"`python benchmarks/loading.py`; {machine('cpu', 1)}, {versions('soundfile', 'soxr')}, libsndfile "
        f"{soundfile.__libsndfile_version__}.",
        "",
        f"Crops of one second of mono at {MODEL_RATE // 1000} kHz from {NUM_FILES} FLAC files of {MINUTES} minutes, "
        f"generated noise with the spectrum and the syllables of speech, held in memory by the system. Medians of "
        f"{ROUNDS} interleaved rounds, by the processor's time: one loading process on a core of its own. A step that "
        "takes a batch of 32 crops in 100 ms needs 320 crops/s.",
        "",
    ]
    for kind in RECORDINGS:
        with tempfile.TemporaryDirectory() as folder:
            rows = measure(ways(write(kind, Path(folder))))
        lines += [f"## {kind.name}", "", *table(COLUMNS, rows)]
    publish(lines, "loading")


if __name__ == "__main__":
    main()
