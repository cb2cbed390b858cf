"""The model in a training checkpoint: what training adds to it, and how it is read back."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from discrete_ae.errors import DataError
from discrete_ae.model.autoencoder import DiscreteAutoencoder
from discrete_ae.saving.saved import SCHEMA_VERSION, ModelRecord, SavedModel, model_hash, saved_model
from discrete_ae.schedules import scheduled_numbers

KEY = "discrete_ae"
STATE_PREFIX = "model."
ENTROPY_MODEL = "entropy_model"  # below KEY: the integers of the entropy model by name, where there is one
# What Lightning needs beside the tensors to continue a run.
STATE_OF_RUN = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step", "pytorch-lightning_version")


def model_state(state_dict: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the model's tensors in the state_dict of a checkpoint, by the model's own names."""
    return {
        name.removeprefix(STATE_PREFIX): tensor
        for name, tensor in state_dict.items()
        if isinstance(name, str) and name.startswith(STATE_PREFIX)
    }


def describe_model(
    model: DiscreteAutoencoder, config: Mapping[str, Any], state: Mapping[str, Tensor] | None = None
) -> dict[str, Any]:
    """Return what training adds to its checkpoint under KEY; the tensors are in its state_dict, under STATE_PREFIX.

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
    content = _read(path)
    try:
        record = ModelRecord.of(content[KEY])
    except ValueError as error:
        raise DataError(
            f"{path}: not a checkpoint of discrete-ae that this version reads ({error}); give the best.ckpt or "
            "last.ckpt of a run, or update discrete-ae"
        ) from error
    return saved_model(path, record, model_state(content["state_dict"]), content[KEY].get(ENTROPY_MODEL))


class TrainingState(NamedTuple):
    """The place in its run at which a checkpoint was written."""

    global_step: int
    best_score: float
    """Least of what the run's best.ckpt is chosen by; NaN where none was."""


def read_training_state(path: str | Path) -> TrainingState:
    """Return how far the run of a checkpoint had come.

    Raises:
        DataError: as `read_checkpoint`, and for a checkpoint without the state of its run, which cannot be continued.
    """
    found = _resumable(path)
    scores = [
        float(state["best_model_score"])
        for state in (found.get("callbacks") or {}).values()
        if isinstance(state, dict) and state.get("best_model_score") is not None
    ]
    return TrainingState(int(found["global_step"]), min(scores, default=math.nan))


def _resumable(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint from which a run can be continued."""
    if Path(path).is_dir():
        raise DataError(
            f"{path}: is a folder, such as a bundle, which holds no state of a run; give its last.ckpt, or start a new "
            "run from the bundle's weights with init_from="
        )
    content = _read(Path(path))
    missing = [name for name in STATE_OF_RUN if name not in content]
    if missing:
        raise DataError(
            f"{path}: holds a model without the state of its run ({missing[0]} is missing), which cannot be continued; "
            "give last.ckpt of a run, or start a new run from its weights with init_from="
        )
    return content


def _read(path: Path) -> dict[str, Any]:
    """Read a checkpoint, of which state_dict and KEY are certainly dicts."""
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
    parts = (content.get(KEY), content.get("state_dict")) if isinstance(content, dict) else (None,)
    if not all(isinstance(part, dict) for part in parts):
        raise DataError(foreign)
    return content
