"""Processor time that the commands take before they begin their work, beside that of `import torch`.

    python benchmarks/start_up.py                                    # 5 minutes
    python benchmarks/start_up.py --before /path/to/another/checkout # beside it in the same rounds

The first form writes benchmarks/results/start_up.md, the second prints its table.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from _common import REPOSITORY, cpu_model, publish, table, versions

ROUNDS = 5
YARDSTICK = "python -c 'import torch'"

# Each runs a command, and ends it where its work begins: at the first recording, at the first step.
_COMPARE = """
import os, sys
from discrete_ae.evaluation import evaluate
evaluate.real_time_factors = lambda *given: os._exit(0)
from discrete_ae.cli.main import main
main(sys.argv[1:])
"""
_TRAIN = """
import os, sys
from discrete_ae.training.module import AutoencoderModule
AutoencoderModule.training_step = lambda *given: os._exit(0)
from discrete_ae.cli.main import main
main(sys.argv[1:])
"""


def commands(folder: Path) -> dict[str, list[str]]:
    """Return what is measured, by name: the arguments of Python. `folder` holds the runs a and b, and takes results."""
    checkpoint = folder / "runs" / "a" / "checkpoints" / "best.ckpt"
    recording = min((REPOSITORY / "data" / "validation").iterdir())
    program = ["-m", "discrete_ae.cli.main"]
    codes, decoded, report = (str(folder / name) for name in ("one.npz", "one.wav", "report"))
    with_model = ["-c", str(checkpoint), "-f"]
    few = ["trainer=cpu", "data.max_validation_segments=1", f"run_dir={folder / 'new'}", "force=true"]
    return {
        YARDSTICK: ["-c", "import torch"],
        "--version": [*program, "--version"],
        "--help": [*program, "--help"],
        "info CHECKPOINT": [*program, "info", str(checkpoint)],
        "info one.flac": [*program, "info", str(recording)],
        "encode one.flac": [*program, "encode", str(recording), "-o", codes, *with_model],
        "decode one.npz": [*program, "decode", codes, "-o", decoded, *with_model],
        "train --help": [*program, "train", "--help"],
        "train, to its first step": ["-c", _TRAIN, "train", *few],
        "compare two runs, to their first recording": [
            *("-c", _COMPARE, "compare", str(folder / "runs"), "-o", report, "-f")
        ],
    }


def processor_seconds(arguments: Sequence[str], checkout: Path) -> float:
    """Return user and system time of a process of Python, and of those that it waits for."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(checkouts: Mapping[str, Path], folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Return the median seconds of each command in each checkout, all of them once in every round."""
    for name, seed in (("a", "1"), ("b", "2")):
        run = [f"run_dir={folder / 'runs' / name}", f"seed={seed}", "trainer=cpu", "trainer.max_steps=1"]
        processor_seconds(["train.py", *run, "data.max_validation_segments=1"], REPOSITORY)
    named = commands(folder)
    taken: dict[str, dict[str, list[float]]] = {name: {each: [] for each in checkouts} for name in named}
    for _ in range(rounds):
        for name, arguments in named.items():
            for each, checkout in checkouts.items():
                taken[name][each].append(processor_seconds(arguments, checkout))
    return {name: {each: statistics.median(of) for each, of in found.items()} for name, found in taken.items()}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path, help="a checkout to be measured beside this one")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    checkouts = {"before": given.before.resolve()} if given.before else {}
    checkouts["after" if checkouts else "seconds"] = REPOSITORY
    with tempfile.TemporaryDirectory() as folder:
        found = measured(checkouts, Path(folder), given.rounds)
    heads = [head for each in checkouts for head in (each, "of import torch")]
    rows = [
        [name, *(text for each, took in of.items() for text in (f"{took:.2f}", f"{took / found[YARDSTICK][each]:.2f}"))]
        for name, of in found.items()
    ]
    lines = [
        "# Start of the commands",
        "",
        "By `python benchmarks/start_up.py`: seconds of processor time, user and system, of a process,",
        f"and as a multiple of `import torch`. Medians of {given.rounds} rounds, in each of which everything ran once;",
        f"{cpu_model()}; {versions('lightning', 'torchmetrics', 'scipy')}.",
        "",
        *table(["command", *heads], rows),
    ]
    if given.before is None and given.rounds == ROUNDS:
        publish(lines, "start_up")
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
