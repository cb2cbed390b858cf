"""Make the results in benchmarks/results anew that were not measured at this release.

    make benchmarks                                          # or: python benchmarks/remake.py
    python benchmarks/remake.py overhead_cpu scores          # only these, whatever release they were measured at
    python benchmarks/remake.py --corpus corpus --peers /tmp/peers/bin/python

Run it on an idle machine. `corpus` is written by speech_corpus.py --licences all; peers.py describes the environment of
the other codecs. A result that needs one of them is left as it is where it is not given.
"""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

from _common import REPOSITORY, RESULTS

import discrete_ae

COMMANDS = {
    "coding_speed_cpu": "{peers} coding_speed.py --device cpu",
    "encoding": "{python} encoding.py",
    "fine_tuning": "{python} fine_tuning.py {corpus} en_allison",
    "limits": "{python} limits.py {corpus}",
    "loading": "{python} loading.py",
    "many_files": "{python} many_files.py",
    "overfit": "{python} overfit.py",
    "overhead_cpu": "{python} overhead.py",
    "quantizer_speed_cpu": "{python} quantizer_speed.py",
    "rounding_speed_cpu": "{python} rounding_speed.py",
    "schedules": "{python} schedules.py",
    "scores": "{python} scores.py",
    "speech_16k": "{python} rates.py {corpus}/test/other_voices",
    "streaming": "{python} streaming.py",
    "streaming_engines": "{python} streaming_engines.py",
    "training_speed_cpu": "{peers} training_speed.py --device cpu",
    "training_speed_cpu_bf16": "{peers} training_speed.py --device cpu --bf16",
    "training_speed_cpu_compiled": "{peers} training_speed.py --device cpu --compile --pair 'DAC 16 kHz'",
}
"""Command of every result that one command makes."""
TRAINED = {"comparison", "entropy_coding", "gradients", "recipe", "speech_16k_two_hours"}
"""Results of long trainings. Each names its commands."""


def release(name: str) -> str | None:
    """Return the release at which a result was measured; None if it names none."""
    path = RESULTS / f"{name}.md"
    found = (
        re.search(r"^Measured at discrete-ae (\S+), commit", path.read_text(), re.MULTILINE) if path.exists() else None
    )
    return found[1] if found else None


def main() -> None:
    """Run the commands, and say what was left and what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", metavar="RESULT", help=f"one of {', '.join(COMMANDS)}")
    parser.add_argument("--corpus", type=Path, help="folder written by speech_corpus.py --licences all")
    parser.add_argument("--peers", type=Path, help="Python of the environment with the other codecs")
    given = parser.parse_args()
    if unknown := [name for name in given.results if name not in COMMANDS]:
        parser.error(f"expected results of {', '.join(COMMANDS)}, got {', '.join(unknown)}")
    values = {"python": sys.executable, "corpus": given.corpus and given.corpus.resolve(), "peers": given.peers}
    problems = []
    for name in given.results or COMMANDS:
        if not given.results and release(name) == discrete_ae.__version__:
            continue
        missing = [
            f"--{option}" for option, value in values.items() if value is None and f"{{{option}}}" in COMMANDS[name]
        ]
        if missing:
            problems.append(f"{name}: left as it is; it needs {missing[0]}")
            continue
        program, script, *options = shlex.split(COMMANDS[name])
        command = [part.format(**values) for part in [program, f"benchmarks/{script}", *options]]
        print(f"== {name}: {shlex.join(command)}", flush=True)
        status = subprocess.run(command, cwd=REPOSITORY, check=False).returncode
        if status:
            problems.append(f"{name}: failed with status {status}")
    sys.exit("\n".join(problems) if problems else 0)


if __name__ == "__main__":
    main()
