"""Build models from the plain data of a configuration or a checkpoint.

A file can name only component classes of this package and of modules that the caller trusts, so that it cannot execute
other code. A configuration written by the user may name components of any module.
"""

import functools
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from discrete_ae.errors import DataError, UsageError
from discrete_ae.model import Decoder, DiscreteAutoencoder, Encoder
from discrete_ae.paths import PRETRAINED, Kind, kind_of
from discrete_ae.quantizers import Quantizer, SplitQuantizer
from discrete_ae.rounding import Rounding
from discrete_ae.saving.bundle import read_bundle
from discrete_ae.saving.checkpoint import read_checkpoint, refuse_unsaved
from discrete_ae.saving.hub import downloaded, is_on_hub
from discrete_ae.saving.saved import SavedModel, check_claims, codes_hash, model_hash
from discrete_ae.schedules import Schedule, scheduled_numbers, write_scheduled_numbers

if TYPE_CHECKING:
    from discrete_ae.data.datamodule import AudioData

COMPONENTS = (DiscreteAutoencoder, Encoder, Decoder, Quantizer, Rounding, Schedule)
PACKAGE = "discrete_ae"

Trust = Sequence[str] | None
"""Modules whose component classes are allowed in addition to this package's, submodules included; None allows any."""


def component_class(target: object, trust: Trust = ()) -> type:
    """Return the component class that a `_target_` names.

    Raises:
        UsageError: the target is not a class that is derived from one of `COMPONENTS` and defined in this package or a
            module in `trust`; or its module cannot be imported.
    """
    refused = UsageError(
        f"_target_ {target!r} is refused: expected a model, encoder, decoder, quantizer, rounding or schedule class of "
        f"{' or '.join((PACKAGE, *trust)) if trust is not None else 'an installed module'}"
        f"{'; --trust MODULE allows a module of yours' if trust is not None else ''}"
    )
    module_name, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    if not (module_name and _is_trusted(f"{module_name}.", trust)):
        raise refused
    try:
        # This imports only trusted modules: `discrete_ae.rounding.torch` is not the name of a module.
        found = getattr(import_module(module_name), name)
    except Exception as error:  # a module of the user's own may raise anything
        raise UsageError(f"_target_ {target!r} is refused: it cannot be imported: {_said(error)}") from error
    if not (inspect.isclass(found) and _is_trusted(f"{found.__module__}.", trust) and issubclass(found, COMPONENTS)):
        raise refused
    return found


def check_components(config: Any) -> None:
    """Check that every `_target_` in nested plain data, which the user wrote, names a component.

    Raises:
        UsageError: see `component_class`.
    """
    if isinstance(config, Mapping) and "_target_" in config:
        component_class(config["_target_"], trust=None)
    for part in config.values() if isinstance(config, Mapping) else config if isinstance(config, list) else ():
        check_components(part)


def to_trust(config: Any) -> list[str]:
    """Return the packages besides this one whose components are named in plain data; `load` needs them in `trust`."""
    inner = config.values() if isinstance(config, Mapping) else config if isinstance(config, list) else ()
    names = {name for part in inner for name in to_trust(part)}
    if isinstance(config, Mapping) and "_target_" in config:
        names.add(str(config["_target_"]).partition(".")[0])
    return sorted(names - {PACKAGE})


def _is_trusted(name: str, trust: Trust) -> bool:
    return trust is None or name.startswith(tuple(f"{module}." for module in (PACKAGE, *trust)))


def _check_trust(trust: Sequence[str]) -> None:
    """Import the trusted modules.

    Raises:
        UsageError: a name is not a module, or cannot be imported.
    """
    for name in trust:
        try:
            import_module(name)
        except Exception as error:
            module, _, inner = name.rpartition(".")
            is_inside = module in sys.modules and hasattr(sys.modules[module], inner)
            raise UsageError(
                f"--trust {name}: expected a module, got a name in a module; give {module}"
                if is_inside
                else f"--trust {name}: expected a module that can be imported, got {_said(error)}"
            ) from error


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def instantiate(config: Any, trust: Trust = ()) -> Any:
    """Build the components in nested plain data, from the inside out; `_partial_: true` gives a `functools.partial`.

    Raises:
        UsageError: a `_target_` is rejected, or a component does not accept its arguments.
    """
    if isinstance(config, Mapping):
        arguments = {
            name: instantiate(value, trust) for name, value in config.items() if name not in ("_target_", "_partial_")
        }
        if "_target_" not in config:
            return arguments
        component = component_class(config["_target_"], trust)
        if config.get("_partial_") is True:
            return functools.partial(component, **arguments)
        try:
            return component(**arguments)
        except (TypeError, ValueError, AttributeError) as error:
            advice = "; plain data was given where a component is needed: add its _target_"
            raise UsageError(
                f"{component.__name__}: {error}{advice if isinstance(error, AttributeError) else ''}"
            ) from error
    if isinstance(config, list | tuple):
        return [instantiate(value, trust) for value in config]
    return config


def build_model(config: Mapping[str, Any], trust: Trust = ()) -> DiscreteAutoencoder:
    """Build the autoencoder of a model configuration (nested plain data).

    Args:
        config: configuration of a DiscreteAutoencoder.
        trust: further modules whose components the configuration may name.

    Raises:
        UsageError: the configuration is invalid, or does not describe an autoencoder.
    """
    model = instantiate(config, trust)
    if not isinstance(model, DiscreteAutoencoder):
        raise UsageError(f"model: expected the configuration of a DiscreteAutoencoder, got {config.get('_target_')!r}")
    return model


def load(
    path: str | Path = PRETRAINED, device: str | torch.device = "cpu", trust: Sequence[str] = ()
) -> DiscreteAutoencoder:
    """Load the model of a training checkpoint or an exported bundle, in evaluation mode.

    >>> model = discrete_ae.load(checkpoint)
    >>> model.sample_rate, model.quantizer.codebook_sizes
    (16000, (256, 256))

    Args:
        path: best.ckpt or last.ckpt of a run, a folder from `discrete-ae export`, or hf:user/model or
            hf:user/model@revision of the Hugging Face Hub; "pretrained" is the speech model in this package.
        device: device for the model.
        trust: further modules whose components the file may name, such as ["mine"]; they are imported.

    Returns:
        The model; `model_hash` identifies it.

    Raises:
        DataError: the file is missing or damaged, or names anything except components of this package and of `trust`.
        UsageError: a module in `trust` cannot be imported; or the model is on the hub, and huggingface_hub is not
            installed.
    """
    return restore(path, read_saved(path), trust).to(device)


def check_codebooks(model: DiscreteAutoencoder, num_codebooks: int | None) -> None:
    """Check that a model decodes from its first `num_codebooks`; None means all of them.

    Raises:
        UsageError: the model does not decode from this number of codebooks.
    """
    if num_codebooks is not None:
        try:
            model.quantizer.check_count(num_codebooks)
        except ValueError as error:
            raise UsageError(f"--codebooks: {str(error).removeprefix('num_codebooks: ')}") from error


def pick_device(device: str) -> str:
    """Return the device for "auto", "cpu" or "cuda"; "auto" selects a GPU if available.

    With several GPUs, each process that torchrun or srun started on this machine uses a GPU of its own.

    Raises:
        UsageError: the device is "cuda", and no GPU is available.
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise UsageError("--device cuda: PyTorch finds no GPU here; use --device auto or --device cpu")
    if not has_gpu or device == "cpu":
        return "cpu"
    rank = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    return f"cuda:{rank % torch.cuda.device_count()}"


def read_saved(path: str | Path) -> SavedModel:
    """Read a checkpoint, a bundle folder, a bundle on the hub or the one in this package, without building the model.

    Raises:
        DataError: the path is missing or damaged, or is neither a checkpoint nor a bundle.
        UsageError: the bundle is on the hub, and huggingface_hub is not installed.
    """
    if is_on_hub(path):
        return read_bundle(downloaded(path))
    if str(path) == PRETRAINED and kind_of(path) is Kind.NOTHING:
        return read_bundle(Path(__file__).parent / "pretrained" / "speech_16k")
    refuse_unsaved(Path(path))
    if Path(path, "checkpoints").is_dir():
        raise DataError(
            f"{path}: expected a model, got the folder of a run; give checkpoints/best.ckpt or checkpoints/last.ckpt "
            "in it"
        )
    return read_bundle(path) if kind_of(path) is Kind.FOLDER else read_checkpoint(path)


def restore(path: str | Path, saved: SavedModel, trust: Sequence[str] = ()) -> DiscreteAutoencoder:
    """Build the saved model that was read from `path`, in evaluation mode.

    Raises:
        DataError: the parts of the file do not match, or it names anything except components of this package and of
            `trust`.
        UsageError: a module in `trust` cannot be imported.
    """
    _check_trust(trust)
    build = functools.partial(build_model, trust=trust)
    try:
        check_claims(saved.config, saved.state, build)
        model = build(saved.config)
        model.load_state_dict(saved.state)
        write_scheduled_numbers(model, saved.scheduled)
        named = model_hash(model.state_dict(), saved.config)
    except Exception as error:  # components may raise anything for arguments from an untrusted file
        raise DataError(f"{path}: cannot be loaded: {' '.join(str(error).split())[:500]}") from error
    if named != saved.model_hash:
        raise DataError(f"{path}: its tensors do not match its model hash; the file is damaged, use another copy")
    entropy_model = saved.entropy_model
    if entropy_model is not None and entropy_model.codebook_sizes != tuple(model.quantizer.codebook_sizes):
        raise DataError(
            f"{path}: its entropy model does not match its quantizer; the file is damaged, use another copy"
        )
    model.model_hash, model.codes_hash = saved.model_hash, codes_hash(saved.state, saved.config)
    model.entropy_model = entropy_model
    return model.eval()


def split_model(saved: SavedModel, model: DiscreteAutoencoder, levels: Sequence[int]) -> SavedModel:
    """Split the scalar quantizer of a model into streams, without training; the first streams decode alone.

    Args:
        saved: the saved model.
        model: the same model, built; its quantizer is replaced.
        levels: numbers of levels of the streams, see `SplitQuantizer`.

    Returns:
        The model to save. It has a new hash, and no entropy model, since the codes differ.

    Raises:
        UsageError: the quantizer is not scalar, or the levels do not match it.
    """
    try:
        split = SplitQuantizer(model.quantizer, levels)  # type: ignore[arg-type]  # raises for other kinds
    except ValueError as error:
        raise UsageError(f"--split: {error}") from error
    target = f"{PACKAGE}.quantizers.{SplitQuantizer.__name__}"
    quantizer = {"_target_": target, "quantizer": saved.config["quantizer"], "levels": list(split.levels)}
    model.quantizer, config = split.eval(), {**saved.config, "quantizer": quantizer}
    state = model.state_dict()
    model.model_hash, model.codes_hash = model_hash(state, config), codes_hash(state, config)
    model.entropy_model = None
    return SavedModel(config, state, model.model_hash, scheduled_numbers(model))


def validation_recordings(config: Mapping[str, Any]) -> tuple[Path, list[Path]]:
    """Find the folder and the validation files of a run with this configuration (nested plain data).

    Raises:
        UsageError: the configuration is not of this package's data module, or a recording is a stretch of a file, a
            member of a tar, or a URL.
        DataError: a file is missing or cannot be read.
    """
    data = _data_of(config)
    others = [file.name for file in data.validation_files if file.first_frame is not None or not file.is_file]
    if others:
        raise UsageError(f"data: expected whole files to validate on, got a part of one, or a URL, {others[0]}")
    return data.validation_root, [file.path for file in data.validation_files]


def training_recordings(config: Mapping[str, Any]) -> list[Path]:
    """Find the training files of a run with this configuration, used whole or in part; tars and URLs are left out.

    Raises:
        UsageError: the configuration is not of this package's data module.
        DataError: a file is missing or cannot be read.
    """
    return [file.path for file in _data_of(config).train_files if file.is_file]


def _data_of(config: Mapping[str, Any]) -> "AudioData":
    from discrete_ae.data.datamodule import AudioData

    settings = dict(config)
    target = settings.pop("_target_", None)
    if target != f"{PACKAGE}.data.AudioDataModule":
        raise UsageError(f"data: expected the configuration of an AudioDataModule, got {target!r}")
    data = AudioData(**settings)
    data.setup()
    return data
