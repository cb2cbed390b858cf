"""Build the parts of a run from a composed configuration. Only this module and cli/ use Hydra."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf

from discrete_ae.arguments import typed
from discrete_ae.build import build_model, check_components
from discrete_ae.data import AudioDataModule
from discrete_ae.errors import UsageError, UserError
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.saving.checkpoint import read_training_state
from discrete_ae.training.adversarial import AdversarialModule
from discrete_ae.training.callbacks import LogHyperparameters, StopOnInterrupt
from discrete_ae.training.callbacks.checkpoints import WholeCheckpoints
from discrete_ae.training.compiled import compiler
from discrete_ae.training.complaints import complaint_of
from discrete_ae.training.module import AutoencoderModule
from discrete_ae.training.settings import (
    SETTINGS,
    check_codes_of,
    check_lightning,
    check_optimization,
    check_run,
    on_gpu,
    resolved_precision,
    uses_cuda_graphs,
)
from discrete_ae.training.weights import begin_with, beginning, with_frozen

USUAL = ("seed", "num_codebooks", "optim.optimizer.lr", "data.batch_size", "data.crop_seconds", "trainer.max_steps")
"""Keys logged as hyperparameters of every run, besides its choices and its quantizer's settings."""

Hyperparameters = dict[str, str | float | bool]


@dataclass(frozen=True)
class TrainingRun:
    """The parts of a run."""

    module: AutoencoderModule
    data: pl.LightningDataModule
    """An AudioDataModule, or a user's own data module that yields batches (B, C, N)."""
    trainer: pl.Trainer
    run_dir: Path
    first_step: int
    """Step at which training begins: that of the checkpoint, or 0."""
    interrupt: StopOnInterrupt | None
    """The callback that handles Ctrl-C and SIGTERM; None if the configuration leaves it out."""

    @property
    def objective(self) -> float:
        """The best score of the checkpoint callback so far (by default the lowest val/reconstruction), or NaN."""
        found = getattr(self.trainer.checkpoint_callback, "best_model_score", None)
        return math.nan if found is None else float(found)

    @property
    def share_trained(self) -> float:
        """Share of the run's steps that were trained since `first_step`: 1 unless a checkpoint was resumed."""
        last = self.trainer.global_step
        return (last - self.first_step) / last if last else 0.0

    @property
    def ended_by(self) -> int:
        """Number of the signal that ended the run; 0 for none."""
        return self.interrupt.ended_by if self.interrupt else 0


def typed_config(config: DictConfig) -> DictConfig:
    """Return a composed configuration, resolved, with every value converted to its declared type.

    Raises:
        UsageError: a value has the wrong type, or a part of the model is not a component.
        OmegaConfBaseException: a reference points to a missing key.
    """
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    check_components(plain.get("model"))  # before their arguments are checked
    return OmegaConf.create(typed(plain, settings=SETTINGS))


def build_training(config: DictConfig, chosen: Mapping[str, Any] | None = None) -> TrainingRun:
    """Build the parts of a run from a composed configuration.

    Args:
        config: configuration composed from conf/train.yaml, with its `run_dir`, as `typed_config` returns it.
        chosen: settings by key that are logged as hyperparameters, the most informative first.

    Raises:
        UsageError: settings are invalid or do not fit together.
        DataError: the recordings or the checkpoint cannot be read.
    """
    check_run(config)
    begun = beginning(config.ckpt_path, config.init_from)
    data = _instantiate(config, "data")
    if not isinstance(data, pl.LightningDataModule):
        raise UsageError(f"data: expected a LightningDataModule, got {type(data).__name__}")
    pl.seed_everything(config.seed, verbose=False)
    if on_gpu(config):
        torch.set_float32_matmul_precision(config.float32_matmul_precision)
        torch.backends.cudnn.allow_tf32 = config.float32_matmul_precision != "highest"  # of convolutions
    model_config = cast(dict[str, Any], OmegaConf.to_container(config.model, resolve=True))
    if begun:
        model_config = with_frozen(model_config, begun, config.freeze)
    model = build_model(model_config, trust=None)
    check_codes_of(model.quantizer)
    loss = _instantiate(config, "loss")
    begin_with(model, model_config, loss.adversary, begun, config.freeze)
    first_step = read_training_state(config.ckpt_path).global_step if config.ckpt_path else 0
    if isinstance(data, AudioDataModule):
        for name in ("sample_rate", "channels"):
            if (given := getattr(data.settings, name)) != (wanted := getattr(model, name)):
                raise UsageError(
                    f"data.{name}: expected {wanted} as in the model, got {given}; change model.{name} instead"
                )
        if data.settings.num_samples < model.hop_length:
            raise UsageError(
                f"data.crop_seconds: expected at least one frame of the model, {1 / model.frame_rate_hz:g} s, "
                f"got {data.settings.crop_seconds:g}"
            )
        data.setup("fit")  # the search for recordings may take long, so faulty settings are reported before
    callbacks, loggers = _named(config, "callbacks"), _named(config, "logger")
    parts = {
        "model": model,
        "model_config": model_config,
        "loss": loss,
        "optimizer": _instantiate(config, "optim.optimizer"),
        "scheduler": _instantiate(config, "optim.scheduler"),
        "seed": config.seed,
        "frozen": list(config.freeze),
        "compiled": compiler(cuda_graphs=uses_cuda_graphs(config)) if config.compile else None,
    }
    check_optimization(config, adversarial=loss.adversary is not None)
    check_lightning(config, callbacks)
    settings = {
        "precision": resolved_precision(config),
        "logger": list(loggers.values()),
        "callbacks": [*callbacks.values(), LogHyperparameters(_hyperparameters(config, model, data, chosen or {}))],
        "enable_progress_bar": False,  # TrainingProgress shows one
        # Without this Lightning adds a checkpoint callback of its own.
        "enable_checkpointing": any(isinstance(each, Checkpoint) for each in callbacks.values()),
        "default_root_dir": config.run_dir,
    }
    module: AutoencoderModule
    if loss.adversary is None:
        module = AutoencoderModule(**parts)
    else:
        module = AdversarialModule(
            **parts,
            discriminator_optimizer=_instantiate(config, "optim.discriminator_optimizer"),
            gradient_clip_val=config.trainer.gradient_clip_val,
        )
        settings["gradient_clip_val"] = None  # with two optimizers Lightning leaves clipping to the module
        if _is_ddp(config.trainer):
            # Each backward pass reaches one of the two networks; DDP must not wait for gradients of the other.
            settings["strategy"] = "ddp_find_unused_parameters_true"
    trainer = _instantiate(config, "trainer", **settings)
    module.trainer = trainer
    module.configure_optimizers()  # invalid settings raise now, not after the first validation
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # Lightning's default
        trainer.strategy.checkpoint_io = WholeCheckpoints()
    return TrainingRun(module, data, trainer, Path(config.run_dir), first_step, callbacks.get("interrupt"))


def _named(config: DictConfig, group: str) -> dict[str, Any]:
    """Build the components of a group by name; a group may also be a single component. Skip null entries."""
    given = config.get(group) or {}
    if "_target_" in given:
        return {group: _instantiate(config, group)}
    names = [name for name, node in given.items() if node is not None]
    return {name: _instantiate(config, f"{group}.{name}") for name in names}


def _instantiate(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Build the component at a dotted key with Hydra.

    Raises:
        UsageError: there is no component at the key, or it rejects its arguments; the message is the component's own.
    """
    node = OmegaConf.select(config, key)
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise UsageError(f"{key}: expected a component with its _target_, got {node}")
    try:
        # Python lists: an optimizer stores its betas as given, and checkpoints hold plain data.
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, ModuleNotFoundError) and "wandb" in str(cause):
            raise UsageError(f"{key}: wandb is not installed; pip install 'discrete-ae[wandb]'") from error
        if isinstance(cause, TypeError | ValueError | ImportError):
            raise UsageError(f"{key}: {' '.join(str(cause).split())}") from error
        if complaint := complaint_of(cause):
            raise UsageError(f"{key}: {complaint}") from error
        raise


def _is_ddp(trainer: DictConfig) -> bool:
    """Return whether Lightning will use plain DistributedDataParallel."""
    strategy = trainer.get("strategy", "auto")
    return strategy == "ddp" or (strategy == "auto" and (trainer.devices != 1 or trainer.get("num_nodes", 1) != 1))


def _hyperparameters(
    config: DictConfig, model: DiscreteAutoencoder, data: pl.LightningDataModule, chosen: Mapping[str, Any]
) -> Hyperparameters:
    """Return the chosen settings and the usual ones, flattened to dotted keys of the configuration."""
    found: Hyperparameters = {}

    def collect(key: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                collect(f"{key}.{name}", inner)
        elif key.endswith("._target_"):
            found.setdefault(key.removesuffix("._target_"), str(value).rpartition(".")[2])
        elif not key.endswith("._partial_"):
            found.setdefault(key, value if isinstance(value, bool | int | float | str) else str(value))

    for key, value in chosen.items():
        collect(key, value)
    collect("bitrate_nominal_bps", model.bitrate_bps)
    for key in USUAL:
        collect(key, OmegaConf.select(config, key))
    if isinstance(data, AudioDataModule) and data.settings.sources:
        collect("data.sources", {name: one.model_dump(exclude_none=True) for name, one in data.settings.named.items()})
        collect("data.shares", data.shares)
    collect("quantizer", OmegaConf.to_container(config.model.quantizer, resolve=True))
    return found
