"""Build models on PyTorch's meta device, where tensors have a shape and a type, but no values and no memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten


class _Shapes(TorchDispatchMode):
    """Computes the shapes of tensors for the operations that components use when they are built.

    PyTorch computes the shapes for all other operations. For the operations here, PyTorch's code would import
    torch._dynamo and sympy, which takes as long again as importing torch.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # to skip it, PyTorch would import it
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, operation = kwargs or {}, func.overloadpacket
        if operation is aten.arange and all(isinstance(bound, int) for bound in args):
            return _empty([len(range(*args))], kwargs.get("dtype") or torch.int64)
        if operation in (aten.randn, aten.rand):
            return _empty(args[0], kwargs.get("dtype"))
        if operation is aten.cat and len({tensor.dtype for tensor in args[0]}) == 1:
            return _concatenated(*args)
        if operation is aten.norm and len(args) == 3 and args[0].is_floating_point():  # of weight normalization
            return _reduced(args[0], args[2])
        if torch.Tag.pointwise in func.tags and not func._schema.is_mutable:
            given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            one = func(*tree_map(_one_element, args), **tree_map(_one_element, kwargs))
            return _empty(np.broadcast_shapes(*(tensor.shape for tensor in given)), one.dtype)
        return func(*args, **kwargs)


def _empty(shape: Any, dtype: torch.dtype | None) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _one_element(value: Any) -> Any:
    """Return a CPU tensor of one element, with the type and number of dimensions of a tensor; or any other value."""
    return torch.ones([1] * value.ndim, dtype=value.dtype) if isinstance(value, Tensor) else value


def _concatenated(tensors: list[Tensor], dim: int = 0) -> Tensor:
    shape = list(tensors[0].shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return _empty(shape, tensors[0].dtype)


def _reduced(tensor: Tensor, dims: list[int]) -> Tensor:
    gone = {dim % tensor.ndim for dim in dims}
    return _empty([size for dim, size in enumerate(tensor.shape) if dim not in gone], tensor.dtype)


@contextmanager
def without_memory() -> Iterator[None]:
    """Create tensors on the meta device within this context."""
    with torch.device("meta"), _Shapes():
        yield
