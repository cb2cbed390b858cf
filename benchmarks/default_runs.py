"""The default run of every quantizer, as a newcomer would start it.

    python benchmarks/default_runs.py            # about 25 minutes on 2 cores

One CPU thread a run, and as many runs at a time as there are cores. The runs are left in logs/default_runs. Writes
benchmarks/results/default_runs.md: seconds of the training itself, first and last validation. One seed on few
recordings: it shows that each one learns, not which one is better.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightning
import torch
from _common import REPOSITORY, publish, table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

QUANTIZERS = sorted(path.stem for path in (REPOSITORY / "conf" / "quantizer").glob("*.yaml"))
COLUMNS = ("quantizer", "seconds", "reconstruction, first", "last", "ratio", "SI-SDR in dB", "codes used", "kbps")


def run(quantizer: str, folder: Path) -> list[str]:
    """Train one and return its row."""
    run_dir = folder / quantizer
    command = [sys.executable, "train.py", f"quantizer={quantizer}", f"hydra.run.dir={run_dir}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{quantizer}: {done.stderr}")
    print(f"{quantizer} done", flush=True)
    return row(quantizer, run_dir)


def row(quantizer: str, run_dir: Path) -> list[str]:
    """The row of a finished run."""
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()

    def last(tag: str, form: str, factor: float = 1.0) -> str:
        return format(factor * events.Scalars(tag)[-1].value, form) if tag in events.Tags()["scalars"] else ""

    losses = events.Scalars("val/reconstruction")
    # From the validation before the first step to the one after the last.
    seconds = losses[-1].wall_time - losses[0].wall_time
    return [
        f"`{quantizer}`",
        f"{seconds:.0f}",
        f"{losses[0].value:.2f}",
        f"{losses[-1].value:.2f}",
        f"{losses[-1].value / losses[0].value:.2f}",
        last("val/si_sdr_db", ".2f"),
        last("val/codes/usage", ".0%"),
        last("val/codes/bitrate_bps", ".2f", 1e-3),
    ]


def main() -> None:
    """Train all and report."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    folder = REPOSITORY / "logs" / "default_runs" / time.strftime("%Y%m%d-%H%M%S")
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        report(list(pool.map(lambda quantizer: run(quantizer, folder), QUANTIZERS)))


def report(rows: list[list[str]]) -> None:
    """Write the table."""
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"one CPU thread a run, {os.cpu_count()} runs at a time"
    )
    lines = [
        "# The default run of every quantizer",
        "",
        "`python benchmarks/default_runs.py`, that is `python train.py quantizer=...` for each; "
        f"{device} ({platform.machine()}), Python {platform.python_version()}, "
        f"torch {torch.__version__}, lightning {lightning.__version__}.",
        "",
        "Seconds are those of the training itself with its validations. All figures are of the validation recordings "
        "through hard codes; the nominal rate is 3.2 kbps, `kbps` the entropy of the codes. One seed on 161 seconds of "
        "audio: the table shows that each one learns, not which one is better.",
        "",
        *table(COLUMNS, rows),
    ]
    publish(lines, "default_runs")


if __name__ == "__main__":
    main()
