"""One training run, from its first validation to its last checkpoint."""

import contextlib
import ctypes
import math
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl

from discrete_ae.data import AudioDataModule
from discrete_ae.training.callbacks import StopOnInterrupt
from discrete_ae.training.loggers import finish
from discrete_ae.training.module import AutoencoderModule

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER = 2**31 - 1


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
        try:
            if self.ckpt_path is None:
                self.trainer.validate(self.module, self.data, verbose=False)
            # Checkpoints hold plain data only, and are read as such.
            self.trainer.fit(self.module, self.data, ckpt_path=self.ckpt_path, weights_only=True)
        finally:
            finish(self.trainer.loggers)
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


def keep_freed_memory() -> None:
    """Let this process use freed memory again instead of giving every large block back to the system.

    By default glibc maps each block of more than some MiB anew, and the system clears every page of it at the first
    touch: an eighth to a fifth of a step of large convolutions, for 5 % less memory (benchmarks/NOTES.md). Nothing
    happens where the C library is another.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, NEVER)
