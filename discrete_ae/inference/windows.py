"""A long signal as overlapping windows of one length, whose results put together are those of the whole signal.

A frame depends on a limited stretch of its signal, so what a window gives for frames that are far enough from its ends
is what the whole signal would give. Where the windows lie follows from the signal's length alone, never from the parts
in which it arrives: window i begins at frame i S, and the last one ends with the signal, whose end is silence to each
layer as its beginning is. All have the same shape, so that the same arithmetic is done in the same order; a signal of
at most one window is a window of its own length.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_ae.model import DiscreteAutoencoder, Span

# Longer windows repeat less work at their ends, shorter ones stay in the caches: on a CPU encoders were fastest here.
LEAST_SECONDS = 2.0
LEAST_BY_OVERLAP = 16


class Window(NamedTuple):
    """The windows of a network, in frames."""

    length: int
    """Of each."""
    before: int
    """At its beginning so many do not count, unless the signal begins there."""
    after: int
    """Nor so many at its end, unless the signal ends there."""

    @property
    def step(self) -> int:
        """S, from the beginning of one to that of the next."""
        return self.length - self.before - self.after


def encoder_window(model: DiscreteAutoencoder) -> Window:
    """Return the windows in which a model encodes audio."""
    hop = model.hop_length
    span = model.encoder.input_span(Span(0, 0))
    return _reaching(model, math.ceil(-span.first / hop), math.ceil((span.last + 1) / hop) - 1)


def decoder_window(model: DiscreteAutoencoder) -> Window:
    """Return the windows in which a model decodes codes."""
    span = model.decoder.input_span(Span(0, model.hop_length - 1))
    return _reaching(model, -span.first, span.last)


def _reaching(model: DiscreteAutoencoder, before: int, after: int) -> Window:
    """Windows for a network whose frames depend on so many frames before and after their own."""
    least = math.ceil(LEAST_SECONDS * model.frame_rate_hz)
    return Window(max(least, LEAST_BY_OVERLAP * (before + after)), before, after)


def window_codes(model: DiscreteAutoencoder, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
    """Return codes (B, K, T) of windows of audio (B, C, T hop_length).

    They are -1 in a frame whose latents are not finite: no code stands for it.
    """
    latents = model.latents(audio)
    codes = model.quantizer.encode(latents, num_codebooks)
    return codes.masked_fill(~latents.isfinite().all(dim=1, keepdim=True), -1)


class Piece(NamedTuple):
    """One window of a signal."""

    signal: Tensor
    """(..., frames x unit)."""
    first: int
    """The first of its frames that counts."""
    stop: int
    """The one after the last that counts."""


class Cutter:
    """Cuts a signal that arrives in parts of any length into windows.

    Args:
        window: lengths in frames.
        unit: indices of the signal's last axis in one frame: the hop for audio, 1 for codes.
    """

    def __init__(self, window: Window, unit: int) -> None:
        self.window = window
        self.unit = unit
        self._parts: list[Tensor] = []
        self._available = 0  # indices in the parts
        self._begin = 0  # frame of the signal where the parts begin
        self._next = 0  # frame where the next window begins
        self._done = 0  # frames that counted already

    def push(self, part: Tensor) -> Iterator[Piece]:
        """Take the next part (..., n) of the signal; yield the windows that are complete and not the last."""
        self._parts.append(part)
        self._available += part.shape[-1]
        # Only if there is more than this window is it known that it is not the last one.
        while self._available > (self._next - self._begin + self.window.length) * self.unit:
            stop = self._next + self.window.length - self.window.after
            yield self._piece(self._next, self.window.length, stop)
            self._forget(self._next)  # the last window may begin before the next one, but not before this one
            self._next += self.window.step

    def finish(self) -> Iterator[Piece]:
        """End the signal, the last frame filled up with zeros; yield the last window, none of an empty signal."""
        missing = -self._available % self.unit
        if missing:
            self._parts = [F.pad(self._joined(), (0, missing))]
            self._available += missing
        end = self._begin + self._available // self.unit
        if end > self._done:
            first = max(0, end - self.window.length)
            yield self._piece(first, end - first, end)

    def _piece(self, first: int, length: int, stop: int) -> Piece:
        start = (first - self._begin) * self.unit
        piece = Piece(self._joined()[..., start : start + length * self.unit].clone(), self._done - first, stop - first)
        self._done = stop
        return piece

    def _joined(self) -> Tensor:
        if len(self._parts) > 1:
            self._parts = [torch.cat(self._parts, dim=-1)]
        return self._parts[0]

    def _forget(self, frame: int) -> None:
        """Drop what lies before a frame."""
        drop = (frame - self._begin) * self.unit
        self._parts = [self._joined()[..., drop:]]
        self._available -= drop
        self._begin = frame
