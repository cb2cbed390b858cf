"""Measure a training step of the presets, by the trainer of `python train.py`, on batches in memory."""

import gc
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from _common import composed
from torch import Tensor

from discrete_ae.cli.info import model_of
from discrete_ae.model.summary import summarize
from discrete_ae.training import build_training
from gpu_steps.environment import matrix_rate
from gpu_steps.meter import LOG_EVERY, Meter
from gpu_steps.presets import PRESETS, TINY_PRESETS, Preset
from gpu_steps.results import Given


class Repeated:
    """A loader that repeats one batch for every step.

    Args:
        batch: crops (B, C, N).
        count: number of steps.
    """

    def __init__(self, batch: Tensor, count: int) -> None:
        self.batch, self.count = batch, count

    def __iter__(self) -> Iterator[Tensor]:
        return iter([self.batch] * self.count)

    def __len__(self) -> int:
        return self.count


def measure(given: Given, compiled: bool = False) -> None:
    """Measure as many presets as time allows."""
    peak_rate, _ = matrix_rate(given.device)
    presets = TINY_PRESETS[: 1 if compiled else None] if given.tiny else PRESETS
    for number, preset in enumerate(presets):
        if given.left_s < 0:
            given.note("no time was left for " + "; ".join(preset.name for preset in presets[number:]))
            break
        try:
            row = step_of(given, preset, peak_rate, compiled)
        except Exception as error:  # of any kind: the other presets still run
            given.note(f"{preset.name}: {type(error).__name__}: {str(error)[:300]}")
            continue
        given.add(**row)
        if number == 0:
            given.summarize(
                f"{preset.name}: {row['audio s/s']:,.0f} s of audio a second, {row['step ms']:.1f} ms a step"
            )
    if not given.results.read()["steps"][given.step]["rows"]:
        raise SystemExit("no preset could be trained")


def step_of(given: Given, preset: Preset, peak_rate: float, compiled: bool) -> dict[str, Any]:
    """Return a row for a preset, with its batch size halved until it fits."""
    batch_size = preset.batch_size
    while True:
        try:
            return _step_of(given, preset, batch_size, peak_rate, compiled)
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
            batch_size //= 2
        finally:
            gc.collect()
            if given.device == "cuda":
                torch.cuda.empty_cache()


def _step_of(given: Given, preset: Preset, batch_size: int, peak_rate: float, compiled: bool) -> dict[str, Any]:
    meter = Meter(timed=LOG_EVERY if given.tiny else 3 * LOG_EVERY)
    with tempfile.TemporaryDirectory() as folder:
        config = composed(
            *preset.overrides,
            f"compile={str(compiled).lower()}",
            f"data.batch_size={batch_size}",
            f"trainer.accelerator={'gpu' if given.device == 'cuda' else 'cpu'}",
            f"trainer.log_every_n_steps={LOG_EVERY}",
            f"trainer.max_steps={meter.num_steps}",
            "+trainer.limit_val_batches=0",
            "+trainer.enable_checkpointing=false",
            f"run_dir={folder}",
        )
        run = build_training(config)
        run.trainer.callbacks.append(meter)
        audio = 0.1 * torch.randn(batch_size, run.data.settings.channels, run.data.settings.num_samples)
        if given.device == "cuda":
            audio = audio.pin_memory()
        run.trainer.fit(run.module, Repeated(audio, meter.num_steps))
    for place, count in meter.places.most_common(8):
        given.note(f"{preset.name}: {place} waits for the GPU {count} times in {LOG_EVERY - 1} steps")
    summary = summarize(model_of(preset.overrides))
    audio_s = batch_size * run.data.settings.num_samples / run.data.settings.sample_rate
    flops = 6 * summary.total.macs_per_second * audio_s  # two per multiply-accumulate: once forward, twice backward
    on_gpu = given.device == "cuda"
    found = meter.profiled
    return {
        "preset": preset.name,
        "parameters": f"{summary.total.parameters / 1e6:.1f} M",
        "batch": f"{batch_size} x {run.data.settings.num_samples / run.data.settings.sample_rate:g} s",
        "precision": str(run.trainer.precision),
        "step ms": 1000 * meter.step_s,
        "audio s/s": audio_s / meter.step_s,
        "peak GiB": None if meter.peak_bytes is None else meter.peak_bytes / 2**30,
        # The model's own work, without discriminators, losses and elementwise products.
        "TFLOP/s": flops / meter.step_s / 1e12,
        "of the matrix rate": f"{flops / meter.step_s / peak_rate:.1%}",
        "GPU busy": f"{found.busy_s / meter.step_s:.0%}" if on_gpu else None,
        "kernels": found.kernels if on_gpu else None,
        "launches": found.launches if on_gpu else None,
        "graph launches": found.graph_launches if on_gpu else None,
        "copies to host": found.copies_to_host if on_gpu else None,
        "waits in 9 steps between logs": sum(meter.synchronizations[:-1]) if on_gpu else None,
        "waits in a logged step": meter.synchronizations[-1] if on_gpu else None,
        "first step s": meter.first_step_s,
    }
