"""The default run of every quantizer, as a newcomer would start it, by three seeds.

    python benchmarks/default_runs.py            # about two hours on 2 cores; called again, it goes on

One CPU thread a run, and as many runs at a time as there are cores. The runs are left in logs/default_runs, and those
that are finished there are not trained again. Writes benchmarks/results/default_runs.md, and the same table into
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
from _common import REPOSITORY, publish, table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SEEDS = (0, 1, 2)
NEEDS_ANOTHER = "rvq_pretrained"  # a network that was trained before
QUANTIZERS = sorted({path.stem for path in (REPOSITORY / "conf" / "quantizer").glob("*.yaml")} - {NEEDS_ANOTHER})
COLUMNS = {  # heading: tag, format, factor
    "reconstruction ↓": ("val/reconstruction", "{:.3f}", 1.0),
    "SI-SDR, dB ↑": ("val/si_sdr_db", "{:.2f}", 1.0),
    "codes used": ("val/codes/usage", "{:.0f} %", 100.0),
    "entropy of the codes, kbps": ("val/codes/bitrate_bps", "{:.2f}", 1e-3),
}
PAGE = REPOSITORY / "docs" / "quantizers.md"
MARKS = "<!-- default runs -->", "<!-- end of default runs -->"


def train(quantizer: str, seed: int, folder: Path) -> Path:
    """Train one, unless it is there, and return its folder."""
    run = folder / f"{quantizer}-seed{seed}"
    done = run / "done"
    if not done.exists():
        command = [sys.executable, "train.py", f"quantizer={quantizer}", f"seed={seed}", f"hydra.run.dir={run}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(
            [*command, "force=true"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise SystemExit(f"{quantizer}: {ended.stderr}")
        done.touch()
        print(f"{run.name} done", flush=True)
    return run


def last(run: Path) -> dict[str, float]:
    """The values of the last validation, by tag."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"] if tag.startswith("val/")}


def row(quantizer: str, runs: list[Path]) -> list[str]:
    """The row of a quantizer: means over seeds, with the sample standard deviation."""
    found = [last(run) for run in runs]
    cells = []
    for tag, form, factor in COLUMNS.values():
        values = [factor * one[tag] for one in found if tag in one]
        spread = f" ± {form.format(statistics.stdev(values)).removesuffix(' %')}" if len(values) > 1 else ""
        cells.append(form.format(statistics.mean(values)).replace(" %", f"{spread} %") if "%" in form and values
                     else form.format(statistics.mean(values)) + spread if values else "")  # fmt: skip
    return [f"`{quantizer}`", *cells]


def report(rows: list[list[str]]) -> None:
    """Write the table."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "one CPU thread a run"
    about = (
        f"`python benchmarks/default_runs.py`, that is `python train.py quantizer=... seed=...` for each and the seeds "
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
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text("\n".join([before + MARKS[0], *lines, MARKS[1] + after]))


def main() -> None:
    """Train all and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quantizers", nargs="*", default=QUANTIZERS, help="those to train; without, all, and the table")
    parser.add_argument("--at-a-time", type=int, default=os.cpu_count(), help="how many runs, each on one core")
    arguments = parser.parse_args()
    given = arguments.quantizers
    folder = REPOSITORY / "logs" / "default_runs"
    jobs = [
        (quantizer, seed) for seed, quantizer in itertools.product(SEEDS, given)
    ]  # whole seeds, if it is broken off
    with ThreadPoolExecutor(arguments.at_a_time) as pool:
        list(pool.map(lambda job: train(*job, folder), jobs))
    if given == QUANTIZERS:
        report([row(one, [folder / f"{one}-seed{seed}" for seed in SEEDS]) for one in QUANTIZERS])


if __name__ == "__main__":
    main()
