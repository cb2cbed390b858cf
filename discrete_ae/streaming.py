"""Codes of a signal while it is still going on, and audio of codes while they come, by a causal model.

A frame is coded as soon as its last sample is there: a causal model looks no further ahead, so the latency is a frame.
On a CPU the codes are exactly those that `Codec` gives the whole signal: both compute blocks of the same shape, and an
encoder fills a block that is not complete with zeros (`inference`). The price is that the frames of a block are
computed again with each frame that comes. A decoder takes frame by frame; its audio is that of `Codec` but for its last
bits.

Axes: B items, C audio channels, n samples, K codebooks, t frames.
"""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_ae.errors import UsageError
from discrete_ae.inference import BLOCK, as_a_window, block_codes
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.model.base import State

Item = TypeVar("Item")


class _Stream(ABC, Generic[Item]):
    """Common base: the items of a batch, each computed by itself, and the end of the signal."""

    def __init__(self, model: DiscreteAutoencoder) -> None:
        if not isinstance(model, DiscreteAutoencoder):
            raise ValueError(f"model: expected a model, as discrete_ae.load(path) returns it, got {model!r:.80}")
        if not model.is_causal:
            raise UsageError(
                "streaming needs a causal model, and this one looks at samples after its frames; train one with "
                "model.encoder.causal=true, such as discrete-ae train model=spectral/tiny model.encoder.causal=true"
            )
        model.quantizer.check_count(None)
        self.model = model
        self._items: list[Item] = []
        self._finished = False

    @property
    def _device(self) -> torch.device:
        return self.model.to_latents.weight.device

    @abstractmethod
    def _begun(self) -> Item:
        """Return a new item, before its first step."""

    def _continue(self, name: str, batch_size: int) -> None:
        """Check that the signals go on, and are as many as before."""
        if self._finished:
            raise ValueError(f"push: the signal has ended with finish(); make a new {type(self).__name__} for another")
        if not batch_size:
            raise ValueError(f"{name}: expected at least 1 item, got none")
        self._items = self._items or [self._begun() for _ in range(batch_size)]
        if len(self._items) != batch_size:
            raise ValueError(f"{name}: expected {len(self._items)} items as before, got {batch_size}")


class _Signal:
    """Samples of one item that belong to the block that is not complete, and the state before it."""

    def __init__(self, channels: int) -> None:
        self.samples = torch.zeros(1, channels, 0)
        self.done = 0  # frames of this block
        self.state: State = None


class Encoder(_Stream[_Signal]):
    """Encodes signals that come in parts of any length.

    >>> encoder = Encoder(causal_model)
    >>> audio = torch.zeros(1, 1, 16000)
    >>> codes = [encoder.push(part) for part in audio.split(700, dim=-1)] + [encoder.finish()]
    >>> torch.equal(torch.cat(codes, dim=-1), discrete_ae.Codec(causal_model).encode(audio))
    True

    Args:
        model: a causal one, in float32; its mode of training or evaluation is left as it is.
        num_codebooks: how many of the codebooks to use, one of `model.quantizer.decodable_counts`; None for all.

    Raises:
        UsageError: the model is not causal.
        ValueError: it has no codes, or num_codebooks cannot be decoded.
    """

    def __init__(self, model: DiscreteAutoencoder, num_codebooks: int | None = None) -> None:
        super().__init__(model)
        model.quantizer.check_count(num_codebooks)
        self.num_codebooks = num_codebooks

    def push(self, samples: Tensor) -> Tensor:
        """Return the codes (B, K, t) int64 of the frames that are complete with samples (B, C, n), n from 0 on.

        Raises:
            ValueError: for samples of another shape or type than (B, C, n) float32, another B than before, samples that
                are NaN or infinite, or after `finish`: the stream goes on as if they had not come. Also for samples
                so loud that the model makes NaN or infinite latents of them.
        """
        channels = self.model.channels
        if not isinstance(samples, Tensor) or samples.ndim != 3 or samples.shape[1] != channels:
            found = tuple(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
            raise ValueError(f"samples: expected a tensor (batch, {channels}, samples), got {found}")
        if samples.dtype != torch.float32:
            raise ValueError(f"samples: expected torch.float32 in [-1, 1], got {samples.dtype}; convert them")
        if not bool(samples.isfinite().all()):
            raise ValueError("samples: expected finite numbers, got NaN or infinity; repair the signal")
        self._continue("samples", len(samples))
        return self._codes(samples.detach())

    def finish(self) -> Tensor:
        """End the signal, the last frame filled up with zeros, and return its codes (B, K, t), t = 0 or 1.

        Raises:
            ValueError: as `push`.
        """
        self._continue("samples", len(self._items) or 1)
        self._finished = True
        waiting = self._items[0].samples.shape[-1] % self.model.hop_length
        return self._codes(torch.zeros(len(self._items), self.model.channels, -waiting % self.model.hop_length))

    def _begun(self) -> _Signal:
        return _Signal(self.model.channels)

    def _codes(self, samples: Tensor) -> Tensor:
        with as_a_window(self.model):
            codes = torch.stack([self._of(signal, new.cpu()) for signal, new in zip(self._items, samples, strict=True)])
        if bool((codes < 0).any()):
            raise ValueError("samples: the model makes NaN or infinite latents of them; bring them to [-1, 1]")
        return codes.to(samples.device)

    def _of(self, signal: _Signal, samples: Tensor) -> Tensor:
        """Return the codes (K, t) that one item (C, n) completes."""
        hop, size = self.model.hop_length, BLOCK * self.model.hop_length
        count = len(self.model.quantizer.codebook_sizes[: self.num_codebooks])
        signal.samples = torch.cat([signal.samples, samples[None]], dim=-1)
        found = [torch.zeros(count, 0, dtype=torch.int64)]
        while (frames := min(signal.samples.shape[-1] // hop, BLOCK)) > signal.done:
            block = signal.samples[..., : frames * hop]
            block = F.pad(block, (0, size - block.shape[-1])).to(self._device)
            codes, state = block_codes(self.model, block, signal.state, self.num_codebooks)
            found.append(codes[0, :, signal.done : frames].cpu())
            signal.done = frames
            if frames == BLOCK:
                signal.samples, signal.done, signal.state = signal.samples[..., size:].clone(), 0, state
        return torch.cat(found, dim=-1)


class _Codes:
    """The state of one item."""

    def __init__(self) -> None:
        self.state: State = None


class Decoder(_Stream[_Codes]):
    """Decodes codes that come in parts of any number of frames.

    >>> decoder = Decoder(causal_model)
    >>> codes = torch.zeros(1, 8, 50, dtype=torch.int64)
    >>> audio = [decoder.push(part) for part in codes.split(3, dim=-1)] + [decoder.finish()]
    >>> torch.cat(audio, dim=-1).shape
    torch.Size([1, 1, 16000])

    Args:
        model: a causal one, in float32; its mode of training or evaluation is left as it is.

    Raises:
        UsageError: the model is not causal.
        ValueError: it has no codes.
    """

    def push(self, codes: Tensor) -> Tensor:
        """Return audio (B, C, t hop_length) float32 of codes (B, K, t), t from 0 on; all of it is complete.

        Raises:
            ValueError: for codes of another shape or vocabulary, another B than before, or after `finish`.
        """
        model = self.model
        model.quantizer.check_codes(codes)
        self._continue("codes", len(codes))
        with as_a_window(model):
            items = [self._of(item, new[None].to(self._device)) for item, new in zip(self._items, codes, strict=True)]
        return torch.cat(items).to(codes.device)

    def finish(self) -> Tensor:
        """End the codes and return what is left of the audio, (B, C, 0): a causal model holds nothing back.

        Raises:
            ValueError: after `finish`.
        """
        self._continue("codes", len(self._items) or 1)
        self._finished = True
        return torch.zeros(len(self._items), self.model.channels, 0)

    def _begun(self) -> _Codes:
        return _Codes()

    def _of(self, item: _Codes, codes: Tensor) -> Tensor:
        found = [torch.zeros(1, self.model.channels, 0, device=codes.device)]
        for frame in codes.split(1, dim=-1) if codes.shape[-1] else ():
            audio, item.state = self.model.reconstruct_step(self.model.quantizer.decode(frame), item.state)
            found.append(audio)
        return torch.cat(found, dim=-1)
