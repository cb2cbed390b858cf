"""What a checkpoint says of its model: plain data that any version can read, and the hash that names the model."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from discrete_ae.errors import DataError
from discrete_ae.model.autoencoder import DiscreteAutoencoder
from discrete_ae.schedules import scheduled_numbers

SCHEMA_VERSION = 1
KEY = "discrete_ae"
STATE_PREFIX = "model."


class SavedModel(NamedTuple):
    """A model as a checkpoint holds it."""

    config: dict[str, Any]
    """Nested plain data with `_target_`, to be built by `discrete_ae.build`."""
    state: dict[str, Tensor]
    """Tensors by the model's own names."""
    model_hash: str
    scheduled: dict[str, float]
    """Numbers that followed a schedule, by dotted name, as they were."""


def model_hash(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """Name a model: SHA-256 over the sorted names, shapes and float32 bytes of its tensors and its configuration."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(values.shape)}\n".encode())
        digest.update(values.numpy().tobytes())
    digest.update(json.dumps(config, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def model_state(state_dict: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The model's tensors in the state_dict of a checkpoint, by the model's own names."""
    return {
        name.removeprefix(STATE_PREFIX): tensor
        for name, tensor in state_dict.items()
        if isinstance(name, str) and name.startswith(STATE_PREFIX)
    }


def describe_model(
    model: DiscreteAutoencoder, config: Mapping[str, Any], state: Mapping[str, Tensor] | None = None
) -> dict[str, Any]:
    """What training adds to its checkpoint under KEY; the tensors are in its state_dict, under STATE_PREFIX.

    Args:
        model: whose scheduled numbers are noted.
        config: nested plain data that builds the model again.
        state: the tensors that the checkpoint holds, where they are not the model's present ones, as averages are not.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "model": config,
        "model_hash": model_hash(model.state_dict() if state is None else state, config),
        "scheduled": scheduled_numbers(model),
    }


def read_checkpoint(path: str | Path) -> SavedModel:
    """Read the model of a checkpoint without executing anything that the file names.

    Raises:
        DataError: if the file is missing, damaged, or not a checkpoint of this program or of a version it knows.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder; a run leaves checkpoints/best.ckpt and last.ckpt in its folder")
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint; a run leaves checkpoints/best.ckpt and last.ckpt in its folder")
    foreign = f"{path}: not a checkpoint of discrete-ae; give the best.ckpt or last.ckpt of a run"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PyTorch says of a foreign file
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        raise DataError(foreign) from error  # PyTorch's own words advise what is unsafe
    about = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(about, dict) or not isinstance(content.get("state_dict"), dict):
        raise DataError(foreign)
    version = about.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: has schema version {version}, this program reads {SCHEMA_VERSION}; update discrete-ae"
        )
    config, named, scheduled = about.get("model"), about.get("model_hash"), about.get("scheduled", {})
    if not isinstance(config, dict) or not isinstance(named, str) or not isinstance(scheduled, dict):
        raise DataError(foreign)
    return SavedModel(config, model_state(content["state_dict"]), named, scheduled)
