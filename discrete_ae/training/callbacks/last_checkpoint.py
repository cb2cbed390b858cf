"""The checkpoint from which a run goes on."""

import shutil
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn


class KeepLast(Checkpoint):
    """Writes last.ckpt with every validation of training and at its end, whether or not it is the best one.

    Not ModelCheckpoint's `save_last`, which writes it only where it has also written the best one (Lightning 2.6).
    Where best.ckpt was just written, this is a copy of it: the same step need not be hashed and serialized again. A
    copy and no link, since what writes best.ckpt may write it in place.

    Args:
        dirpath: folder of the checkpoints.
    """

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self._best_before: object = None
        self._step: int | None = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        best = _best(trainer)
        self._best_before = best.best_model_score if best else None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; Lightning calls those that write checkpoints last, in the order in which they are given."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self._step = trainer.global_step
        best = _best(trainer)
        # By identity: an equal score is not a better one.
        if best is None or best.best_model_score is self._best_before:
            trainer.save_checkpoint(self.path)
            return
        if trainer.is_global_zero:
            temporary = self.path.with_suffix(".partial")
            shutil.copyfile(best.best_model_path, temporary)
            temporary.replace(self.path)
        trainer.strategy.barrier()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; a run without validations has this one alone."""
        if self._step != trainer.global_step:
            trainer.save_checkpoint(self.path)


def _best(trainer: pl.Trainer) -> ModelCheckpoint | None:
    found = trainer.checkpoint_callback
    return found if isinstance(found, ModelCheckpoint) else None
