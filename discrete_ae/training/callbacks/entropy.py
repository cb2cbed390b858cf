"""The entropy model of a checkpoint's codes, fitted to what the model makes of the training set."""

from collections.abc import Iterator
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn

from discrete_ae.checks import positive
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.data import AudioDataModule
from discrete_ae.saving.checkpoint import ENTROPY_MODEL, KEY
from discrete_ae.training.module import AutoencoderModule


class FitEntropyModel(pl.Callback):
    """At the end of every validation of training, counts the codes of the first training crops, for the checkpoint.

    The model is then in evaluation mode and has the weights that the checkpoint gets. Nothing of it depends on what was
    fitted before, so a continued run needs no state of it; nothing is drawn at random, so training goes on as without.
    A model without codes has none; nor has a checkpoint written before the first validation of its run.

    Args:
        max_seconds: of audio that is encoded; the crops are those that training began with.

    Raises:
        ValueError: unless max_seconds is above 0.
    """

    def __init__(self, max_seconds: float = 200.0) -> None:
        self.max_seconds = positive("max_seconds", max_seconds)
        self._fitted: EntropyModel | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        # The validation before the first step writes no checkpoint.
        if trainer.state.fn != TrainerFn.FITTING or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, AutoencoderModule)
        sizes = pl_module.model.quantizer.codebook_sizes
        if sizes:
            data: AudioDataModule = cast(Any, trainer).datamodule
            self._fitted = EntropyModel.fit(list(self._codes(pl_module, data)), sizes)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """See Callback; what the module adds comes after it."""
        if self._fitted is not None:
            arrays = self._fitted.to_arrays()
            checkpoint.setdefault(KEY, {})[ENTROPY_MODEL] = {
                name: torch.from_numpy(array) for name, array in arrays.items()
            }

    def _codes(self, module: AutoencoderModule, data: AudioDataModule) -> Iterator[np.ndarray]:
        """(B, K, T) of one batch of crops after the other."""
        count = max(1, int(self.max_seconds * data.sample_rate / data.num_samples))
        for first in range(0, count, data.batch_size):
            numbers = range(first, min(first + data.batch_size, count))
            audio = torch.stack([data.training_crops[number] for number in numbers])
            with torch.no_grad():
                codes = module.model.quantizer.encode(module.model.latents(audio.to(module.device)))
            yield codes.cpu().numpy()
