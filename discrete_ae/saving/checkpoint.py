"""The model in a training checkpoint: the fields that training adds, and reading them back."""

import math
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from discrete_ae.errors import DataError
from discrete_ae.model.autoencoder import DiscreteAutoencoder
from discrete_ae.paths import CONFIG_NAME
from discrete_ae.saving.saved import SCHEMA_VERSION, ModelRecord, SavedModel, model_hash, saved_model
from discrete_ae.schedules import scheduled_numbers

KEY = "discrete_ae"
STATE_PREFIX = "model."
ADVERSARY_PREFIX = "loss.adversary."
FROZEN = "frozen"  # below KEY: the frozen parts of the model
ENTROPY_MODEL = "entropy_model"  # below KEY: the arrays of the entropy model by name, if one was fitted
# Fields that Lightning needs besides the tensors to resume a run.
STATE_OF_RUN = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step", "pytorch-lightning_version")
# Globals that a pickle may name. PyTorch allows more, but some of those could allocate any amount of memory.
_NAMED = re.compile(
    r"collections (OrderedDict|Counter)|(__builtin__|builtins) (set|complex)"
    r"|torch\._utils _rebuild_(tensor_v2|parameter)|torch (?!\w*Tensor)\w+"
)
# Limit on the size of all tensors, relative to the file. More than 1, since a tensor with two names is saved once.
CLAIMED_PER_BYTE = 4
UNSAVED = "without a checkpoint, which still runs or ended before its first one"
"""Describes a run that cannot be continued."""


def model_state(state_dict: Mapping[Any, Any], prefix: str = STATE_PREFIX) -> dict[str, Tensor]:
    """Return the tensors in a state_dict whose names have a prefix (by default the model's), without the prefix."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if isinstance(name, str) and name.startswith(prefix)
    }


def describe_model(
    model: DiscreteAutoencoder, config: Mapping[str, Any], state: Mapping[str, Tensor] | None = None
) -> dict[str, Any]:
    """Return the fields that training adds to its checkpoint under KEY; the tensors are in `state_dict`.

    Args:
        model: the model, with its scheduled numbers.
        config: nested plain data that builds the model.
        state: tensors in the checkpoint, if they differ from the model's, as averaged weights do; else None.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "model": config,
        "model_hash": model_hash(model.state_dict() if state is None else state, config),
        "scheduled": scheduled_numbers(model),
    }


def read_checkpoint(path: str | Path) -> SavedModel:
    """Read the model of a checkpoint without executing any of its contents.

    Raises:
        DataError: the file is missing, damaged, or not a checkpoint of a known version of this program.
    """
    path = Path(path)
    content = _read(path)
    try:
        record = ModelRecord.of(content[KEY])
    except ValueError as error:
        raise DataError(
            f"{path}: not a checkpoint of discrete-ae, or of an unknown version ({error}); give the best.ckpt or "
            "last.ckpt of a run, or update discrete-ae"
        ) from error
    return saved_model(path, record, model_state(content["state_dict"]), content[KEY].get(ENTROPY_MODEL))


def read_adversary(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint's discriminators by name; an empty dict if it has no discriminators.

    Raises:
        DataError: the file is missing, damaged, or not a checkpoint.
    """
    return model_state(_read(Path(path))["state_dict"], ADVERSARY_PREFIX)


class TrainingState(NamedTuple):
    """The progress of a run when its checkpoint was written."""

    global_step: int
    best_score: float
    """Lowest value so far of the score that selects best.ckpt; NaN without a score."""


def read_training_state(path: str | Path) -> TrainingState:
    """Return the progress of a checkpoint's run.

    Raises:
        DataError: the file is missing, damaged, or not a checkpoint; or it has no training state and cannot be resumed.
    """
    found = _resumable(path)
    scores = [
        float(state["best_model_score"])
        for state in (found.get("callbacks") or {}).values()
        if isinstance(state, dict) and state.get("best_model_score") is not None
    ]
    return TrainingState(int(found["global_step"]), min(scores, default=math.nan))


def has_checkpoints(run_dir: Path) -> bool:
    """Return whether a run has left a checkpoint in its folder."""
    return any(run_dir.glob("checkpoints/*.ckpt"))


def refuse_unsaved(path: Path) -> None:
    """Reject a path in a run without a checkpoint: the run's folder, or a file in its checkpoints folder.

    Raises:
        DataError: the path is one of the two.
    """
    run_dir = path.parent.parent if path.parent.name == "checkpoints" else path
    if (run_dir / CONFIG_NAME).is_file() and not has_checkpoints(run_dir):
        raise DataError(f"{path}: of a run {UNSAVED}; if it has ended, start it again with force=true")


def _resumable(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint from which a run can be resumed."""
    if Path(path).is_dir():
        raise DataError(
            f"{path}: expected a checkpoint, got a folder, which has no training state; give last.ckpt of a run, or "
            "start a new run from a bundle's weights with init_from="
        )
    content = _read(Path(path))
    missing = [name for name in STATE_OF_RUN if name not in content]
    if missing:
        raise DataError(
            f"{path}: a model without training state ({missing[0]} is missing) cannot be resumed; give last.ckpt of a "
            "run, or start a new run from its weights with init_from="
        )
    return content


def _read(path: Path) -> dict[str, Any]:
    """Read a checkpoint, and check that state_dict and KEY are dicts."""
    if path.is_dir():
        raise DataError(
            f"{path}: expected a checkpoint, got a folder; give checkpoints/best.ckpt or last.ckpt of a run"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint; give best.ckpt or last.ckpt of a run, a bundle, or pretrained")
    foreign = f"{path}: not a checkpoint of discrete-ae; give the best.ckpt or last.ckpt of a run"
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns about foreign files
            content = torch.load(path, map_location="cpu", weights_only=True)
        _check_tensors(path, content)
    except DataError:
        raise
    except zipfile.BadZipFile as error:
        with path.open("rb") as file:
            if file.read(2) not in (b"", b"PK"):  # not the beginning of an archive
                raise DataError(foreign) from error
        raise DataError(f"{path}: damaged, or truncated at {path.stat().st_size} bytes; use another copy") from error
    except Exception as error:  # for damaged bytes, the unpickler raises almost any error
        raise DataError(foreign) from error  # PyTorch's own message gives unsafe advice
    parts = (content.get(KEY), content.get("state_dict")) if isinstance(content, dict) else (None,)
    if not all(isinstance(part, dict) for part in parts):
        raise DataError(foreign)
    return content


def _check_archive(path: Path) -> None:
    """Check that reading a checkpoint takes no more memory than the size of its file.

    Raises:
        DataError: entries are compressed or overlap, or the pickle names a global that could allocate memory.
        Exception: the file is not an archive.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        held, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if held > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise DataError(f"{path}: expected an archive of torch.save, got {held} bytes compressed to {size}")
        (pickled,) = (entry for entry in entries if entry.filename.endswith("data.pkl"))
        for code, named, _ in pickletools.genops(archive.read(pickled)):
            if code.name == "GLOBAL" and not _NAMED.fullmatch(str(named)):
                name = str(named)[:80].replace(" ", ".")
                raise DataError(
                    f"{path}: not a checkpoint of discrete-ae: it holds {name}; give best.ckpt or last.ckpt of a run"
                )


def _check_tensors(path: Path, content: object) -> None:
    """Check that the tensors are not much larger than the file: views can repeat a few bytes any number of times.

    Raises:
        DataError: the tensors are much larger.
    """
    size = path.stat().st_size
    # A dimension of 0 counts as 1, since the other dimensions may be huge.
    claimed = sum(tensor.itemsize * math.prod(max(n, 1) for n in tensor.shape) for tensor in _tensors(content))
    if claimed > CLAIMED_PER_BYTE * size:
        raise DataError(f"{path}: its tensors claim {claimed} bytes, the file has only {size}; use another copy")


def _tensors(content: object) -> Iterator[Tensor]:
    """Yield the tensors in nested plain data; a container in several places is visited once."""
    seen, waiting = set[int](), [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, Mapping | list | tuple | set) and id(part) not in seen:
            seen.add(id(part))
            waiting += part.values() if isinstance(part, Mapping) else part
