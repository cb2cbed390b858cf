"""Measure the training loader in seconds of audio per second, and its crops per second beside two common ways.

    python benchmarks/loading.py                                             # 12 minutes on two cores
    python benchmarks/loading.py --seconds 1 --rounds 1 --minutes 0.5 --workers 0 8 15 --json loading.json

The second form measures the loader alone and prints the result; the first form
writes benchmarks/results/loading.md. The recordings are generated in a temporary folder and stay in the page cache;
freed memory is kept, as in training. Measurements are interleaved. Beside wall-clock time they give the processor time
of all processes together, which other load affects less.
"""

import argparse
import itertools
import json
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from _common import cpu_model, machine, megabytes, publish, table, versions
from _recordings import NUM_FILES, Recordings, write

from discrete_ae.data import AudioFile, CropSettings, TrainingCrops
from discrete_ae.data.datamodule import TrainingBatches
from discrete_ae.data.workers import AudioLoader
from discrete_ae.training.run import keep_freed_memory

MODEL_RATE = 16000
LOUDNESS_LUFS = -23.0

# The loader.
LOADED = (
    Recordings("WAV, 16 kHz mono", 16000, 1, "WAV"),
    Recordings("FLAC, 16 kHz mono", 16000, 1),
    Recordings("FLAC, 16 kHz mono, in tars", 16000, 1, in_tars=True),
    Recordings("FLAC, 44.1 kHz mono", 44100, 1),
    Recordings("FLAC, 44.1 kHz stereo", 44100, 2),
    Recordings("Opus, 48 kHz mono", 48000, 1, "OGG", "OPUS"),
    Recordings("MP3, 44.1 kHz stereo", 44100, 2, "MP3", "MPEG_LAYER_III"),
    Recordings("Vorbis, 44.1 kHz stereo", 44100, 2, "OGG", "VORBIS"),
)
BATCH_SIZE = 64
PREFETCHED = 2
"""Batches that each worker prefetches: enough for a consumer that never waits long."""
WANTED = 20_000
"""Seconds of audio per second that a big GPU trains on."""

# Memory.
COUNTS = (10_000, 50_000, 100_000)
"""Numbers of crops after which memory is measured."""

# Single crops.
CROPPED = (
    Recordings("16 kHz mono, as the model's audio", 16000, 1),
    Recordings("44.1 kHz mono, resampled to 16 kHz", 44100, 1),
    Recordings("44.1 kHz stereo, mixed down and resampled to 16 kHz", 44100, 2),
)
MINUTES = 10
ROUNDS = 5
CROPS = BATCH_SIZE
"""Crops per batch, three batches per turn; the way that decodes whole recordings makes one crop per turn."""
COLUMNS = ("way", "crops/s", "times the whole file", "times opening it")

Load = Callable[[Sequence[int]], object]
"""Makes the crops with the given numbers."""


class Speed(NamedTuple):
    """Seconds of audio that a loader delivers."""

    by_the_clock: float
    by_the_processors: float
    """Per second of processor time, all processes together."""


def processor_seconds() -> float:
    """Return the processor seconds of this process and of the loader's workers so far."""
    children = [process.pid for process in multiprocessing.active_children()]
    # Linux's CPU clock of another process, clock_getcpuclockid(3), which Python does not expose.
    return time.process_time() + sum(time.clock_gettime(~pid << 3 | 2) for pid in children if pid)


def loader_speed(crops: TrainingCrops, crop_seconds: float, workers: int, seconds: float) -> Speed:
    """Measure the loader for `seconds`, after the prefetched batches; copies batches to a GPU if available."""
    on_gpu = torch.cuda.is_available()
    loader = AudioLoader(
        crops,
        batch_sampler=TrainingBatches(BATCH_SIZE),
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        pin_memory=on_gpu,
    )
    batches = iter(loader)

    def take(batch: torch.Tensor) -> None:
        if on_gpu:
            batch.to("cuda", non_blocking=True)
        else:
            batch.sum()

    for batch in itertools.islice(batches, workers * PREFETCHED + 1):
        take(batch)
    used, start, count = processor_seconds(), time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        take(next(batches))
        count += 1
    taken = time.perf_counter() - start, processor_seconds() - used
    return Speed(*(count * BATCH_SIZE * crop_seconds / time for time in taken))


def measure_loader(
    crop_seconds: float,
    counts: list[int],
    seconds: float,
    rounds: int,
    minutes: float,
    kinds: Sequence[Recordings] = LOADED,
) -> list[dict]:
    """Return one record per kind of recording, loudness and number of workers: medians over the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for place, kind in enumerate(kinds):
            (Path(folder) / str(place)).mkdir()
            files[kind] = write(kind, Path(folder) / str(place), 60 * minutes)
        cells = list(itertools.product(kinds, (None, LOUDNESS_LUFS), counts))
        speeds: dict[Any, list[Speed]] = {cell: [] for cell in cells}
        for _, cell in itertools.product(range(rounds), cells):
            kind, loudness, workers = cell
            crops = TrainingCrops(files[kind], settings(crop_seconds=crop_seconds, loudness_lufs=loudness))
            speeds[cell].append(loader_speed(crops, crop_seconds, workers, seconds))
    return [
        {
            "recordings": kind.name,
            "loudness_lufs": loudness,
            "workers": workers,
            "audio_seconds_per_second": statistics.median(speed.by_the_clock for speed in found),
            "audio_seconds_per_core_second": statistics.median(speed.by_the_processors for speed in found),
        }
        for (kind, loudness, workers), found in speeds.items()
    ]


def loader_table(records: list[dict]) -> list[str]:
    """Return a table with a row per kind of recording, with and without loudness."""
    counts = sorted({record["workers"] for record in records})
    header = ["recordings", "loudness"]
    header += [f"{count} worker{'' if count == 1 else 's'}: a second, a core second" for count in counts]
    header += [f"cores for {WANTED:,}"]
    rows = []
    for (name, loudness), group in itertools.groupby(records, lambda r: (r["recordings"], r["loudness_lufs"])):
        by_workers = {record["workers"]: record for record in group}
        row = [name, "as it is" if loudness is None else f"{loudness:g} LUFS"]
        for count in counts:
            found = by_workers[count]
            row.append(f"{found['audio_seconds_per_second']:,.0f}, {found['audio_seconds_per_core_second']:,.0f}")
        rows.append([*row, f"{math.ceil(WANTED / by_workers[counts[-1]]['audio_seconds_per_core_second'])}"])
    return table(header, rows)


def measure_memory() -> list[list[str]]:
    """Return a row of memory and open files per number of crops that one process has made, from all kinds."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for place, kind in enumerate(LOADED):
            (Path(folder) / str(place)).mkdir()
            files += write(kind, Path(folder) / str(place), 60)
        crops, rows, done = TrainingCrops(files, settings()), [], 0
        for count in COUNTS:
            for start in range(done, count, 100):
                crops.__getitems__(range(start, start + 100))
            done = count
            rows.append([f"{count:,}", f"{megabytes():,.0f}", str(len(list(Path("/proc/self/fd").iterdir())))])
    return rows


def simple_load(files: list[AudioFile], *, whole: bool) -> Load:
    """Return a loader of random seconds that decodes the whole file, or opens the file anew and seeks."""

    def one(number: int) -> torch.Tensor:
        random = np.random.default_rng(number)
        file = files[random.integers(len(files))]
        start = int(random.integers(file.num_frames - file.sample_rate))
        if whole:
            audio = soundfile.read(file.path, dtype="float32", always_2d=True)[0][start : start + file.sample_rate]
        else:
            audio = soundfile.read(file.path, file.sample_rate, start, dtype="float32", always_2d=True)[0]
        audio = audio.mean(axis=1)
        return torch.from_numpy(soxr.resample(audio, file.sample_rate, MODEL_RATE))[None]

    return lambda numbers: [one(number) for number in numbers]


def settings(**changes: Any) -> CropSettings:
    """Return settings for one-second mono crops at the model's rate, with changes."""
    return CropSettings.of({"sample_rate": MODEL_RATE, "channels": 1, "crop_seconds": 1.0, **changes})


def ways(files: list[AudioFile]) -> dict[str, Load]:
    """Return the ways to measure by name; the first two are for comparison."""
    level = {"gain_db": [-12.0, 6.0], "flip_polarity": True}
    changes = {
        "`TrainingCrops`": {},
        "with gain and polarity": level,
        "with speed": {"speed": [0.8, 1.25]},
        "with mixture, every crop": {"mix": 1.0},
        "with equalizer": {"equalizer_db": 6.0},
        "with loudness": {"loudness_lufs": LOUDNESS_LUFS},
        "with all, a fifth mixed": {
            **level,
            "speed": [0.8, 1.25],
            "mix": 0.2,
            "equalizer_db": 6.0,
            "loudness_lufs": LOUDNESS_LUFS,
        },
    }
    return {
        "decoding the whole file": simple_load(files, whole=True),
        "opening the file, seeking": simple_load(files, whole=False),
        **{name: TrainingCrops(files, settings(**change)).__getitems__ for name, change in changes.items()},
    }


def measure_crops(found: dict[str, Load]) -> list[list[str]]:
    """Return a row per way: the median of its rates over the rounds, and its ratios to the first two."""
    whole, opening, *_ = found
    rates: dict[str, list[float]] = {name: [] for name in found}
    for round_number in range(-1, ROUNDS):  # the first, which fills the page cache, does not count
        for name, load in found.items():
            sizes = [1] if name == whole else [CROPS] * 3
            first = (round_number + 1) * CROPS * 3
            start = time.process_time()
            for place, size in enumerate(sizes):
                load(range(first + place * CROPS, first + place * CROPS + size))
            if round_number >= 0:
                rates[name].append(sum(sizes) / (time.process_time() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return [
        [name, f"{rate:,.4g}", f"{rate / medians[whole]:.0f}", f"{rate / medians[opening]:.3g}"]
        for name, rate in medians.items()
    ]


def main() -> None:
    """Measure, and write the tables or the records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crop-seconds", type=float, default=1.0, help="duration of a crop (default: 1)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--seconds", type=float, default=1.0, help="wall-clock time per turn (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="turns per measurement; the median counts (default: 3)")
    parser.add_argument("--minutes", type=float, default=2.0, help="duration of a recording (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="measure the loader alone, and write records to FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as in a worker process
    keep_freed_memory()

    memory = [] if options.json else measure_memory()  # first, while memory is clean
    records = measure_loader(options.crop_seconds, options.workers, options.seconds, options.rounds, options.minutes)
    loaded = [
        f"Seconds of audio a second, in batches of {BATCH_SIZE} x {options.crop_seconds:g} s of mono at 16 kHz, from "
        f"{NUM_FILES} recordings of {options.minutes:g} minutes: by the clock, and for each second of processor time "
        f"of all processes together; medians of {options.rounds} interleaved turns. The last column is no measurement: "
        f"as many cores as give {WANTED:,} seconds of audio a second by the last figure, if they do not disturb one "
        "another.",
        "",
        *loader_table(records),
    ]
    if options.json:
        about = {"machine": cpu_model(), "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}
        about |= {"batch_size": BATCH_SIZE, "crop_seconds": options.crop_seconds, "records": records}
        options.json.write_text(json.dumps(about, indent=1))
        print("\n".join(loaded))
        return
    lines = [
        "# Loading of training crops",
        "",
        f"`python benchmarks/loading.py`; {machine('cpu', 1)}, {versions('soundfile', 'soxr')}, libsndfile "
        f"{soundfile.__libsndfile_version__}. The recordings are generated noise with the spectrum and the syllables "
        "of speech, held in memory by the system.",
        "",
        "## The loader",
        "",
        *loaded,
        "## Single crops",
        "",
        f"Crops of one second of mono at {MODEL_RATE // 1000} kHz from {NUM_FILES} FLAC files of {MINUTES} minutes. "
        f"Medians of {ROUNDS} interleaved rounds, by the processor's time, of the function that makes crops, in "
        f"batches of {CROPS}, without the copy to the process that trains.",
        "",
    ]
    for kind in CROPPED:
        with tempfile.TemporaryDirectory() as folder:
            rows = measure_crops(ways(write(kind, Path(folder), 60 * MINUTES)))
        lines += [f"### {kind.name}", "", *table(COLUMNS, rows)]
    lines += [
        "## Memory",
        "",
        f"One process, crops of every kind of recording of the first table ({NUM_FILES} of a minute each): its memory, "
        "and how many files it has open.",
        "",
        *table(("crops", "MB", "open files"), memory),
    ]
    publish(lines, "loading")


if __name__ == "__main__":
    main()
