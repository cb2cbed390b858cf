"""One training run, from its first validation to its last checkpoint."""

import math
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl

from discrete_ae.data import AudioDataModule
from discrete_ae.training.callbacks import StopOnInterrupt
from discrete_ae.training.memory import keep_freed_memory
from discrete_ae.training.module import AutoencoderModule


@dataclass(frozen=True)
class TrainingRun:
    """Everything of a run, ready to go."""

    module: AutoencoderModule
    data: AudioDataModule
    trainer: pl.Trainer
    run_dir: Path
    ckpt_path: str | None
    """Checkpoint of the run that is continued, or None for a new one."""
    interrupt: StopOnInterrupt | None
    """Told of Ctrl-C, where the configuration has it."""

    def execute(self) -> None:
        """Validate the untrained model, at step 0, then train; a continued run goes on where it was."""
        keep_freed_memory()
        if self.ckpt_path is None:
            self.trainer.validate(self.module, self.data, verbose=False)
        # Checkpoints hold plain data only, and are read as such.
        self.trainer.fit(self.module, self.data, ckpt_path=self.ckpt_path, weights_only=True)
        self.trainer.strategy.barrier()  # the first process to end would end those that it started

    @property
    def objective(self) -> float:
        """The least val/reconstruction so far; NaN without a checkpoint that says."""
        found = getattr(self.trainer.checkpoint_callback, "best_model_score", None)
        return math.nan if found is None else float(found)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the run."""
        return self.interrupt is not None and self.interrupt.interrupted
