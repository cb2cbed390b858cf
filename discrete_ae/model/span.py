"""Which inputs an output depends on, as intervals of indices, from the layers' own numbers."""

from typing import NamedTuple, Protocol, runtime_checkable

from torch import nn


class Span(NamedTuple):
    """All indices from `first` to `last`, both included."""

    first: int
    last: int


@runtime_checkable
class MixesTime(Protocol):
    """A layer whose output at one index depends on inputs at others."""

    def input_span(self, outputs: Span) -> Span:
        """The smallest interval of input indices that holds everything `outputs` depend on, were there no ends."""


def input_span(layer: nn.Module, outputs: Span) -> Span:
    """The inputs that `outputs` of a layer depend on: of a sequence from its last layer to its first.

    A layer that is neither a sequence nor `MixesTime` works on each index alone; a test perturbs single samples to
    hold every family to that.
    """
    if isinstance(layer, MixesTime):
        return layer.input_span(outputs)
    if isinstance(layer, nn.Sequential):
        for part in reversed(layer):
            outputs = input_span(part, outputs)
    return outputs
