"""Plain data to a model: a configuration's, or a checkpoint's.

`build_model` makes component classes of this package and nothing else, so that a checkpoint cannot name anything to be
executed.
"""

import functools
import inspect
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from discrete_ae.errors import DataError, UsageError
from discrete_ae.model import Decoder, DiscreteAutoencoder, Encoder
from discrete_ae.paths import Kind, kind_of
from discrete_ae.quantizers import Quantizer
from discrete_ae.rounding import Rounding
from discrete_ae.saving.bundle import read_bundle
from discrete_ae.saving.checkpoint import read_checkpoint
from discrete_ae.saving.saved import SavedModel, check_claims, model_hash
from discrete_ae.schedules import Schedule, write_scheduled_numbers

COMPONENTS = (DiscreteAutoencoder, Encoder, Decoder, Quantizer, Rounding, Schedule)
PACKAGE = "discrete_ae"


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

    >>> model = discrete_ae.load(checkpoint)
    >>> model.sample_rate, model.quantizer.codebook_sizes
    (16000, (256, 256))

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
    if Path(path, "checkpoints").is_dir():
        raise DataError(f"{path}: is the folder of a run; give checkpoints/best.ckpt or checkpoints/last.ckpt in it")
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
