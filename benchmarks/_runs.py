"""Trainings by `python train.py` on one thread: their processor time, and the figures of their last validation."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from _common import REPOSITORY

from discrete_ae.compare.figures import read_curves


def processor_seconds(command: Sequence[str], log: Path) -> float:
    """Run a command on one thread, append its output to a file, and return its processor time.

    Raises:
        SystemExit: the command failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    with log.open("a") as file:
        print(*command, file=file, flush=True)
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=file, stderr=file, env=environment)
        # Not getrusage, which adds up all child processes: several commands may run at a time.
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}; {log} has its output")
    return used.ru_utime + used.ru_stime


def train(folder: Path, overrides: Sequence[str]) -> float:
    """Train the run `folder`/run unless it is finished, and return its processor time in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    spent = folder / "processor_seconds"
    if not spent.exists():
        command = [sys.executable, "train.py", *overrides, f"hydra.run.dir={folder / 'run'}", "force=true"]
        spent.write_text(str(processor_seconds(command, folder / "log.txt")))
    return float(spent.read_text())


def last_validation(folder: Path) -> dict[str, float]:
    """Return the figures of the last validation of the run `folder`/run, by tag."""
    curves = read_curves(folder / "run")
    return {tag: float(curve.values[-1]) for tag, curve in curves.items() if tag.startswith("val/")}
