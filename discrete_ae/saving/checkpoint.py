"""The model in a training checkpoint: what training adds to it, and how it is read back."""

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
FROZEN = "frozen"  # below KEY: the parts of the model that the run leaves as they are
ENTROPY_MODEL = "entropy_model"  # below KEY: the integers of the entropy model by name, where there is one
# What Lightning needs beside the tensors to continue a run.
STATE_OF_RUN = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step", "pytorch-lightning_version")
# What a pickle may name beside plain data. Of what else PyTorch allows, some makes as much room as it is told to.
_NAMED = re.compile(
    r"collections (OrderedDict|Counter)|(__builtin__|builtins) (set|complex)"
    r"|torch\._utils _rebuild_(tensor_v2|parameter)|torch (?!\w*Tensor)\w+"
)
# More than 1, since tensors that a module has under two names are in the file once.
CLAIMED_PER_BYTE = 4
UNSAVED = "without a checkpoint, which still runs or ended before its first one"
"""Describes a run that cannot be continued."""


def model_state(state_dict: Mapping[Any, Any], prefix: str = STATE_PREFIX) -> dict[str, Tensor]:
    """Return the model's tensors in the state_dict of a checkpoint, or those of what the prefix names, by own names."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if isinstance(name, str) and name.startswith(prefix)
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


def read_adversary(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of the discriminators in a checkpoint, by their own names; none of a run without them.

    Raises:
        DataError: as `read_checkpoint`.
    """
    return model_state(_read(Path(path))["state_dict"], ADVERSARY_PREFIX)


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


def has_checkpoints(run_dir: Path) -> bool:
    """Return whether a run has left a checkpoint in its folder."""
    return any(run_dir.glob("checkpoints/*.ckpt"))


def refuse_unsaved(path: Path) -> None:
    """Refuse the folder of a run without a checkpoint, or the place of a checkpoint in it; do nothing for others.

    Raises:
        DataError: it is one of the two.
    """
    run_dir = path.parent.parent if path.parent.name == "checkpoints" else path
    if (run_dir / CONFIG_NAME).is_file() and not has_checkpoints(run_dir):
        raise DataError(f"{path}: of a run {UNSAVED}; if it has ended, begin it anew with force=true")


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
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PyTorch says of a foreign file
            content = torch.load(path, map_location="cpu", weights_only=True)
        _check_tensors(path, content)
    except DataError:
        raise
    except zipfile.BadZipFile as error:
        with path.open("rb") as file:
            if file.read(2) not in (b"", b"PK"):  # as archives begin
                raise DataError(foreign) from error
        raise DataError(f"{path}: damaged, or cut off at {path.stat().st_size} bytes; use another copy") from error
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        raise DataError(foreign) from error  # PyTorch's own words advise what is unsafe
    parts = (content.get(KEY), content.get("state_dict")) if isinstance(content, dict) else (None,)
    if not all(isinstance(part, dict) for part in parts):
        raise DataError(foreign)
    return content


def _check_archive(path: Path) -> None:
    """Check that a checkpoint can be read in memory of the size of its file.

    Raises:
        DataError: its entries are compressed or overlap, or its pickle names what makes room.
        Exception: it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        held, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if held > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise DataError(f"{path}: expected an archive as torch.save writes it, got {held} bytes packed into {size}")
        (pickled,) = (entry for entry in entries if entry.filename.endswith("data.pkl"))
        for code, named, _ in pickletools.genops(archive.read(pickled)):
            if code.name == "GLOBAL" and not _NAMED.fullmatch(str(named)):
                name = str(named)[:80].replace(" ", ".")
                raise DataError(
                    f"{path}: not a checkpoint of discrete-ae, but of {name}; give the best.ckpt or last.ckpt of a run"
                )


def _check_tensors(path: Path, content: object) -> None:
    """Check that all tensors together are about as large as the file: a few bytes can be viewed as any number of them.

    Raises:
        DataError: they are far larger.
    """
    size = path.stat().st_size
    # Of a tensor without elements, what its other dimensions would take.
    claimed = sum(tensor.itemsize * math.prod(max(n, 1) for n in tensor.shape) for tensor in _tensors(content))
    if claimed > CLAIMED_PER_BYTE * size:
        raise DataError(f"{path}: its tensors claim {claimed} bytes, and the whole file has {size}; use another copy")


def _tensors(content: object) -> Iterator[Tensor]:
    """Yield the tensors in nested plain data; of what is in several places all parts once."""
    seen, waiting = set[int](), [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, Mapping | list | tuple | set) and id(part) not in seen:
            seen.add(id(part))
            waiting += part.values() if isinstance(part, Mapping) else part
