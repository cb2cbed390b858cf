"""Callbacks that record the trainings of these benchmarks; named in their configuration."""

import csv
import json
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

SETTLED = 20  # steps before the speed counts: kernels are compiled and chosen in them


class Curve(pl.Callback):
    """A callback that appends step, time, training speed and all val/ metrics to a CSV file after every validation.

    Args:
        path: path of the CSV file, to which several processes write one after another.
        process: number of the training process.
    """

    def __init__(self, path: str, process: int) -> None:
        self.path, self.process = Path(path), process
        self._mark: tuple[int, float] | None = None
        self._speed = self._began = 0.0
        self._steps = 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any) -> None:
        """See Callback."""
        self._steps += 1
        if self._steps == SETTLED:
            self._mark = trainer.global_step, time.time()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        self._began = time.time()
        if self._mark is not None and trainer.global_step > self._mark[0]:
            self._speed = (trainer.global_step - self._mark[0]) / (self._began - self._mark[1])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        row = {"process": self.process, "step": trainer.global_step, "time": round(self._began, 3)}
        row |= {"steps_per_s": round(self._speed, 3), "validation_s": round(time.time() - self._began, 3)}
        row |= dict(sorted(metrics.items()))
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        if self._mark is not None:
            self._mark = trainer.global_step, time.time()


class SameOnEveryRank(pl.Callback):
    """A callback that writes at the end of training whether all ranks have bit-identical weights and codebooks.

    Args:
        path: path of a JSON file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        tensors = [tensor.detach().double().flatten() for tensor in pl_module.model.state_dict().values()]
        ours = torch.cat(tensors)
        theirs = pl_module.all_gather(ours).reshape(-1, ours.numel())
        if trainer.is_global_zero:
            found = {
                "backend": torch.distributed.get_backend(),
                "processes": trainer.world_size,
                "steps": trainer.global_step,
                "numbers": ours.numel(),
                "weights": "equal" if bool((theirs == ours).all()) else "DIFFERENT",
            }
            self.path.write_text(json.dumps(found))
