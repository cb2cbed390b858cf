"""Compare schedules of a quantizer's numbers: constant, annealed, and soft first, then hard.

    python benchmarks/schedules.py               # about 20 minutes on 2 cores

Each setting is trained for 400 steps with several seeds, otherwise like the default run. Each run uses one CPU thread,
with as many runs in parallel as cores. The runs stay in logs/schedules. Writes
benchmarks/results/schedules.md, where the schedules of conf/quantizer stand beside others.
"""

import argparse
import os
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from _common import REPOSITORY, publish, table
from _runs import last_validation, train

STEPS = 400
SEEDS = (0, 1)
COLUMNS = ("quantizer", "numbers", "SI-SDR in dB", "of each seed", "reconstruction, hard", "soft", "codes used")


def schedule(shape: str, first: float, last: float, begin: float = 0.0, end: float = 1.0) -> str:
    """Return a schedule as the value of an override."""
    target = "_target_:discrete_ae.schedules.Schedule"
    return f"{{{target},shape:{shape},first:{first},last:{last},begin:{begin},end:{end}}}"


class Setting(NamedTuple):
    """Numbers of a quantizer, as a description and as overrides."""

    quantizer: str
    numbers: str
    overrides: tuple[str, ...] = ()


def rounding(number: str, value: str | float) -> str:
    """Return an override of a number of the rounding."""
    return f"quantizer.rounding.{number}={value}"


SOFT, HARD = rounding("hard", "false"), rounding("hard", "true")
SWITCH = rounding("hard", schedule("switch", 0, 1, end=0.5))
SETTINGS = (
    Setting("ste", "none"),
    Setting("sigmoid", "k = 12, soft", (rounding("sharpness", 12.0), SOFT)),
    Setting("sigmoid", "k = 12, hard", (rounding("sharpness", 12.0), HARD)),
    Setting("sigmoid", "k linear 4 to 12, soft", (rounding("sharpness", schedule("linear", 4, 12)), SOFT)),
    Setting("sigmoid", "k = 4, soft, hard from 1/2", (rounding("sharpness", 4.0), SWITCH)),
    Setting("sigmoid", "k = 12, soft, hard from 1/2", (rounding("sharpness", 12.0), SWITCH)),
    Setting("fourier", "N = 3, hard", (rounding("terms", 3), HARD)),
    Setting("fourier", "N = 3, soft", (rounding("terms", 3), SOFT)),
    Setting("fourier", "N linear 1 to 5, hard", (rounding("terms", schedule("linear", 1, 5)), HARD)),
    Setting("fourier", "N linear 1 to 5, soft, hard from 1/2", (rounding("terms", schedule("linear", 1, 5)), SWITCH)),
    Setting("uniform_noise", "share 1", (rounding("share", 1.0), SOFT)),
    Setting("uniform_noise", "share 1, hard from 1/2", (SWITCH,)),
    Setting("stochastic", "share 1", (rounding("share", 1.0),)),
    Setting("gumbel", "tau = 1, soft", ("quantizer.temperature=1.0", "quantizer.hard=false")),
    Setting("gumbel", "tau exponential 2 to 0.5, soft", ("quantizer.temperature=" + schedule("exponential", 2, 0.5),)),
    Setting("gumbel", "tau = 1, soft, hard from 3/4", ("quantizer.hard=" + schedule("switch", 0, 1, end=0.75),)),
)


def trained(setting: Setting, seed: int, folder: Path) -> dict[str, float]:
    """Train once and return the figures of the last validation."""
    overrides = [
        f"quantizer={setting.quantizer}",
        *setting.overrides,
        f"seed={seed}",
        f"trainer.max_steps={STEPS}",
        f"trainer.val_check_interval={STEPS}",
        "callbacks.clips=null",
        "callbacks.progress=null",
    ]
    train(folder, overrides)
    return last_validation(folder)


def row(setting: Setting, figures: list[dict[str, float]]) -> list[str]:
    """Return the row of a setting, with means over the seeds."""

    def mean(tag: str, hard: str = "") -> float:
        return statistics.mean(found.get(tag, found.get(hard, float("nan"))) for found in figures)

    return [
        f"`{setting.quantizer}`",
        setting.numbers,
        f"{mean('val/si_sdr_db'):.2f}",
        ", ".join(f"{found['val/si_sdr_db']:.2f}" for found in figures),
        f"{mean('val/reconstruction'):.3f}",
        f"{mean('val/soft_reconstruction', 'val/reconstruction'):.3f}",
        f"{mean('val/codes/usage'):.0%}",
    ]


def main() -> None:
    """Train all settings and write the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    folder = REPOSITORY / "logs" / "schedules" / time.strftime("%Y%m%d-%H%M%S")
    jobs = [(setting, seed) for setting in SETTINGS for seed in SEEDS]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        figures = list(pool.map(lambda job: trained(*job[1], folder / str(job[0])), enumerate(jobs)))
    report(figures)


def report(figures: list[dict[str, float]]) -> None:
    """Write the table from the figures of all settings, ordered by setting, then seed."""
    n = len(SEEDS)
    rows = [row(setting, figures[i * n : (i + 1) * n]) for i, setting in enumerate(SETTINGS)]
    lines = [
        "# What a schedule of a quantizer's numbers is worth",
        "",
        f"`python benchmarks/schedules.py`: {STEPS} steps of the default run for each of {n} seeds, one CPU thread a "
        f"run ({platform.machine()}), Python {platform.python_version()}, torch {torch.__version__}.",
        "",
        "Means over the seeds, on the validation recordings. `hard` is through the codes, as everything is evaluated; "
        "`soft` through the training-time forward. The spread between seeds is the measure of what counts as a "
        "difference.",
        "",
        *table(COLUMNS, rows),
    ]
    publish(lines, "schedules")


if __name__ == "__main__":
    main()
