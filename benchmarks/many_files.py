"""Measure how long a training start takes to find many small files, and its memory: first, second, by a manifest.

    python benchmarks/many_files.py                       # 2 minutes: 100,000 files in 100 folders
    python benchmarks/many_files.py --files 1000000 --folder /path/to/network

Each start is a process of its own that sets up the data of a training. The files are in the page cache, as if they had
been read shortly before. The second form does not write benchmarks/results/many_files.md.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from _common import cpu_model, megabytes, publish, table, versions

from discrete_ae.data import AudioDataModule
from discrete_ae.data.index import index
from discrete_ae.data.manifest import write_manifest
from discrete_ae.paths import CACHE_VARIABLE

FOLDERS = 100
SAMPLES = 78  # 200 bytes
RATE = 16000


def write(root: Path, count: int) -> None:
    """Write short files of distinct content into folders."""
    random = np.random.default_rng(0)
    for k in range(count):
        path = root / f"{k % FOLDERS:03}" / f"{k // FOLDERS:06}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        soundfile.write(content, random.uniform(-0.5, 0.5, SAMPLES), RATE, format="WAV")
        path.write_bytes(content.getvalue())


def start(**source: str) -> dict[str, float]:
    """Set up the data of a training in this process."""
    settings = {"root": None, "validation_root": None, "validation_fraction": 0.001, "batch_size": 1}
    data = AudioDataModule(**{**settings, "sample_rate": RATE, "channels": 1, "crop_seconds": 0.004, **source})
    before, begun, worked = megabytes(), time.perf_counter(), time.process_time()
    data.setup("fit")
    return {
        "seconds": time.perf_counter() - begun,
        "of_processor": time.process_time() - worked,
        "megabytes": megabytes() - before,
        "files": len(data.train_files) + len(data.validation_files),
    }


def started(cache: str, **source: str) -> dict[str, float]:
    """Run `start` in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, "--start", json.dumps(source)],
        env={**os.environ, CACHE_VARIABLE: cache},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder for the files")
    parser.add_argument("--start", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.start:
        print(json.dumps(start(**json.loads(given.start))))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        root, cache, manifest = Path(folder, "audio"), str(Path(folder, "cache")), Path(folder, "m.jsonl")
        write(root, given.files)
        found = {
            "folder, every header, nothing kept": started("relative", root=str(root)),
            "folder, first start": started(cache, root=str(root)),
            "folder, second start": started(cache, root=str(root)),
        }
        os.environ[CACHE_VARIABLE] = cache
        write_manifest(manifest, index(root).files)
        found["manifest"] = started(cache, manifest=str(manifest))
    assert {one["files"] for one in found.values()} == {given.files}
    rows = [
        (name, f"{one['seconds']:.1f}", f"{one['of_processor']:.1f}", f"{one['megabytes']:.0f}")
        for name, one in found.items()
    ]
    lines = [
        "# Many small files",
        "",
        f"By `benchmarks/many_files.py`: {given.files:,} WAV files of 200 bytes in {FOLDERS} folders, in the",
        f"system's memory; {cpu_model()}; {versions('soundfile')}.",
        "Seconds by the clock, and of one core's time, that the data of a training take to be set up, and how",
        "much the process grows.",
        "",
        *table(("start", "seconds", "of a core", "MB"), rows),
    ]
    if given.files == parser.get_default("files") and given.folder is None:
        publish(lines, "many_files")
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
