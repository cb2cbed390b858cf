"""The model in a checkpoint or a bundle: plain data that any version can read, and the hash that identifies it.

The data may come from an untrusted source: everything is checked when it is read, and nothing is executed.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules import module as registration

from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.errors import DataError
from discrete_ae.model.autoencoder import part_of
from discrete_ae.model.outline import without_memory
from discrete_ae.records import Record

SCHEMA_VERSION = 1

# Limit on the values in a configuration, including lists and mappings; a value in two places counts twice. Shipped
# models have about 50.
VALUES = 20_000
# Limit on the numbers in a configuration, of which the largest is usually the sample rate.
LARGEST_NUMBER = 2**20
# Limit on registered modules, parameters and buffers. Shipped models register 1 to 4 of them for each tensor.
PARTS = 2000
PARTS_PER_TENSOR = 16
# Limit on tables that a model computes when it is built, such as the lapped transform's basis (50 MB at hop 2048).
TABLE_BYTES = 2**28
TABLE_BYTES_PER_BYTE = 16


class ModelRecord(Record):
    """Fields of a model in a file, without the tensors."""

    schema_version: Literal[1]
    model: dict[str, Any]
    """Configuration: nested plain data with `_target_`, for `discrete_ae.build`."""
    model_hash: str
    scheduled: dict[str, float] = Field(default_factory=dict)
    """Current values of scheduled numbers, by dotted name."""


class SavedModel(NamedTuple):
    """A model in a checkpoint or a bundle; for `config` and `scheduled` see `ModelRecord`."""

    config: dict[str, Any]
    state: dict[str, Tensor]
    """Tensors by their names in the model."""
    model_hash: str
    scheduled: dict[str, float]
    entropy_model: EntropyModel | None = None
    """Entropy model of the codes, if training fitted one; not covered by the hash."""


def model_hash(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """Return the hash of a model: SHA-256 of its tensors (sorted names, shapes, float32 bytes) and configuration."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).numpy().data)  # no copy of the values
    digest.update(json.dumps(config, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def codes_hash(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """Return the hash of the parts that determine a model's codes: `model_hash` without the decoder."""
    return model_hash(
        {name: tensor for name, tensor in state.items() if part_of(name) != "decoder"},
        {key: value for key, value in config.items() if part_of(key) != "decoder"},
    )


def in_half_precision(saved: SavedModel) -> SavedModel:
    """Return the model with tensors in float16, which takes half of the space. It has another hash.

    Raises:
        DataError: a value is too large for float16.
    """
    state = {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in saved.state.items()}
    for name, tensor in state.items():
        if not torch.equal(tensor.isfinite(), saved.state[name].isfinite()):
            raise DataError(f"{name}: has values above 65504, the largest of half precision; export without --half")
    return saved._replace(state=state, model_hash=model_hash(state, saved.config))


def saved_model(path: Path, record: ModelRecord, state: dict[str, Tensor], entropy_arrays: object) -> SavedModel:
    """Return the model, given the contents of the file or folder at `path`.

    Args:
        path: path to name in messages.
        record: fields of the model.
        state: the model's tensors.
        entropy_arrays: tensors of the entropy model by name; None without an entropy model.

    Raises:
        DataError: the entropy model is damaged.
    """
    entropy_model = None
    if entropy_arrays is not None:
        try:
            if not isinstance(entropy_arrays, Mapping):
                raise ValueError("expected tensors by name")
            entropy_model = EntropyModel.from_arrays({n: a.cpu().numpy() for n, a in entropy_arrays.items()})
        except (ValueError, TypeError, RuntimeError, OverflowError, AttributeError) as error:
            raise DataError(f"{path}: its entropy model is damaged ({error}); use another copy") from error
    return SavedModel(record.model, state, record.model_hash, record.scheduled, entropy_model)


def check_claims(config: Mapping[str, Any], state: Mapping[str, Tensor], build: Callable[[Any], nn.Module]) -> None:
    """Check that a configuration matches the tensors, before any memory is allocated for its model.

    A few bytes of configuration can require terabytes of weights or a billion layers. The model is therefore first
    built without memory, on PyTorch's meta device, with a limit on the number of its parts. The result is compared with
    the tensors.

    Args:
        config: nested plain data with `_target_`, unchecked.
        state: the tensors from the same file.
        build: function that builds a module from such data.

    Raises:
        DataError: a tensor is missing, superfluous or of another shape; or the configuration needs far more parts or
            tables than its tensors justify.
    """
    for place, (name, number) in enumerate(_values("configuration", config)):
        if place >= VALUES:
            raise DataError(f"its configuration has more than {VALUES} values")
        if isinstance(number, int | float) and not abs(number) <= LARGEST_NUMBER:
            raise DataError(f"{name}: expected at most {LARGEST_NUMBER}, got {str(number)[:20]}")
    most, parts = PARTS + PARTS_PER_TENSOR * len(state), count(1)

    def limit(*registered: object) -> None:
        if next(parts) > most:
            raise DataError(f"its configuration needs more than {most} parts, far too many for its tensors")

    with ExitStack() as hooks:
        for register in (
            registration.register_module_module_registration_hook,
            registration.register_module_parameter_registration_hook,
            registration.register_module_buffer_registration_hook,
        ):
            hooks.callback(register(limit).remove)
        with without_memory():
            outline = build(config)
    expected, given = ({name: tuple(x.shape) for name, x in part.items()} for part in (outline.state_dict(), state))
    for name in sorted(expected.keys() | given.keys()):
        if (shape := expected.get(name)) != given.get(name):
            raise DataError(f"tensor {name:.80}: expected shape {shape or 'none'}, got {given.get(name, 'none')}")
    tables, held = (sum(x.nbytes for x in tensors) for tensors in (outline.buffers(), state.values()))
    if tables > TABLE_BYTES + TABLE_BYTES_PER_BYTE * held:
        raise DataError(f"its configuration needs tables of {tables} bytes, too large for its tensors of {held} bytes")


def _values(name: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield all nested values of a configuration, each with the name of its key."""
    yield name, value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _values(str(key), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _values(name, inner)
