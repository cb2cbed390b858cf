"""Encoders and decoders as the autoencoder sees them, and the inputs that their outputs depend on.

Axes: B batch, C audio channels, N samples, D hidden channels, T frames. Frame t has the samples [t H, (t + 1) H) of a
hop of H samples.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from discrete_ae.checks import whole_number


class Span(NamedTuple):
    """All indices from `first` to `last`, both included."""

    first: int
    last: int


@runtime_checkable
class MixesTime(Protocol):
    """A layer whose output at one index depends on inputs at other indices."""

    def input_span(self, outputs: Span) -> Span:
        """Return the smallest interval of input indices on which `outputs` depend, in a signal without ends."""


def input_span(layer: nn.Module, outputs: Span) -> Span:
    """Return the inputs on which `outputs` of a layer depend; a sequence is traced from its last layer to its first.

    A layer that is neither a sequence nor `MixesTime` is taken to work on each index alone.
    tests/model/test_receptive_field.py perturbs single samples to verify that for every family.
    """
    if isinstance(layer, MixesTime):
        return layer.input_span(outputs)
    if isinstance(layer, nn.Sequential):
        for part in reversed(layer):
            outputs = input_span(part, outputs)
    return outputs


class Half(nn.Module, ABC):
    """Common base of encoder and decoder.

    Args:
        channels: C, audio channels.
        dim: D, hidden channels at the frame rate.
        strides: downsampling factors from the audio to the frames, in the encoder's order on both sides.

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
        """Return the smallest interval of input indices on which the output indices depend, in a signal without ends.

        An encoder's inputs are samples and its outputs frames, a decoder's the other way round.
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
