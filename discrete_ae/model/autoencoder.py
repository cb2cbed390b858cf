"""Encoder, quantizer, decoder. Axes: B batch, C audio channels, N samples, D latent channels, K codebooks, T frames."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_ae import checks
from discrete_ae.model.base import Decoder, Encoder, Span, State
from discrete_ae.model.frames import full_precision
from discrete_ae.model.layers import zero_biases
from discrete_ae.quantizers import Quantizer

PARTS = {"encoder": ("encoder", "to_latents"), "quantizer": ("quantizer",), "decoder": ("from_latents", "decoder")}
"""Names of the modules in each part; the maps to and from latents belong to the encoder and the decoder."""


def part_of(name: str) -> str:
    """Return the part that a module, parameter or buffer of a model belongs to, by its dotted name in the model."""
    top = name.partition(".")[0]
    return next((part for part, modules in PARTS.items() if top in modules), top)


class AutoencoderOutput(NamedTuple):
    """The result of one pass through the autoencoder."""

    reconstruction: Tensor
    """(B, C, N), the shape of the input."""
    codes: Tensor
    """(B, K, T) int64."""
    latents: Tensor
    """(B, D, T), the input of the quantizer."""
    losses: dict[str, Tensor]
    """The quantizer's auxiliary scalars by name."""


class DiscreteAutoencoder(nn.Module):
    """Audio to integer codes and back.

    Args:
        sample_rate: sample rate in Hz.
        encoder: network from audio to hidden frames.
        quantizer: quantizer of latents; 1x1 convolutions map hidden frames to its `dim` channels and back.
        decoder: network from hidden frames to audio, with the encoder's channels and strides.

    Raises:
        ValueError: for a sample rate out of range (see `checks.sample_rate`), or if channels or strides of encoder and
            decoder differ.
    """

    model_hash: str | None = None
    """SHA-256 of the trained model if it was loaded from a file."""
    codes_hash: str | None = None
    """SHA-256 of the parts that determine the codes (all but the decoder) if the model was loaded from a file. Files of
    codes store this hash. A model whose decoder was trained further has the same hash, so it can decode them."""
    entropy_model: Any = None
    """`EntropyModel` of the codes if the model was loaded from a file that has one, to compress files of codes."""

    def __init__(self, sample_rate: int, encoder: Encoder, quantizer: Quantizer, decoder: Decoder) -> None:
        super().__init__()
        if encoder.channels != decoder.channels:
            raise ValueError(
                f"channels: the encoder has {encoder.channels}, the decoder {decoder.channels}; make them equal"
            )
        if encoder.strides != decoder.strides:
            raise ValueError(
                f"strides: the encoder has {encoder.strides}, the decoder {decoder.strides}; give both in the "
                "encoder's order, the decoder reverses it"
            )
        self.sample_rate = checks.sample_rate("sample_rate", sample_rate)
        self.encoder = encoder
        self.to_latents = nn.Conv1d(encoder.dim, quantizer.dim, 1)
        self.quantizer = quantizer
        self.from_latents = nn.Conv1d(quantizer.dim, decoder.dim, 1)
        self.decoder = decoder
        zero_biases(self.to_latents, self.from_latents)

    @property
    def channels(self) -> int:
        """C, audio channels in and out."""
        return self.encoder.channels

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.encoder.hop_length

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def bitrate_bps(self) -> float:
        """Nominal rate in bits per second."""
        return self.quantizer.bits_per_frame * self.frame_rate_hz

    def input_span(self, outputs: Span) -> Span:
        """Return the smallest interval of input samples on which output samples depend, in an infinite signal."""
        return self.encoder.input_span(self.decoder.input_span(outputs))

    @property
    def receptive_field_samples(self) -> int:
        """Length in samples of the longest interval of input on which one output sample depends."""
        spans = [self.input_span(Span(n, n)) for n in range(self.hop_length)]
        return max(span.last - span.first + 1 for span in spans)

    @property
    def look_ahead_samples(self) -> int:
        """Largest number of later input samples on which an output sample depends.

        A whole frame is coded at once. A causal model thus looks hop_length - 1 samples ahead; any other model looks at
        least as far.
        """
        return max(self.input_span(Span(n, n)).last - n for n in range(self.hop_length))

    @property
    def is_causal(self) -> bool:
        """True if a frame depends only on its own and earlier samples, and a sample on its own and earlier frames."""
        hop = self.hop_length
        return self.encoder.input_span(Span(0, 0)).last < hop and self.decoder.input_span(Span(0, hop - 1)).last <= 0

    def forward(self, audio: Tensor) -> AutoencoderOutput:
        """Reconstruct audio (B, C, N), any N >= 1.

        Raises:
            ValueError: for audio of another shape or type.
        """
        latents = self.latents(audio)
        quantized = self.quantizer(latents)
        reconstruction = self.reconstruct(quantized.latents, audio.shape[-1])
        return AutoencoderOutput(reconstruction, quantized.codes, latents, quantized.losses)

    @torch.no_grad()
    def encode(self, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Return codes (B, K, T) int64 of audio (B, C, N), T = ceil(N / hop_length), on the model's device.

        The whole batch is computed at once, in the precision of autocast. The last bits of the latents, and in rare
        cases a code, therefore depend on the batch's shape and the number of threads. `discrete_ae.Codec` gives codes
        that depend on neither.

        >>> model = discrete_ae.load(checkpoint)
        >>> model.encode(torch.zeros(3, 1, 16000)).shape  # of two codebooks, and 50 frames per second
        torch.Size([3, 2, 50])

        Args:
            audio: (B, C, N), any N >= 1.
            num_codebooks: number of codebooks to use, counted from the first, one of `quantizer.decodable_counts`; None
                for all. Residual quantizers and quantizers trained with dropout have several counts.

        Raises:
            ValueError: for audio of another shape, latents that are NaN or infinite, a quantizer without codes, or a
                num_codebooks that the quantizer cannot decode.
        """
        self.quantizer.check_count(num_codebooks)
        latents = self.latents(self._moved(audio))
        if not bool(latents.isfinite().all()):
            raise ValueError("audio: the model makes NaN or infinite latents from it; scale its samples to [-1, 1]")
        return self.quantizer.encode(latents, num_codebooks)

    @torch.no_grad()
    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Return audio (B, C, N) of codes (B, K, T), N = num_samples, or T * hop_length if num_samples is None.

        Like `encode`, this computes the whole batch at once.

        Raises:
            ValueError: for codes of another shape or out of range, or a num_samples that needs more frames.
        """
        latents = self.quantizer.decode(self._moved(codes))
        return self.reconstruct(latents, self.check_num_samples(codes, num_samples))

    def _moved(self, given: Tensor) -> Tensor:
        """Return a tensor on the model's device; anything else is returned as it is, for a check to reject."""
        return given.to(self.to_latents.weight.device) if isinstance(given, Tensor) else given

    def check_num_samples(self, codes: Tensor, num_samples: int | None) -> int:
        """Return the number of samples to decode from codes (B, K, T): num_samples, or all if it is None.

        Raises:
            ValueError: for a num_samples that needs more frames.
        """
        available = codes.shape[-1] * self.hop_length
        if num_samples is not None and not 0 < num_samples <= available:
            raise ValueError(
                f"num_samples: expected 1 to {available} for {codes.shape[-1]} frames of {self.hop_length}, "
                f"got {num_samples}"
            )
        return num_samples or available

    def latents(self, audio: Tensor) -> Tensor:
        """Return latents (B, D, T) of audio (B, C, N), the input of the quantizer.

        Raises:
            ValueError: for audio of another shape.
        """
        self.check_audio(audio)
        missing = -audio.shape[-1] % self.hop_length
        return self._projected(self.encoder(F.pad(audio, (0, missing))))

    def latents_step(self, audio: Tensor, state: State) -> tuple[Tensor, State]:
        """Return latents (B, D, T) of the next audio (B, C, T hop_length), and the next state; see `base`."""
        hidden, state = self.encoder.step(audio, state)
        return self._projected(hidden), state

    def _projected(self, hidden: Tensor) -> Tensor:
        """Return the latents (B, D, T) of hidden frames, without autocast, which would round the quantizer's input."""
        with full_precision(hidden):
            return self.to_latents(hidden.to(self.to_latents.weight.dtype))

    def reconstruct_step(self, latents: Tensor, state: State) -> tuple[Tensor, State]:
        """Return audio (B, C, T hop_length) of the next quantized latents (B, D, T), and the next state; see `base`."""
        return self.decoder.step(self.from_latents(latents), state)

    def reconstruct(self, latents: Tensor, num_samples: int) -> Tensor:
        """Return audio (B, C, num_samples) of quantized latents (B, D, T)."""
        return self.decoder(self.from_latents(latents))[..., :num_samples]

    def check_audio(self, audio: Tensor) -> None:
        """Raise a ValueError unless audio is (B, C, N), N >= 1, in the weights' dtype (any float dtype in autocast)."""
        if not isinstance(audio, Tensor):
            raise ValueError(
                f"audio: expected a tensor (batch, {self.channels}, samples), got {type(audio).__name__}; "
                "torch.from_numpy makes one"
            )
        if audio.ndim != 3 or audio.shape[1] != self.channels or audio.shape[2] < 1:
            raise ValueError(
                f"audio: expected shape (batch, {self.channels}, samples) with at least 1 sample, "
                f"got {tuple(audio.shape)}"
            )
        wanted = self.to_latents.weight.dtype
        if audio.dtype != wanted and not (audio.is_floating_point() and torch.is_autocast_enabled(audio.device.type)):
            raise ValueError(f"audio: expected {wanted} in [-1, 1], got {audio.dtype}; convert it with .to({wanted})")
