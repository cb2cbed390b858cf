"""Profile a training step: waiting for data, time by operation, and the busy time of a GPU.

    python benchmarks/step_profile.py experiment=speech_16k data.root=/path/to/speech
    python benchmarks/step_profile.py --steps 10 model=spectral/tiny

The steps are those of `python train.py` with the same settings, without validation, checkpoints and logs.
The result is printed, not written to a file.
"""

import argparse
import tempfile
import time
from typing import Any

import lightning.pytorch as pl
import torch
from _common import composed, finish, machine
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from discrete_ae.training import build_training


class Watch(pl.Callback):
    """A callback that times and profiles the steps after the warm-up, waiting for the device at both ends."""

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.waited_s = self.stepped_s = 0.0
        self.profiler = profile()
        self._since = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Count the time since the last step as waiting for data."""
        if trainer.global_step == self.warmup:
            self.profiler.start()
            self._since = time.perf_counter()
        elif trainer.global_step > self.warmup:
            self.waited_s += self._lap()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Count the time since the batch arrived as the step's."""
        finish(pl_module.device.type)
        if trainer.global_step > self.warmup:
            self.stepped_s += self._lap()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        self.profiler.stop()

    def _lap(self) -> float:
        before, self._since = self._since, time.perf_counter()
        return self._since - before


def main() -> None:
    """Run the steps and print the profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warmup", type=int, default=5, help="warm-up steps")
    parser.add_argument("--steps", type=int, default=20, help="measured steps")
    given, overrides = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["+trainer.limit_val_batches=0", "+trainer.enable_checkpointing=false", f"run_dir={folder}"]
        run = build_training(composed(*overrides, *fixed, f"trainer.max_steps={given.warmup + given.steps}"))
        watch = Watch(given.warmup)
        run.trainer.callbacks.append(watch)
        run.trainer.fit(run.module, run.data)
    total_s = watch.waited_s + watch.stepped_s
    device = run.module.device.type
    print(f"{' '.join(overrides) or 'the default run'}; {machine(device, torch.get_num_threads())}")
    print(f"a step: {1000 * total_s / given.steps:.1f} ms, {watch.waited_s / total_s:.1%} of it waiting for data")
    averages = watch.profiler.key_averages()
    if ProfilerActivity.CUDA in torch.profiler.supported_activities():
        # Kernels alone: an operation's time repeats that of its kernels.
        kernels = [event for event in averages if event.device_type == DeviceType.CUDA and not event.is_user_annotation]
        busy_s = sum(event.self_device_time_total for event in kernels) / 1e6
        print(f"the GPU is busy {busy_s / total_s:.1%} of the time")
    order = "self_cuda_time_total" if device == "cuda" else "self_cpu_time_total"
    print(averages.table(sort_by=order, row_limit=15, max_name_column_width=50))


if __name__ == "__main__":
    main()
