"""Train the default run of every quantizer and of some quantizer options, with three seeds each.

    python benchmarks/default_runs.py            # about three hours on 2 cores; a second call resumes

Each run uses one CPU thread, with as many runs in parallel as cores. The runs stay in logs/default_runs, and finished
runs there are not trained again. Writes benchmarks/results/default_runs.md, and the same table into
docs/quantizers.md.
"""

import argparse
import itertools
import os
import platform
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightning
import torch
from _common import REPOSITORY, insert, publish, table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SEEDS = (0, 1, 2)
NEEDS_ANOTHER = "rvq_pretrained"  # needs a network that is already trained
QUANTIZERS = sorted({path.stem for path in (REPOSITORY / "conf" / "quantizer").glob("*.yaml")} - {NEEDS_ANOTHER})
OPTIONS = {
    "ste, bound=normal": ["quantizer=ste", "quantizer.bound=normal"],
    "ste, bound=laplace": ["quantizer=ste", "quantizer.bound=laplace"],
    "ste, bound=cauchy": ["quantizer=ste", "quantizer.bound=cauchy"],
    "ste, rotation=true": ["quantizer=ste", "quantizer.rotation=true"],
    "ste, dither=true": ["quantizer=ste", "quantizer.dither=true"],
    "ste, dropout=0.25": ["quantizer=ste", "quantizer.dropout=0.25"],
    "residual_fsq, learn_scale=true": ["quantizer=residual_fsq", "quantizer.learn_scale=true"],
    "gumbel, reinmax=true": ["quantizer=gumbel", "quantizer.hard=true", "quantizer.reinmax=true"],
}
METHODS = {name: [f"quantizer={name}"] for name in QUANTIZERS} | OPTIONS
"""Overrides by the name of the row."""
COLUMNS = {  # heading: tag, factor, digits, unit
    "reconstruction ↓": ("val/reconstruction", 1.0, 3, ""),
    "SI-SDR, dB ↑": ("val/si_sdr_db", 1.0, 2, ""),
    "codes used": ("val/codes/usage", 100.0, 0, " %"),
    "entropy of the codes, kbps": ("val/codes/bitrate_bps", 1e-3, 2, ""),
}
FOLDER = REPOSITORY / "logs" / "default_runs"


def folder_of(method: str, seed: int) -> Path:
    """Return the folder of a run."""
    return FOLDER / f"{method.replace(', ', '-').replace('=', '-')}-seed{seed}"


def train(method: str, seed: int) -> None:
    """Train one run, unless it is finished already."""
    run = folder_of(method, seed)
    done = run / "done"
    if not done.exists():
        command = [sys.executable, "train.py", *METHODS[method], f"seed={seed}", f"hydra.run.dir={run}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(
            [*command, "force=true"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise SystemExit(f"{method}: {ended.stderr}")
        done.touch()
        print(f"{run.name} done", flush=True)


def last(run: Path) -> dict[str, float]:
    """Return the values of the last validation by tag."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"] if tag.startswith("val/")}


def row(method: str) -> list[str]:
    """Return the row of a method: means over seeds with sample standard deviations."""
    found = [last(folder_of(method, seed)) for seed in SEEDS]
    cells = []
    for tag, factor, digits, unit in COLUMNS.values():
        values = [factor * one[tag] for one in found if tag in one]
        spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.{digits}f}{spread}{unit}" if values else "")
    return [f"`{method}`", *cells]


def report(rows: list[list[str]]) -> None:
    """Write the table."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "one CPU thread a run"
    about = (
        "`python benchmarks/default_runs.py`, that is `python train.py quantizer=... seed=...` for each and the seeds "
        f"{', '.join(map(str, SEEDS))}; {device} ({platform.machine()}), Python {platform.python_version()}, torch "
        f"{torch.__version__}, lightning {lightning.__version__}."
    )
    meaning = (
        "Means over the seeds and their sample standard deviation, of the validation recordings through hard codes "
        "after 1200 steps; the nominal rate is 3.2 kbps. On 161 seconds of audio the table shows that each one learns; "
        "which one is better is for a longer run on your own recordings (`experiment=compare`)."
    )
    lines = [about, "", meaning, "", *table(["quantizer", *COLUMNS], rows)]
    publish(["# The default run of every quantizer", "", *lines], "default_runs")
    insert(REPOSITORY / "docs" / "quantizers.md", "default runs", lines)


def main() -> None:
    """Train all and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-a-time", type=int, default=os.cpu_count(), help="parallel runs, each on one core")
    jobs = [job for names in (QUANTIZERS, OPTIONS) for job in itertools.product(SEEDS, names)]
    with ThreadPoolExecutor(parser.parse_args().at_a_time) as pool:
        list(pool.map(lambda job: train(job[1], job[0]), jobs))
    report([row(method) for method in METHODS])


if __name__ == "__main__":
    main()
