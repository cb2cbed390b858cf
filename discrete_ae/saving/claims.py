"""What the configuration in a file may ask for, measured by the tensors that the file holds.

A few bytes of configuration can ask for terabytes of weights, a billion layers or codebooks. A model is therefore first
built without memory, on PyTorch's meta device, with a limit on the number of its parts, and compared with the tensors;
only a model that they fill is built in earnest.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from discrete_ae.errors import DataError

# Parts are modules, parameters and buffers as they are registered: the shipped models have 1 to 4 for each tensor.
PARTS = 2000
PARTS_PER_TENSOR = 16
# Tables are what a model computes when it is built, such as the lapped transform's basis: 50 MB at a hop of 2048.
TABLE_BYTES = 2**28
TABLE_BYTES_PER_BYTE = 16
MOST_TERMS = 4096  # of a Fourier rounding, which fills a table of as many

HOOKS = (
    registration.register_module_module_registration_hook,
    registration.register_module_parameter_registration_hook,
    registration.register_module_buffer_registration_hook,
)


def check_claims(config: Mapping[str, Any], state: Mapping[str, Tensor], build: Callable[[Any], nn.Module]) -> None:
    """Refuse a configuration that does not describe the tensors, before anything of its size is allocated.

    Args:
        config: nested plain data with `_target_`, as it came.
        state: the tensors that came with it.
        build: makes a module of such data.

    Raises:
        DataError: a tensor is missing, superfluous or of another shape, or the model is far larger than its tensors.
    """
    if not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise DataError("not all of its tensors are tensors")
    widest = max((max(tensor.shape, default=0) for tensor in state.values()), default=0)
    _check_numbers(config, widest)
    with _limited_parts(PARTS + PARTS_PER_TENSOR * len(state)), torch.device("meta"):
        outline = build(config)
    _check_tensors({name: tuple(tensor.shape) for name, tensor in outline.state_dict().items()}, state)
    tables = sum(buffer.nbytes for buffer in outline.buffers())
    held = sum(tensor.nbytes for tensor in state.values())
    if tables > TABLE_BYTES + TABLE_BYTES_PER_BYTE * held:
        raise DataError(f"its configuration asks for tables of {tables} bytes, beside tensors of {held}")


def _check_numbers(config: Any, widest: int) -> None:
    """The numbers that make a component allocate before it registers anything."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            # Each codebook has a channel of the latents, and some tensor has as many rows as there are of those.
            if name == "num_codebooks":
                _require_at_most(name, value, widest)
            elif name == "levels" and isinstance(value, list):
                _require_at_most("length of levels", len(value), widest)
            elif name == "terms":
                numbers = value.values() if isinstance(value, Mapping) else [value]
                for number in numbers:
                    _require_at_most(name, number, MOST_TERMS)
            _check_numbers(value, widest)
    elif isinstance(config, list):
        for value in config:
            _check_numbers(value, widest)


def _require_at_most(name: str, value: object, most: int) -> None:
    if isinstance(value, int | float) and not value <= most:
        raise DataError(f"{name}: expected at most {most} for the tensors it comes with, got {str(value)[:20]}")


@contextmanager
def _limited_parts(limit: int) -> Iterator[None]:
    found = 0

    def count(*registered: object) -> None:
        nonlocal found
        found += 1
        if found > limit:
            raise DataError(f"its configuration asks for more than {limit} parts, far more than its tensors fill")

    handles = [register(count) for register in HOOKS]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_tensors(expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor]) -> None:
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        words = [f"{_some(names)} {what}" for what, names in (("missing", missing), ("superfluous", extra)) if names]
        raise DataError(f"its tensors are not those of its configuration: {', '.join(words)}")
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise DataError(f"tensor {name}: expected shape {shape}, got {tuple(state[name].shape)}")


def _some(names: list[str]) -> str:
    return f"{names[0]:.80}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
