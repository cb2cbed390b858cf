"""Configuration to objects, checkpoint to model. The only library file that knows Hydra.

A model is built by `build_model` from plain nested data, whether that comes from conf/ or from a checkpoint: it makes
component classes of this package and nothing else, so a checkpoint cannot name anything to be executed.
"""

import functools
import inspect
import logging
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf

from discrete_ae.errors import DataError, UsageError, UserError
from discrete_ae.model import Decoder, DiscreteAutoencoder, Encoder
from discrete_ae.paths import Kind, kind_of
from discrete_ae.quantizers import Quantizer
from discrete_ae.rounding import Rounding
from discrete_ae.saving.bundle import read_bundle
from discrete_ae.saving.checkpoint import check_resumable, read_checkpoint
from discrete_ae.saving.saved import SavedModel, check_claims, model_hash
from discrete_ae.schedules import Schedule, write_scheduled_numbers

if TYPE_CHECKING:
    from discrete_ae.training import TrainingRun

COMPONENTS = (DiscreteAutoencoder, Encoder, Decoder, Quantizer, Rounding, Schedule)
PACKAGE = "discrete_ae"

log = logging.getLogger(__name__)


def component_class(target: object) -> type:
    """Return the component class that a `_target_` names.

    Raises:
        UsageError: unless it is a class defined in this package that descends from one of its component bases.
    """
    refused = UsageError(
        f"_target_ {target!r} is refused: expected a model, encoder, decoder, quantizer, rounding or schedule class of "
        f"{PACKAGE}"
    )
    if not isinstance(target, str) or not target.startswith(f"{PACKAGE}."):
        raise refused
    module_name, _, name = target.rpartition(".")
    try:
        # Only a module of the package can be imported by this: `discrete_ae.rounding.torch` is no module name.
        found = getattr(import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise refused from error
    if not (inspect.isclass(found) and found.__module__.startswith(f"{PACKAGE}.") and issubclass(found, COMPONENTS)):
        raise refused
    return found


def instantiate(config: Any) -> Any:
    """Build the components in nested plain data, from the inside out; with `_partial_: true`, what makes one.

    Raises:
        UsageError: for a refused `_target_`, or arguments that the component does not take.
    """
    if isinstance(config, Mapping):
        arguments = {
            name: instantiate(value) for name, value in config.items() if name not in ("_target_", "_partial_")
        }
        if "_target_" not in config:
            return arguments
        component = component_class(config["_target_"])
        if config.get("_partial_") is True:
            return functools.partial(component, **arguments)
        try:
            return component(**arguments)
        except (TypeError, ValueError, AttributeError) as error:
            advice = "; an argument is no component but plain data: give it its _target_"
            raise UsageError(
                f"{component.__name__}: {error}{advice if isinstance(error, AttributeError) else ''}"
            ) from error
    if isinstance(config, list | tuple):
        return [instantiate(value) for value in config]
    return config


def build_model(config: Mapping[str, Any]) -> DiscreteAutoencoder:
    """Build the autoencoder of a model configuration (nested plain data).

    Raises:
        UsageError: if the configuration is not that of an autoencoder.
    """
    model = instantiate(config)
    if not isinstance(model, DiscreteAutoencoder):
        raise UsageError(f"model: expected the configuration of a DiscreteAutoencoder, got {config.get('_target_')!r}")
    return model


def load(path: str | Path, device: str | torch.device = "cpu") -> DiscreteAutoencoder:
    """Read the model of a training checkpoint or of an exported bundle, in evaluation mode; its `model_hash` names it.

    Args:
        path: best.ckpt or last.ckpt of a run, or a folder that `discrete-ae export` wrote.
        device: where the model goes.

    Raises:
        DataError: if the file is missing, damaged, or names anything but components of this package.
    """
    return restore(path, read_saved(path)).to(device)


def check_codebooks(model: DiscreteAutoencoder, num_codebooks: int | None) -> None:
    """Refuse a number of codebooks from which a model does not decode; None, all of them, always will do.

    Raises:
        UsageError: it does not.
    """
    if num_codebooks is not None:
        try:
            model.quantizer.check_count(num_codebooks)
        except ValueError as error:
            raise UsageError(f"--codebooks: {str(error).removeprefix('num_codebooks: ')}") from error


def pick_device(device: str) -> str:
    """Return the device that "auto", "cpu" or "cuda" stands for: "auto" takes a GPU if there is one.

    Of several GPUs, each process that torchrun or srun has started on this machine takes its own.

    Raises:
        UsageError: "cuda" where there is none.
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise UsageError("--device cuda: PyTorch finds no GPU here; use --device auto or --device cpu")
    if not has_gpu or device == "cpu":
        return "cpu"
    rank = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    return f"cuda:{rank % torch.cuda.device_count()}"


def read_saved(path: str | Path) -> SavedModel:
    """Read what a checkpoint file or a bundle folder says of its model.

    Raises:
        DataError: if it is missing, damaged, or neither of the two.
    """
    return read_bundle(path) if kind_of(path) is Kind.FOLDER else read_checkpoint(path)


def restore(path: str | Path, saved: SavedModel) -> DiscreteAutoencoder:
    """Build the model of what was read at `path`, in evaluation mode.

    Raises:
        DataError: if its parts do not fit one another, or it names anything but components of this package.
    """
    try:
        check_claims(saved.config, saved.state, build_model)
        model = build_model(saved.config)
        model.load_state_dict(saved.state)
        write_scheduled_numbers(model, saved.scheduled)
        named = model_hash(model.state_dict(), saved.config)
    except Exception as error:  # whatever components make of arguments from anyone's file
        raise DataError(f"{path}: cannot be loaded: {' '.join(str(error).split())[:500]}") from error
    if named != saved.model_hash:
        raise DataError(f"{path}: its tensors do not match its model hash; the file is damaged, use another copy")
    entropy_model = saved.entropy_model
    if entropy_model is not None and entropy_model.codebook_sizes != tuple(model.quantizer.codebook_sizes):
        raise DataError(
            f"{path}: its entropy model is not that of its quantizer; the file is damaged, use another copy"
        )
    model.model_hash, model.entropy_model = saved.model_hash, entropy_model
    return model.eval()


def build_training(config: DictConfig, hyperparameters: Mapping[str, str | float | bool]) -> "TrainingRun":
    """Build a training run of a composed configuration; `hyperparameters` are logged beside those of the model.

    Raises:
        UsageError: for values that do not fit.
        DataError: for a checkpoint that cannot be read.
    """
    # Lightning takes seconds to import, and encoding needs none of it.
    import lightning.pytorch as pl

    from discrete_ae.training import AdversarialModule, AutoencoderModule, TrainingRun, checks
    from discrete_ae.training.callbacks import LogHyperparameters
    from discrete_ae.training.compiled import compiler

    checks.check_run(config)
    pl.seed_everything(config.seed, verbose=False)
    if checks.on_gpu(config):
        torch.set_float32_matmul_precision(config.float32_matmul_precision)
    model_config = cast(dict[str, Any], OmegaConf.to_container(config.model, resolve=True))
    model = build_model(model_config)
    if config.ckpt_path:
        check_resumable(config.ckpt_path)
    if old := config.ckpt_path or config.init_from:
        _take_weights(model, old, new_quantizer=not config.ckpt_path)
    loss, data = _instantiate(config, "loss"), _instantiate(config, "data")
    callbacks, loggers = _named(config, "callbacks"), _named(config, "logger")
    parts = {
        "model": model,
        "model_config": model_config,
        "loss": loss,
        "optimizer": _instantiate(config, "optim.optimizer"),
        "scheduler": _instantiate(config, "optim.scheduler"),
        "seed": config.seed,
        "compiled": compiler(cuda_graphs=checks.uses_cuda_graphs(config)) if config.compile else None,
    }
    checks.check_optimization(config, adversarial=loss.adversary is not None)
    settings = {
        "precision": checks.resolved_precision(config),
        "logger": list(loggers.values()),
        "callbacks": [
            *callbacks.values(),
            LogHyperparameters({**_model_hyperparameters(model, model_config), **hyperparameters}),
        ],
        "enable_progress_bar": any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks.values()),
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
        settings["gradient_clip_val"] = None  # where there are two optimizers, Lightning leaves it to the module
        if _is_ddp(config.trainer):
            # Each backward reaches one of the two networks, and DDP must not wait for gradients of the other.
            settings["strategy"] = "ddp_find_unused_parameters_true"
    trainer = _instantiate(config, "trainer", **settings)
    return TrainingRun(module, data, trainer, Path(config.run_dir), config.ckpt_path, callbacks.get("interrupt"))


def validation_recordings(config: Mapping[str, Any]) -> tuple[Path, list[Path]]:
    """Find the folder and the files on which a run of this configuration (nested plain data) was validated.

    Raises:
        UsageError: it is not the configuration of this package's data module.
        DataError: they are no longer there, or cannot be read.
    """
    from discrete_ae.data import AudioDataModule

    settings = dict(config)
    target = settings.pop("_target_", None)
    if target != f"{PACKAGE}.data.AudioDataModule":
        raise UsageError(f"data: expected the configuration of an AudioDataModule, got {target!r}")
    data = AudioDataModule(**settings)
    data.setup()
    return data.validation_root, [file.path for file in data.validation_files]


def _named(config: DictConfig, group: str) -> dict[str, Any]:
    """Build the components of a group by Hydra, by name; those that are null are left out."""
    names = [name for name, node in (config.get(group) or {}).items() if node is not None]
    return {name: _instantiate(config, f"{group}.{name}") for name in names}


def _instantiate(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Build the component at a dotted key by Hydra, and tell its own words where it refuses."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    node = OmegaConf.select(config, key)
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise UsageError(f"{key}: expected a component with its _target_, got {node}")
    try:
        # Lists of Python: an optimizer keeps its betas as they are given, and checkpoints hold plain data.
        return hydra_instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, ModuleNotFoundError):
            raise UsageError(f"{key}: {cause}; see the extras of pip install 'discrete-ae[...]'") from error
        if isinstance(cause, TypeError | ValueError | MisconfigurationException):
            raise UsageError(f"{key}: {cause}") from error
        raise


def _is_ddp(trainer: DictConfig) -> bool:
    """Return whether Lightning will train by plain DistributedDataParallel."""
    strategy = trainer.get("strategy", "auto")
    return strategy == "ddp" or (strategy == "auto" and (trainer.devices != 1 or trainer.get("num_nodes", 1) != 1))


def _take_weights(model: DiscreteAutoencoder, path: str, *, new_quantizer: bool) -> None:
    """Load a checkpoint's weights; with `new_quantizer`, a quantizer whose tensors are others keeps its own."""
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("quantizer.")}
    state = read_saved(path).state
    saved = {name: tensor for name, tensor in state.items() if name.startswith("quantizer.")}
    shapes, saved_shapes = ({name: tensor.shape for name, tensor in part.items()} for part in (own, saved))
    if new_quantizer and shapes != saved_shapes:
        log.info("init_from: the quantizer starts anew, for %s was trained with another one", path)
        state = {name: tensor for name, tensor in state.items() if name not in saved} | own
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(
            f"{path}: its weights do not fit this model; give the same model=, quantizer= and num_codebooks= as its "
            "run; init_from= may change the quantizer, but not the number of its channels"
        ) from error


def _model_hyperparameters(model: DiscreteAutoencoder, config: Mapping[str, Any]) -> dict[str, str | float | bool]:
    """Collect the quantizer's own settings and the rate that follows, flat."""
    found: dict[str, str | float | bool] = {"bitrate_nominal_bps": model.bitrate_bps}

    def collect(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                collect(f"{prefix}.{name}" if prefix else name, inner)
        elif prefix.endswith("._partial_"):
            return
        elif prefix.endswith("._target_"):
            found[prefix.removesuffix("._target_")] = str(value).rpartition(".")[2]
        else:
            found[prefix] = value if isinstance(value, bool | int | float | str) else str(value)

    collect("quantizer", config["quantizer"])
    return found
