"""Interfaces of encoders and decoders: which inputs an output depends on, and computation in causal steps.

A causal network can be computed part by part. `step` takes the next part of the input and the state that the previous
step returned. The state holds the last inputs of every layer that mixes time steps. The concatenated outputs of all
steps equal the outputs for the whole input. The state before the first step is None, which means silence, as in the
padding of each layer.

Axes: B batch, C audio channels, N samples, D hidden channels, T frames. With a hop of H samples, frame t has the
samples [t H, (t + 1) H).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from discrete_ae.checks import whole_number


class Span(NamedTuple):
    """All indices from `first` to `last`, both included."""

    first: int
    last: int


State: TypeAlias = "Tensor | tuple[State, ...] | None"
"""State of a network between steps, by layer."""


@runtime_checkable
class MixesTime(Protocol):
    """A layer whose output at one index depends on inputs at other indices."""

    def input_span(self, outputs: Span) -> Span:
        """Return the smallest interval of input indices on which `outputs` depend, in an infinite signal."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the outputs of a causal layer for the next part of its inputs, and the next state."""


def input_span(layer: nn.Module, outputs: Span) -> Span:
    """Return the inputs on which `outputs` of a layer depend; a sequence is traced from its last layer to its first.

    A layer that is neither a sequence nor `MixesTime` is assumed to work on each index separately.
    tests/model/test_receptive_field.py verifies this for every family by perturbing single samples.
    """
    if isinstance(layer, MixesTime):
        return layer.input_span(outputs)
    if isinstance(layer, nn.Sequential):
        for part in reversed(layer):
            outputs = input_span(part, outputs)
    return outputs


def step(layer: nn.Module, x: Tensor, state: State) -> tuple[Tensor, State]:
    """Return the outputs of a causal layer for the next part of its inputs, and the next state."""
    if isinstance(layer, MixesTime):
        return layer.step(x, state)
    if isinstance(layer, nn.Sequential):
        states = state or [None] * len(layer)
        after = []
        for part, before in zip(layer, states, strict=True):
            x, last = step(part, x, before)
            after.append(last)
        return x, tuple(after)
    return layer(x), None


def after_past(x: Tensor, past: State, length: int) -> tuple[Tensor, State]:
    """Return x (..., n) with the last `length` inputs prepended, and the last `length` inputs of the result."""
    if not length:
        return x, None
    before = past if isinstance(past, Tensor) else x.new_zeros(*x.shape[:-1], length)
    joined = torch.cat([before, x], dim=-1)
    return joined, joined[..., -length:].clone()


def tensors_of(state: State) -> list[Tensor]:
    """Return the tensors of a state, in order."""
    if isinstance(state, Tensor):
        return [state]
    return [tensor for part in state or () for tensor in tensors_of(part)]


def with_tensors(state: State, tensors: Iterator[Tensor]) -> State:
    """Return a state of the same structure with its tensors replaced by `tensors`, in order."""
    if isinstance(state, Tensor):
        return next(tensors)
    return state and tuple(with_tensors(part, tensors) for part in state)


class Half(nn.Module, ABC):
    """Common base of encoder and decoder.

    Args:
        channels: number of audio channels, C.
        dim: number of hidden channels at the frame rate, D.
        strides: downsampling factors from audio to frames, in the encoder's order for both encoder and decoder.

    Raises:
        ValueError: for a number below 1.
    """

    def __init__(self, channels: int, dim: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.channels = whole_number("channels", channels, 1)
        self.dim = whole_number("dim", dim, 1)
        self.strides = tuple(whole_number("strides", stride, 1) for stride in strides)
        if not self.strides:
            raise ValueError("strides: expected whole numbers of at least 1, got none")

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.strides)

    @abstractmethod
    def input_span(self, outputs: Span) -> Span:
        """Return the smallest interval of input indices on which the output indices depend, in an infinite signal.

        An encoder's inputs are samples and its outputs frames; a decoder's inputs are frames and its outputs samples.
        """

    @abstractmethod
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the outputs of a causal network for the next whole frames, and the next state.

        The outputs are the same as for the whole signal, and do not depend on later inputs.
        """


class Encoder(Half):
    """Audio (B, C, T * hop_length) to hidden frames (B, D, T)."""

    @abstractmethod
    def forward(self, audio: Tensor) -> Tensor:
        """Encode whole frames of audio."""


class Decoder(Half):
    """Hidden frames (B, D, T) to audio (B, C, T * hop_length)."""

    @abstractmethod
    def forward(self, hidden: Tensor) -> Tensor:
        """Decode to whole frames of audio."""
