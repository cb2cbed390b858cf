"""The LightningModule of the autoencoder. Axes: B batch, C audio channels, N samples."""

import copy
import hashlib
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, cast

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from discrete_ae.errors import DataError, UsageError
from discrete_ae.losses import LossValues, WeightedLoss
from discrete_ae.metrics import si_sdr_db
from discrete_ae.model import AutoencoderOutput, DiscreteAutoencoder
from discrete_ae.model.autoencoder import PARTS
from discrete_ae.quantizers import Quantizer
from discrete_ae.saving.checkpoint import FROZEN, KEY, describe_model, model_state
from discrete_ae.schedules import follow_schedules
from discrete_ae.training.compiled import CompiledForward, Compiler
from discrete_ae.training.usage import SharedCodeUsage

log = logging.getLogger("discrete_ae")


class AutoencoderModule(pl.LightningModule):
    """The training step, the validation, and their logging.

    Args:
        model: the autoencoder to train.
        model_config: plain data that rebuilds the model; stored in every checkpoint.
        loss: reconstruction and auxiliary losses.
        optimizer: function that maps parameters to an optimizer.
        scheduler: function that maps an optimizer to a learning rate schedule, which is stepped with the optimizer. It
            also gets the run's number of steps if it has an argument `total_steps`.
        seed: seed of the quantizer's noise, together with step, batch and rank.
        frozen: parts of the model (`PARTS`) that are not trained and run in evaluation mode, without noise.
        compiled: function that compiles a part of a training step; None for no compilation.
    """

    def __init__(
        self,
        model: DiscreteAutoencoder,
        model_config: Mapping[str, Any],
        loss: WeightedLoss,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler],
        seed: int,
        frozen: Sequence[str] = (),
        compiled: Compiler | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        model.quantizer.leave_out(name for name, weight in loss.quantizer_weights.items() if weight == 0)
        self.compiled = compiled
        self.training_model = CompiledForward(model, compiled) if compiled else model.__call__
        self.model_config = model_config
        self.loss = loss
        # A balancer computes gradients inside the loss, which torch.compile cannot capture in one graph.
        self.training_loss = compiled(loss.forward) if compiled and loss.balancer is None else loss.__call__
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.seed = seed
        self.frozen = tuple(frozen)
        for part in self._frozen_modules():
            part.requires_grad_(False)
        self.train()
        sizes = model.quantizer.codebook_sizes
        self.training_usage = SharedCodeUsage(sizes) if sizes else None
        self.validation_usage = SharedCodeUsage(sizes) if sizes else None
        self.validation_means: dict[str, MeanMetric] = {}
        self._watched: Tensor | float = 0.0
        self._soft: tuple[Quantizer, ...] = ()  # of the current validation; in a tuple, so that no checkpoint has it

    @property
    def is_logged(self) -> bool:
        """True if Lightning logs the current step."""
        every = cast(Any, self.trainer).log_every_n_steps
        return bool(every) and (self.global_step + 1) % every == 0

    def train(self, mode: bool = True) -> Self:
        """See Module; frozen parts stay in evaluation mode, since training mode updates moving-average codebooks."""
        super().train(mode)
        for part in self._frozen_modules():
            part.eval()
        return self

    def configure_optimizers(self) -> Any:
        """See LightningModule."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return self._with_schedule(self.make_optimizer, trained, self.trainer.max_steps)

    def training_step(self, audio: Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss of a batch of crops (B, C, N) and, for callbacks, its reconstruction and codes."""
        output = self._training_output(audio, batch_idx)
        values = self.training_loss(output.reconstruction, audio, output.losses)
        # On a CPU, a NaN loss changes neither the weights nor the counts of codes; on a GPU, no checkpoint has them.
        self._watch(values.total)
        self._log_training(values, output.codes)
        return {"loss": values.total} | for_callbacks(output)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """See LightningModule, whose own version rejects fused optimizers under mixed precision."""
        if gradient_clip_val is None or gradient_clip_val <= 0:
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        else:
            torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the per-step scalars; the gradient is not clipped yet."""
        if not self.is_logged:
            return
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        self.log("train/gradient_norm", torch.nn.utils.get_total_norm(gradients))
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])
        if self.training_usage is not None:
            self._log_codes("train", self.training_usage)
            self.training_usage.reset()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop after the last step, so that the run ends with a validation and a checkpoint."""
        if self.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True

    def on_validation_epoch_start(self) -> None:
        """See LightningModule."""
        self._follow_schedules()
        self._soft = () if (soft := self._soft_quantizer()) is None else (soft,)
        self.validation_means = {}
        if self.validation_usage is not None:
            self.validation_usage.reset()

    def validation_step(self, audio: Tensor, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Evaluate a batch of segments (B, C, N) with hard codes, and with the training-time forward.

        With several data sources each one is also logged separately, as val/<source>/...

        Returns, for callbacks, the hard codes and their reconstruction.
        """
        self._check_batch(audio)
        output = self.model(audio)
        values = self.loss(output.reconstruction, audio, output.losses)
        # A checkpoint follows each validation, so non-finite weights must be found first.
        self._watch(values.reconstruction)
        self._require_finite()
        self._add_to_means({"reconstruction": values.reconstruction, **values.terms}, len(audio), dataloader_idx)
        quality = si_sdr_db(output.reconstruction, audio)
        self._add_to_means({"si_sdr_db": quality.sum() / max(len(quality), 1)}, len(quality), dataloader_idx)
        # The configuration decides, never the results: all ranks of a distributed run must log the same tags.
        for quantizer in self._soft:
            # The last batch may have moved the copy.
            quantizer.load_state_dict(self.model.quantizer.state_dict(), strict=False)
            self._reseed("validation", self.global_step, batch_idx, dataloader_idx)
            soft = self.model.reconstruct(quantizer(output.latents).latents, audio.shape[-1])
            soft_loss = self.loss(soft, audio, {}).reconstruction
            self._add_to_means({"soft_reconstruction": soft_loss}, len(audio), dataloader_idx)
        if self.validation_usage is not None:
            self.validation_usage.update(output.codes)
        return for_callbacks(output)

    def on_validation_epoch_end(self) -> None:
        """Log the means and the code usage over the whole validation set and all ranks."""
        # Lightning uses the metric "step" as x-axis; its own count is one step too low.
        self.log("step", float(self.global_step))
        means = {name: mean.compute() for name, mean in self.validation_means.items()}
        if self.validation_usage is not None:
            means["soft_hard_gap"] = means["reconstruction"] - means.get("soft_reconstruction", means["reconstruction"])
        self.log_dict({f"val/{name}": value for name, value in means.items()})
        if self.validation_usage is not None:
            self._log_codes("val", self.validation_usage)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the data that rebuilds the model, and the hash of the saved weights.

        Callbacks run before this method and may have replaced tensors, as WeightEma does.
        """
        self._require_finite()
        about = describe_model(self.model, self.model_config, model_state(checkpoint["state_dict"]))
        checkpoint[KEY] = checkpoint.get(KEY, {}) | about | {FROZEN: list(self.frozen)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Reject a checkpoint of a run with another loss, model or freeze setting, in one line.

        Raises:
            DataError: the checkpoint comes from such a run.
        """
        if set(checkpoint["state_dict"]) != set(self.state_dict()):
            raise DataError(
                f"{self.trainer.ckpt_path}: comes from a run with another loss= or model, so this run cannot resume "
                "from it; start a new run from its weights with init_from="
            )
        if set(was := checkpoint[KEY].get(FROZEN, [])) != set(self.frozen):
            raise DataError(
                f"{self.trainer.ckpt_path}: comes from a run with freeze=[{','.join(was)}]; use that, or start a "
                "new run from its weights with init_from="
            )
        for schedule in checkpoint["lr_schedulers"]:
            for part in (schedule, *schedule.get("_schedulers", ())):  # of SequentialLR and ChainedScheduler
                part.pop("base_lrs", None)  # the configuration sets the peak learning rates

    def _frozen_modules(self) -> list[torch.nn.Module]:
        return [self.model.get_submodule(name) for part in self.frozen for name in PARTS[part]]

    def _training_output(self, audio: Tensor, batch_idx: int) -> AutoencoderOutput:
        """Run the training-time forward with the noise and the scheduled values of this step."""
        self._reseed("train", self.global_step, batch_idx)
        scheduled = self._follow_schedules()
        if self.is_logged:
            self.log_dict({f"train/schedule/{name}": value for name, value in scheduled.items()})
        return self.training_model(audio)

    def _check_batch(self, batch: Any) -> None:
        """Reject batches of a user's own data module that the model cannot take.

        Raises:
            UsageError: the batch is not a tensor, or has the wrong shape or type.
        """
        if not isinstance(batch, Tensor):
            raise UsageError(f"data: expected batches that are tensors (B, C, N), got {type(batch).__name__}")
        try:
            self.model.check_audio(batch)
        except ValueError as error:
            raise UsageError(f"data: {error}") from error

    def _log_training(self, values: LossValues, codes: Tensor) -> None:
        if self.is_logged:
            scalars = {"loss": values.total, "reconstruction": values.reconstruction, **values.terms}
            self.log_dict({f"train/{name}": value.detach() for name, value in scalars.items()})
        if self.training_usage is not None:
            self.training_usage.update(codes)

    def _with_schedule(
        self, make_optimizer: Callable[..., Optimizer], parameters: Iterable[Tensor], total_steps: int
    ) -> dict[str, Any]:
        try:
            optimizer = make_optimizer(parameters)
            takes_steps = "total_steps" in inspect.signature(self.make_scheduler).parameters
            scheduler = self.make_scheduler(optimizer, **({"total_steps": total_steps} if takes_steps else {}))
        except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: fused=true on an unsupported device
            raise UsageError(f"optim: {error}") from error
        optimizer.register_load_state_dict_pre_hook(self._keep_own_numbers)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _keep_own_numbers(self, optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        """Return a checkpoint's optimizer state with the hyperparameters (learning rate, betas) of the configuration.

        PyTorch would restore the checkpoint's hyperparameters. The learning rate keeps its position in the schedule.

        Raises:
            DataError: the state belongs to another class of optimizer.
        """
        groups = []
        for own, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
            if own.keys() - saved.keys() and saved.keys() - own.keys():
                raise DataError(
                    f"{self.trainer.ckpt_path}: comes from a run with another optimizer than "
                    f"{type(optimizer).__name__}; use its optim=, or start a new run from its weights with init_from="
                )
            peak, saved_peak = own.get("initial_lr", own["lr"]), saved.get("initial_lr", saved["lr"])
            numbers = {name: own[name] for name in optimizer.defaults if name != "lr"}
            if peak != saved_peak:
                numbers |= {"initial_lr": peak, "lr": peak * (saved["lr"] / saved_peak if saved_peak else 1.0)}
                if self.trainer.is_global_zero:
                    log.info("resuming with a peak learning rate of %g instead of %g", peak, saved_peak)
            groups.append(saved | numbers)
        return {**state, "param_groups": groups}

    def _soft_quantizer(self) -> Quantizer | None:
        """Return the quantizer as in training, without dropout; None if it would emit the values of evaluation.

        It is a copy, since a forward in training mode updates codebooks kept by moving averages.
        """
        if "quantizer" in self.frozen or self.model.quantizer.needs_start:
            return None
        quantizer = copy.deepcopy(self.model.quantizer).train()
        for part in quantizer.modules():
            if isinstance(part, Quantizer):
                part.schedules.pop("dropout", None)
                del part.dropout
                part.dropout = 0.0
        return None if quantizer.matches_evaluation else quantizer

    def _follow_schedules(self) -> dict[str, float]:
        """Set all scheduled values to those of this step, and return them by name."""
        try:
            return follow_schedules(self.model, self.global_step, self.trainer.max_steps)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def _add_to_means(self, scalars: Mapping[str, Tensor], weight: int, dataloader_idx: int) -> None:
        # Lightning's own means are wrong if ranks have different numbers of items: it rounds the average number down.
        prefixes = [""]
        if len(self.trainer.num_val_batches) > 1:
            names = getattr(cast(Any, self.trainer).datamodule, "source_names", None)
            prefixes.append(f"{names[dataloader_idx] if names else dataloader_idx}/")
        for name, value in ((prefix + name, value) for prefix in prefixes for name, value in scalars.items()):
            if name not in self.validation_means:
                self.validation_means[name] = MeanMetric().to(self.device)
            self.validation_means[name].update(value, weight)

    def _log_codes(self, prefix: str, usage: SharedCodeUsage) -> None:
        """Log the code usage under the prefix; `bitrate_bps` is the rate of an ideal entropy coder."""
        scalars = usage.compute()
        scalars["bitrate_bps"] = scalars["entropy_bits"] * self.model.frame_rate_hz
        self.log_dict({f"{prefix}/codes/{name}": value for name, value in scalars.items()})

    def _reseed(self, *where: object) -> None:
        """Seed the generator from the seed, `where` and the rank alone, so that a resumed run draws the same noise."""
        key = repr((self.seed, *where, self.global_rank)).encode()
        torch.manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:8], "little") % 2**63)

    def _watch(self, loss: Tensor) -> None:
        """Check that a loss is finite: at once on a CPU, at the next logged step on a GPU, where reading blocks."""
        self._watched = self._watched + loss.detach()  # the sum stays non-finite
        if self.device.type == "cpu" or self.is_logged:
            self._require_finite()

    def _require_finite(self) -> None:
        """Raise DataError if a watched loss was not finite; called before every checkpoint."""
        if not isinstance(self._watched, Tensor):
            return
        # Summed over all ranks: a rank that stops alone leaves the others waiting.
        loss = cast(Tensor, self.trainer.strategy.reduce(self._watched, reduce_op="sum"))
        self._watched = 0.0
        if not torch.isfinite(loss):
            raise DataError(
                f"the loss is {loss.item()} at step {self.global_step}: training diverged and was stopped; the last "
                "good checkpoint is kept. Lower optim.optimizer.lr, or find damaged recordings with data.strict=true"
            )


def for_callbacks(output: AutoencoderOutput) -> dict[str, Tensor]:
    """Return the step's outputs for callbacks: the reconstruction (B, C, N) and the codes (B, K, T)."""
    return {"reconstruction": output.reconstruction.detach(), "codes": output.codes}
