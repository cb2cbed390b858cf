"""Callbacks for checkpoints: the best and last state, averaged weights, the entropy model of the codes."""

import io
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from discrete_ae.checks import positive
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.data import AudioDataModule
from discrete_ae.quantizers import Quantizer
from discrete_ae.saving.checkpoint import ENTROPY_MODEL, KEY, STATE_PREFIX
from discrete_ae.training.module import AutoencoderModule
from discrete_ae.writing import write_whole, written_whole

RAW_WEIGHTS = "raw_weights"

log = logging.getLogger("discrete_ae")


class WholeCheckpoints(TorchCheckpointIO):
    """A CheckpointIO that writes a checkpoint beside the one it replaces, so that a complete one always exists.

    Lightning writes to TMPDIR and copies from there. If TMPDIR is on another file system, a full disk or a killed
    process leaves half a checkpoint in place of the old one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """See CheckpointIO."""
        content = io.BytesIO()  # PyTorch raises errors of its own, not OSError, when it writes to a file
        torch.save(checkpoint, content)
        write_whole(Path(path), content.getbuffer())


class KeepBest(ModelCheckpoint):
    """A ModelCheckpoint that writes best.ckpt after each validation with a new best value.

    If `save_top_k` is not 1, the k best checkpoints are kept as step<step>.ckpt, and the best also as best.ckpt.

    Args:
        dirpath: folder of the checkpoints.
        monitor: tag of the metric to compare.
        save_top_k: number of checkpoints to keep; -1 for all.
        settings: further arguments of ModelCheckpoint, such as `mode`.
    """

    def __init__(self, dirpath: str, monitor: str, save_top_k: int = 1, **settings: Any) -> None:
        # ModelCheckpoint would name every checkpoint best.ckpt, so the last one would keep that name.
        named = {"filename": "best" if save_top_k == 1 else "step{step}", "auto_insert_metric_name": False}
        given = {"monitor": monitor, "save_top_k": save_top_k, "enable_version_counter": False, **named, **settings}
        super().__init__(dirpath, **cast(Any, given))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        before = self.best_model_path
        super().on_validation_end(trainer, pl_module)
        best, target = Path(self.best_model_path), Path(str(self.dirpath)) / "best.ckpt"
        if trainer.is_global_zero and self.best_model_path != before and best != target:
            with written_whole(target) as temporary:
                shutil.copyfile(best, temporary)


class KeepLast(Checkpoint):
    """A callback that writes last.ckpt after every validation and at the end of training.

    ModelCheckpoint's `save_last` writes it only together with a new best checkpoint (Lightning 2.6).

    Args:
        dirpath: folder of the checkpoints.
    """

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self._step: int | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; Lightning calls checkpoint callbacks after all others, in their given order."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._step = trainer.global_step
            trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; a run without validations gets its only checkpoint here."""
        if self._step != trainer.global_step:
            trainer.save_checkpoint(self.path)


class WeightEma(pl.Callback):
    """Exponential moving average of the model's parameters (Polyak averaging; Karras et al. 2024, arXiv:2312.02696).

    After every optimizer step n, average = d average + (1 - d) weights with d = min(decay, (1 + n) / (10 + n)). With
    this d, a short run does not average over its first steps (like `num_updates` in TensorFlow's
    ExponentialMovingAverage).

    From the start of a validation to the next training step the model holds the averaged weights, so validation and
    logging use them. The model also keeps them when training ends. A checkpoint's `state_dict` holds the averaged
    weights, and its `raw_weights` the raw ones. A resumed run loads the raw weights, even if it no longer averages.

    Lightning's EMAWeightAveraging would also average discriminators and buffers. Buffers must not be averaged:
    scheduled values belong to one step, and some codebooks are moving averages already. Codebooks in which dead entries
    are replaced are not averaged either: a replaced entry would stay a mixture with the dead one for many steps.

    Args:
        decay: factor d, at least 0 and below 1, for an average over about 1 / (1 - decay) steps; None for no averaging.

    Raises:
        ValueError: `decay` is out of range.
    """

    def __init__(self, decay: float | None = None) -> None:
        if decay is not None and not (isinstance(decay, int | float) and 0 <= decay < 1):
            raise ValueError(f"decay: expected null or a number from 0 to below 1, such as 0.999, got {decay!r}")
        self.decay = decay
        self.other: dict[str, Tensor] | None = None
        """Parameters by name: the averaged ones while the model holds the raw ones, otherwise the raw ones."""
        self.shown = False
        self._step = 0

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """See Callback; the model already has the averaged weights. Old checkpoints hold no raw weights."""
        own = _parameters(pl_module)
        self.other, self.shown = _copies(own), False
        raw = checkpoint.get(RAW_WEIGHTS)
        if raw is None:
            return
        if self.decay is None:
            log.warning("the run averaged its weights, but no longer does; callbacks.ema.decay=0.999 keeps averaging")
        _copy(raw, {name: own[name] for name in raw.keys() & own.keys()})

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; the model is on its device."""
        own = _parameters(pl_module)
        if self.decay is None:
            self.other = None
        elif self.other is None:
            self.other = _copies(own)
        else:
            self.other = {name: tensor.to(own[name].device) for name, tensor in self.other.items()}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        self._step = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """See Callback; training uses the raw weights."""
        self._show(pl_module, averaged=False)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See Callback; runs on every rank, since all ranks have the same weights."""
        n = trainer.global_step
        if self.decay is None or self.other is None or n == self._step:  # gradients accumulated, no optimizer step
            return
        self._step = n
        update = get_ema_multi_avg_fn(min(self.decay, (1 + n) / (10 + n)))
        own = [parameter.detach() for parameter in _parameters(pl_module).values()]
        update(list(self.other.values()), own, n)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        self._show(pl_module, averaged=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        self._show(pl_module, averaged=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """See Callback; restores the raw weights after a failed validation."""
        self._show(pl_module, averaged=False)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """See Callback."""
        if self.other is None:
            return
        own = {name: parameter.detach() for name, parameter in _parameters(pl_module).items()}
        averaged, raw = (own, self.other) if self.shown else (self.other, own)
        checkpoint["state_dict"] |= {STATE_PREFIX + name: tensor for name, tensor in averaged.items()}
        checkpoint[RAW_WEIGHTS] = dict(raw)

    def _show(self, pl_module: pl.LightningModule, averaged: bool) -> None:
        """Put the averaged or the raw weights into the model, unless the model holds them already."""
        if self.other is None or self.shown == averaged:
            return
        own = _parameters(pl_module)
        before = _copies(own)
        _copy(self.other, own)
        _copy(before, self.other)
        self.shown = averaged


class FitEntropyModel(pl.Callback):
    """A callback that fits the checkpoint's entropy model to codes of the first training crops, after each validation.

    After a validation the model is in evaluation mode and holds the weights of the checkpoint. The fit has no state
    that a resumed run would need, and draws no random numbers, so training is unaffected. If the codes are frozen and
    the model already has an entropy model, the existing one is kept.

    No entropy model is fitted for a model without codes, before the first validation during training, or with a user's
    own data module.

    Args:
        max_seconds: duration of the audio to encode, from the first crops of training.

    Raises:
        ValueError: `max_seconds` is not above 0.
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
        data = cast(Any, trainer).datamodule
        if pl_module.model.entropy_model is None and sizes and isinstance(data, AudioDataModule):
            self._fitted = EntropyModel.fit(list(self._codes(pl_module, data)), sizes)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """See Callback; the module's own entries are added afterwards."""
        assert isinstance(pl_module, AutoencoderModule)
        kept = pl_module.model.entropy_model
        if (fitted := self._fitted if kept is None else kept) is not None:
            arrays = fitted.to_arrays()
            checkpoint.setdefault(KEY, {})[ENTROPY_MODEL] = {
                name: torch.from_numpy(array) for name, array in arrays.items()
            }

    def _codes(self, module: AutoencoderModule, data: AudioDataModule) -> Iterator[np.ndarray]:
        """Yield the codes (B, K, T) of each batch of crops."""
        count = max(1, int(self.max_seconds * data.settings.sample_rate / data.settings.num_samples))
        for first in range(0, count, data.settings.batch_size):
            numbers = range(first, min(first + data.settings.batch_size, count))
            audio = torch.stack([data.training_crops[number] for number in numbers])
            with torch.no_grad():
                codes = module.model.quantizer.encode(module.model.latents(audio.to(module.device)))
            yield codes.cpu().numpy()


def _parameters(pl_module: pl.LightningModule) -> dict[str, Tensor]:
    """Return the trainable parameters by name, without those that quantizers overwrite."""
    assert isinstance(pl_module, AutoencoderModule)
    parts = pl_module.model.modules()
    overwriting = [part for part in parts if isinstance(part, Quantizer) and part.overwrites_parameters]
    left_out = {parameter for part in overwriting for parameter in part.parameters(recurse=False)}
    named = pl_module.model.named_parameters(remove_duplicate=False)
    return {name: parameter for name, parameter in named if parameter.requires_grad and parameter not in left_out}


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Copy in place, so that the optimizer, compiled graphs and DDP keep their tensors."""
    for name, tensor in target.items():
        tensor.copy_(source[name])
