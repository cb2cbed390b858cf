"""Measure a training step: time, memory, kernels, and how often the processor waits for the GPU."""

import time
import warnings
from collections import Counter
from typing import Any

import lightning.pytorch as pl
import torch
from _common import finish
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

LOG_EVERY = 10  # steps; `trainer.log_every_n_steps` must be equal
PROFILED = 2  # steps; a longer profile takes long to read
SYNCHRONIZING = "called a synchronizing CUDA operation"  # torch's warning under torch.cuda.set_sync_debug_mode


class Meter(pl.Callback):
    """A callback that measures a run of `num_steps` steps: some are timed, the next ten watched for synchronizations.

    The ten start after a logged step and end with one. The last few steps are profiled. The callback does not wait for
    the GPU between the first and the last timed step.

    Args:
        timed: number of timed steps, a multiple of ten.
        warmup: number of steps before them, a multiple of ten.
    """

    def __init__(self, timed: int, warmup: int = LOG_EVERY) -> None:
        self.first_timed = warmup
        self.first_watched = warmup + timed
        self.first_profiled = self.first_watched + LOG_EVERY
        self.num_steps = self.first_profiled + PROFILED
        self.first_step_s = self.step_s = 0.0
        self.peak_bytes: int | None = None
        self.places: Counter[str] = Counter()
        """Lines of code that synchronize between two logged steps."""
        self.synchronizations: list[int] = []
        """Number of synchronizations in each of the ten steps; the last step is logged."""
        activities = {"cuda": [ProfilerActivity.CPU, ProfilerActivity.CUDA], "cpu": [ProfilerActivity.CPU]}
        self.profilers = {device: profile(activities=chosen) for device, chosen in activities.items()}
        self._begin = 0.0
        self._caught = warnings.catch_warnings(record=True)
        self._warnings: list[warnings.WarningMessage] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """See Callback."""
        device = pl_module.device.type
        if batch_idx in (0, self.first_timed):
            finish(device)
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            self._begin = time.perf_counter()
        elif batch_idx == self.first_watched:
            finish(device)
            self.step_s = (time.perf_counter() - self._begin) / (self.first_watched - self.first_timed)
            if device == "cuda":
                self.peak_bytes = torch.cuda.max_memory_allocated()
                torch.cuda.set_sync_debug_mode("warn")
            self._warnings = self._caught.__enter__()  # type: ignore[assignment]
            warnings.simplefilter("always")
        elif batch_idx == self.first_profiled:
            finish(device)
            self.profilers[device].start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See Callback."""
        device = pl_module.device.type
        if batch_idx == 0:
            finish(device)
            self.first_step_s = time.perf_counter() - self._begin
        if self.first_watched <= batch_idx < self.first_profiled:
            found = [warning for warning in self._warnings if SYNCHRONIZING in str(warning.message)]
            self._warnings.clear()
            self.synchronizations.append(len(found))
            if batch_idx < self.first_profiled - 1:
                self.places.update(f"{'/'.join(w.filename.split('/')[-3:])}:{w.lineno}" for w in found)
            else:
                self._caught.__exit__(None, None, None)
                if device == "cuda":
                    torch.cuda.set_sync_debug_mode("default")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        device = pl_module.device.type
        finish(device)
        self.profilers[device].stop()
        self.profiled = Profiled(self.profilers[device])


class Profiled:
    """Figures per step from a profile of a few steps.

    Args:
        found: the stopped profile.
    """

    def __init__(self, found: profile) -> None:
        events = found.events() or []
        on_gpu = [event for event in events if event.device_type == DeviceType.CUDA and not event.is_user_annotation]
        calls = Counter(event.name for event in events if event.device_type == DeviceType.CPU)
        copies = sum(event.name.startswith(("Memcpy", "Memset")) for event in on_gpu)
        self.kernels = (len(on_gpu) - copies) / PROFILED
        # cudaLaunchKernel, cudaLaunchKernelExC, cuLaunchKernel, cuLaunchKernelEx
        self.launches = sum(count for name, count in calls.items() if "LaunchKernel" in name) / PROFILED
        self.graph_launches = calls["cudaGraphLaunch"] / PROFILED
        self.copies_to_host = sum(event.name.startswith("Memcpy DtoH") for event in on_gpu) / PROFILED
        self.busy_s = sum(event.self_device_time_total for event in on_gpu) / 1e6 / PROFILED
