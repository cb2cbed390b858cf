"""Test and measure everything on a GPU with one command: whether it works, and how fast it is.

    python benchmarks/gpu.py --out DIR                          # about ten minutes on a GPU
    python benchmarks/gpu.py --out DIR --corpus FOLDER          # the training run on recordings of your own
    python benchmarks/gpu.py --out DIR --only compiled          # repeat one step; the results of the others stay
    python benchmarks/gpu.py --out DIR --device cpu --minutes 1 # shows that every line runs, on tiny models

Each step runs in its own process with its own time limit. A step that fails or is stopped is recorded with its results
so far, and the next one runs. DIR gets gpu.md to read, gpu.json with the same for programs, and gpu.log with the output
of the steps; the training run adds best.ckpt, curve.csv and clips.flac. docs/gpu.md explains how to read them.
"""

import argparse
import contextlib
import importlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from _common import REPOSITORY
from gpu_steps.results import Given, Results, verdict

STEPS = {  # in this order, with shares of the time; time that a step leaves goes to later steps
    "environment": 2,
    "tests": 24,
    "training": 14,
    "peers": 6,
    "compiled": 24,
    "loading": 7,
    "operations": 7,
    "coding": 7,
    "ddp": 10,
    "run": 36,
}
AIM = 0.85  # the share of its limit that a step plans with
PATIENCE_S = 300.0  # minimum limit on a CPU, which may be busy, and where no speed is measured
LAST_LINES = 12


def limit_of(name: str, chosen: list[str], left_s: float, device: str) -> float:
    """Return the seconds after which a step is stopped."""
    following = chosen[chosen.index(name) :]
    return max(left_s * STEPS[name] / sum(STEPS[step] for step in following), PATIENCE_S * (device == "cpu"))


def in_process(command: list[str], log: Path, limit_s: float, environment: dict[str, str]) -> tuple[str, list[str]]:
    """Run a step; return its status and, unless it is "done", the last lines that it printed."""
    begin = log.stat().st_size
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )
        try:
            code = process.wait(limit_s)
            status = f"failed, exit status {code}" if code else "done"
        except subprocess.TimeoutExpired:
            status = f"stopped after {limit_s:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):  # stop its child processes too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    return status, [] if status == "done" else lines[-LAST_LINES:]


def environment_of(step: str, device: str, peers: Path | None) -> dict[str, str]:
    """Return the environment of a step and its trainings, with this checkout and its callbacks on PYTHONPATH."""
    paths = [str(REPOSITORY), str(REPOSITORY / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    if step == "peers" and peers:  # the other steps must not import the peers' packages
        paths.append(str(peers.resolve()))
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}
    # Tiny models on a busy CPU: more threads wait for each other, and compiling kernels takes most of the time.
    return {**found, "OMP_NUM_THREADS": "1", "TORCH_COMPILE_DISABLE": "1"} if device == "cpu" else found


def main() -> None:
    """Run the steps and print a table of their results; the exit status is 0 if all succeeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results, six files")
    parser.add_argument("--corpus", type=Path, help="folder of recordings for the training run (default: data/)")
    parser.add_argument(
        "--train",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override of the training run, as for train.py (may be repeated; default: a model of 3.3 M parameters)",
    )
    parser.add_argument("--peers", type=Path, help="folder with DAC's and EnCodec's packages, if not installed")
    parser.add_argument("--minutes", type=float, default=10.0, help="time limit of all steps together")
    parser.add_argument("--only", choices=tuple(STEPS), action="append", help="only this step (may be repeated)")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--step", choices=tuple(STEPS), help=argparse.SUPPRESS)  # in its own process
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    results = Results(given.out)
    if given.step:
        deadline = time.monotonic() + given.seconds
        step = importlib.import_module(f"gpu_steps.{given.step}")
        step.measure(Given(given.step, given.out, given.device, given.corpus, tuple(given.train), deadline, results))
        return
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            f"no GPU: torch {torch.__version__} finds no CUDA device; see that nvidia-smi lists one and that "
            "torch is a build for CUDA, or give --device cpu to see that every line runs"
        )
    given.out.mkdir(parents=True, exist_ok=True)
    log = given.out / "gpu.log"
    log.write_text("")
    results.about(command=shlex.join(["python", *sys.argv]), started=time.strftime("%Y-%m-%d %H:%M:%S %Z"))
    end = time.monotonic() + 60 * given.minutes
    chosen = [name for name in STEPS if given.only is None or name in given.only]
    trained = ["--corpus", str(given.corpus.resolve())] if given.corpus else []
    trained += [f"--train={override}" for override in given.train]
    for name in chosen:
        limit_s = limit_of(name, chosen, max(end - time.monotonic(), 0), given.device)
        print(f"{name}, at most {limit_s:.0f} s ...", flush=True)
        results.begin(name, round(limit_s, 1))
        command = [sys.executable, __file__, "--out", str(given.out.resolve()), "--device", given.device, *trained]
        command += ["--step", name, "--seconds", str(AIM * limit_s)]
        begin = time.monotonic()
        status, last = in_process(command, log, limit_s, environment_of(name, given.device, given.peers))
        results.change(name, status=status, seconds=round(time.monotonic() - begin, 1), last_lines=last)
    found = results.read()
    for name, status, seconds, summary in verdict(found):
        print(f"{name:12} {status:24} {seconds:>6} s  {summary}")
    print(f"{given.out / 'gpu.md'} has the whole")
    sys.exit(any(found["steps"][name]["status"] != "done" for name in chosen))


if __name__ == "__main__":
    main()
