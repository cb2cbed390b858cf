"""Measure the overhead of a run: forward, loss, backward and optimizer against everything else, by name.

    python benchmarks/overhead.py                             # the default run of 200 steps, about a minute
    python benchmarks/overhead.py model=spectral/large data.batch_size=2 trainer.max_steps=4

On one thread, in processor seconds, which other load affects little; from the first validation to the
last checkpoint, without imports and compilation. Writes benchmarks/results/overhead_cpu.md if nothing is overridden.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from typing import Any

import torch
from _common import REPOSITORY, machine, publish, table, versions
from hydra import compose, initialize_config_dir
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.utilities import disable_possible_user_warnings

from discrete_ae.training import build_training
from discrete_ae.training.run import keep_freed_memory

# Ends of the names of Lightning's timed actions, by phase; the longest match counts. All others are "other".
STEP = {
    "forward": ("forward",),
    "loss": ("loss",),
    "backward": (".backward",),
    "optimizer": (".optimizer_step", ".configure_gradient_clipping", ".optimizer_zero_grad", ".lr_scheduler_step"),
}
BESIDE = {
    "data": ("train_dataloader_next",),
    "logging of steps": (".training_step", ".on_before_optimizer_step", "log_metrics"),
    "validation: forward and loss": ("SingleDeviceStrategy.validation_step", "validation loss"),
    "validation: data": ("val_next",),
    "validation: clips and their pictures": ("LogClips.on_validation_end",),
    "validation: rounding's curve": ("LogRoundingCurve.on_validation_end",),
    "validation: entropy model": ("FitEntropyModel.on_validation_end",),
    "validation: code histograms": ("LogCodeHistograms.on_validation_epoch_end",),
    "validation: hyperparameters, layout, terminal": (
        "LogHyperparameters.on_validation_end",
        "LogLayout.on_validation_end",
        "TrainingProgress.on_validation_end",
    ),
    "validation: means and use of codes": ("AutoencoderModule.on_validation_epoch_end",),
    "checkpoints: hash": (".on_save_checkpoint",),
    "checkpoints: state and files": ("save_checkpoint", "}.on_validation_end", "KeepLast.on_validation_end"),
}
OTHER = "other"


class OwnTime(Profiler):
    """Profiler of the processor seconds of every action, excluding nested actions."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inside: list[str] = []
        self._since = time.process_time()

    def start(self, action_name: str) -> None:
        """See Profiler."""
        self.lap()
        self._inside.append(action_name)

    def stop(self, action_name: str) -> None:
        """See Profiler."""
        self.lap()
        self._inside.pop()

    def lap(self) -> None:
        """Add the time since the last lap to the innermost action."""
        before, self._since = self._since, time.process_time()
        self.seconds[self._inside[-1] if self._inside else OTHER] += self._since - before


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _, overrides = parser.parse_known_args()
    torch.set_num_threads(1)
    disable_possible_user_warnings()
    steps, seconds = measure(overrides)
    lines = report(overrides, steps, seconds)
    if overrides:
        print("\n".join(lines))
    else:
        publish(lines, "overhead_cpu")


def measure(overrides: list[str]) -> tuple[int, dict[str, float]]:
    """Return the number of steps and the seconds by phase of one run on the CPU."""
    own = OwnTime()
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        chosen = ["choices=null", f"run_dir={folder}", "trainer=cpu", "trainer.max_steps=200"]
        run = build_training(compose("train", [*chosen, *overrides]))
        run.data.setup("fit")
        run.trainer.profiler = own  # type: ignore[attr-defined]
        timed(own, run.module, "training_model", "forward")
        timed(own, run.module.loss, "forward", "loss", "validation loss")
        for logger in run.trainer.loggers:
            timed(own, logger, "log_metrics", "log_metrics")
        own.lap()
        own.seconds.clear()
        keep_freed_memory()
        run.trainer.validate(run.module, run.data, verbose=False)
        run.trainer.fit(run.module, run.data)
        own.lap()
        phases = dict.fromkeys([*STEP, *BESIDE, OTHER], 0.0)
        for action, spent in own.seconds.items():
            phases[phase_of(action)] += spent
        return run.trainer.global_step, phases


def timed(own: OwnTime, owner: Any, method: str, action: str, without_gradient: str = "") -> None:
    """Time a method's calls under a name, or under another one while gradients are disabled."""
    called = getattr(owner, method)

    def instead(*arguments: Any, **settings: Any) -> Any:
        with own.profile(action if torch.is_grad_enabled() or not without_gradient else without_gradient):
            return called(*arguments, **settings)

    setattr(owner, method, instead)


def phase_of(action: str) -> str:
    """Return the phase of an action."""
    named = {end: phase for phase, ends in (STEP | BESIDE).items() for end in ends}
    # The longest match, since "validation loss" ends with "loss" too.
    fitting = [end for end in named if action.endswith(end)]
    return named[max(fitting, key=len)] if fitting else OTHER


def report(overrides: list[str], steps: int, seconds: dict[str, float]) -> list[str]:
    """Return the lines of the result."""
    total = sum(seconds.values())
    inside = sum(seconds[phase] for phase in STEP)
    return [
        "# What a run spends beside its steps",
        "",
        f"`python benchmarks/overhead.py {' '.join(overrides)}`".replace(" `", "`") + f": {steps} steps; "
        f"{machine('cpu', torch.get_num_threads())}; {versions('lightning')}. Processor seconds, without start-up; a "
        "validation comes before the first step and after every `trainer.val_check_interval`.",
        "",
        f"**{1 - inside / total:.1%} of {total:.1f} s are outside forward, loss, backward and optimizer.**",
        "",
        *table(("phase", "seconds", "share"), [[name, f"{s:.2f}", f"{s / total:.1%}"] for name, s in seconds.items()]),
    ]


if __name__ == "__main__":
    main()
