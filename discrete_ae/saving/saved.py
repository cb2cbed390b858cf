"""What a checkpoint and a bundle both say of a model: plain data that any version can read, and the hash that names it.

All of it may come from anyone: what is read here is checked, and nothing in it is executed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.errors import DataError

SCHEMA_VERSION = 1


class SavedModel(NamedTuple):
    """A model as a checkpoint or a bundle holds it."""

    config: dict[str, Any]
    """Nested plain data with `_target_`, to be built by `discrete_ae.build`."""
    state: dict[str, Tensor]
    """Tensors by the model's own names."""
    model_hash: str
    scheduled: dict[str, float]
    """Numbers that followed a schedule, by dotted name, as they were."""
    entropy_model: EntropyModel | None = None
    """Of the model's codes, where training has made one; the hash does not cover it."""


def model_hash(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """Name a model: SHA-256 over the sorted names, shapes and float32 bytes of its tensors and its configuration."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).numpy().data)  # read where it is, without a copy
    digest.update(json.dumps(config, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def checked_model(
    path: Path, about: Mapping[str, Any], state: dict[str, Tensor], entropy_arrays: object, foreign: str
) -> SavedModel:
    """A SavedModel of what was read at `path`.

    Args:
        path: for the messages.
        about: `schema_version`, `model`, `model_hash` and `scheduled`.
        state: the model's tensors.
        entropy_arrays: by name, the tensors of the entropy model; None where there is none.
        foreign: what to say of a file that is none of ours.

    Raises:
        DataError: for another schema version, a part that is missing or of another kind, or a damaged entropy model.
    """
    version = about.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: has schema version {str(version)[:20]}, this program reads {SCHEMA_VERSION}; update discrete-ae"
        )
    config, named, scheduled = about.get("model"), about.get("model_hash"), about.get("scheduled", {})
    if not isinstance(config, dict) or not isinstance(named, str) or not isinstance(scheduled, dict):
        raise DataError(foreign)
    return SavedModel(config, state, named, scheduled, _entropy_model(path, entropy_arrays))


def _entropy_model(path: Path, arrays: object) -> EntropyModel | None:
    if arrays is None:
        return None
    try:
        if not isinstance(arrays, Mapping) or not all(isinstance(array, Tensor) for array in arrays.values()):
            raise ValueError("expected tensors by name")
        return EntropyModel.from_arrays({name: array.cpu().numpy() for name, array in arrays.items()})
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise DataError(f"{path}: its entropy model is damaged ({error}); use another copy") from error
