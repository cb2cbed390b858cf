"""Streaming with a causal model: encode a signal, or decode codes, while they arrive.

A frame is coded as soon as its last sample arrives. A causal model looks no further ahead, so the latency is one frame.
On a CPU the codes are exactly those of `Codec` for the whole signal: both compute blocks of the same shape, and an
encoder pads an incomplete block with zeros (`inference`). The cost is that each new frame recomputes the earlier frames
of its block. A decoder computes frame by frame; its audio differs from that of `Codec` in the last bits only.

Axes: B items, C audio channels, n samples, K codebooks, t frames.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_ae.errors import UsageError
from discrete_ae.inference import BLOCK, as_a_window, block_codes
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.model.base import State


class _Stream:
    """Base class of encoder and decoder: the items of a batch, each computed separately, and the end of the signal."""

    def __init__(self, model: DiscreteAutoencoder) -> None:
        if not isinstance(model, DiscreteAutoencoder):
            raise ValueError(f"model: expected a model, as discrete_ae.load(path) returns it, got {model!r:.80}")
        if not model.is_causal:
            raise UsageError(
                "streaming needs a causal model, and this one depends on samples after a frame; train one with "
                "model.encoder.causal=true, such as discrete-ae train model=spectral/tiny model.encoder.causal=true"
            )
        model.quantizer.check_count(None)
        self.model = model
        self._states: list[State] = []  # the model's state for each item, before its next step
        self._given_on = torch.device("cpu")
        self._finished = False

    @property
    def _device(self) -> torch.device:
        return self.model.to_latents.weight.device

    def _continue(self, name: str, batch: Tensor) -> None:
        """Check that the signals have not ended and are as many as before; begin them on the first call."""
        batch_size, self._given_on = len(batch), batch.device
        if self._finished:
            raise ValueError(
                f"push: the signal has ended with finish(); make a new {type(self).__name__} for another signal"
            )
        if not batch_size:
            raise ValueError(f"{name}: expected at least 1 item, got none")
        self._states = self._states or [None] * batch_size
        if len(self._states) != batch_size:
            raise ValueError(f"{name}: expected {len(self._states)} items as before, got {batch_size}")

    def _each(self, step: Callable[[Tensor, State], tuple[Tensor, State]], batch: Tensor) -> tuple[Tensor, list[State]]:
        """Apply a step to each item of a batch separately, and return the results (B, ...) and the next states."""
        items = zip(batch.split(1), self._states, strict=True)
        results, states = zip(*(step(item.clone(), state) for item, state in items), strict=True)
        return torch.cat(results), list(states)

    def _empty(self, length: int) -> Tensor:
        """Return silence (B, C, n), on the device of the last input."""
        return torch.zeros(len(self._states) or 1, self.model.channels, length, device=self._given_on)


class Encoder(_Stream):
    """Encoder of signals that arrive in parts of any length.

    >>> encoder = Encoder(causal_model)
    >>> audio = torch.zeros(1, 1, 16000)
    >>> codes = [encoder.push(part) for part in audio.split(700, dim=-1)] + [encoder.finish()]
    >>> torch.equal(torch.cat(codes, dim=-1), discrete_ae.Codec(causal_model).encode(audio))
    True

    Args:
        model: a causal model in float32; its training or evaluation mode does not change.
        num_codebooks: number of codebooks to use, one of `model.quantizer.decodable_counts`; None for all.

    Raises:
        UsageError: for a model that is not causal.
        ValueError: for a model without codes, or a num_codebooks that cannot be decoded.
    """

    def __init__(self, model: DiscreteAutoencoder, num_codebooks: int | None = None) -> None:
        super().__init__(model)
        model.quantizer.check_count(num_codebooks)
        self.num_codebooks = num_codebooks
        self._samples = torch.zeros(1, model.channels, 0)  # the samples (B, C, n) of the incomplete block
        self._done = 0  # number of frames of this block whose codes are returned

    def push(self, samples: Tensor) -> Tensor:
        """Add samples (B, C, n), n >= 0, and return the codes (B, K, t) int64 of the frames that they complete.

        Raises:
            ValueError: for samples that are not (B, C, n) float32, another B than before, samples that are NaN or
                infinite, or a call after `finish`. In these cases the samples are ignored, and the stream can continue.
                A ValueError is also raised for samples so loud that their latents are NaN or infinite.
        """
        channels = self.model.channels
        if not isinstance(samples, Tensor) or samples.ndim != 3 or samples.shape[1] != channels:
            found = tuple(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
            raise ValueError(f"samples: expected a tensor (batch, {channels}, samples), got {found}")
        if samples.dtype != torch.float32:
            raise ValueError(f"samples: expected torch.float32 in [-1, 1], got {samples.dtype}; convert them")
        if not bool(samples.isfinite().all()):
            raise ValueError("samples: expected finite numbers, got NaN or infinity; repair the signal")
        self._continue("samples", samples)
        return self._codes(samples.detach())

    def finish(self) -> Tensor:
        """End the signal, pad its last frame with zeros, and return the remaining codes (B, K, t), t = 0 or 1.

        Raises:
            ValueError: see `push`.
        """
        padding = self._empty(-self._samples.shape[-1] % self.model.hop_length)
        self._continue("samples", padding)
        self._finished = True
        return self._codes(padding)

    def _codes(self, samples: Tensor) -> Tensor:
        """Return the codes (B, K, t) of the frames that new samples (B, C, n) complete."""
        hop, size = self.model.hop_length, BLOCK * self.model.hop_length
        count = len(self.model.quantizer.codebook_sizes[: self.num_codebooks])
        self._samples = torch.cat([self._samples.expand(len(samples), -1, -1), samples.cpu()], dim=-1)
        found = [torch.zeros(len(samples), count, 0, dtype=torch.int64)]
        with as_a_window(self.model):
            while (frames := min(self._samples.shape[-1] // hop, BLOCK)) > self._done:
                block = F.pad(self._samples[..., : frames * hop], (0, size - frames * hop)).to(self._device)
                codes, states = self._each(partial(block_codes, self.model, num_codebooks=self.num_codebooks), block)
                found.append(codes[..., self._done : frames].cpu())
                self._done = frames
                if frames == BLOCK:
                    self._samples, self._done, self._states = self._samples[..., size:].clone(), 0, states
        codes = torch.cat(found, dim=-1)
        if bool((codes < 0).any()):
            raise ValueError("samples: the model makes NaN or infinite latents from them; scale them to [-1, 1]")
        return codes.to(samples.device)


class Decoder(_Stream):
    """Decoder of codes that arrive in parts of any number of frames.

    >>> decoder = Decoder(causal_model)
    >>> codes = torch.zeros(1, 8, 50, dtype=torch.int64)
    >>> audio = [decoder.push(part) for part in codes.split(3, dim=-1)] + [decoder.finish()]
    >>> torch.cat(audio, dim=-1).shape
    torch.Size([1, 1, 16000])

    Args:
        model: a causal model in float32; its training or evaluation mode does not change.

    Raises:
        UsageError: for a model that is not causal.
        ValueError: for a model without codes.
    """

    def push(self, codes: Tensor) -> Tensor:
        """Return the complete audio (B, C, t hop_length) float32 of codes (B, K, t), t >= 0.

        Raises:
            ValueError: for codes of another shape or out of range, another B than before, or a call after `finish`.
        """
        model = self.model
        model.quantizer.check_codes(codes)
        self._continue("codes", codes)

        def step(frame: Tensor, state: State) -> tuple[Tensor, State]:
            return model.reconstruct_step(model.quantizer.decode(frame), state)

        found = [self._empty(0).to(self._device)]
        given = codes.to(self._device)
        with as_a_window(model):
            for t in range(codes.shape[-1]):
                audio, self._states = self._each(step, given[..., t : t + 1])
                found.append(audio)
        return torch.cat(found, dim=-1).to(codes.device)

    def finish(self) -> Tensor:
        """End the stream and return the remaining audio: none, (B, C, 0), since a causal model holds no audio back.

        Raises:
            ValueError: for a call after `finish`.
        """
        nothing = self._empty(0)
        self._continue("codes", nothing)
        self._finished = True
        return nothing
