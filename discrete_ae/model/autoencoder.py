"""Encoder, quantizer, decoder. Axes: B batch, C audio channels, N samples, D latent channels, K codebooks, T frames."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_ae import checks
from discrete_ae.model.base import Decoder, Encoder
from discrete_ae.model.span import Span
from discrete_ae.quantizers import Quantizer


class AutoencoderOutput(NamedTuple):
    """The result of one pass through the autoencoder."""

    reconstruction: Tensor
    """(B, C, N), the shape of the input."""
    codes: Tensor
    """(B, K, T) int64."""
    latents: Tensor
    """(B, D, T), what the quantizer was given."""
    losses: dict[str, Tensor]
    """The quantizer's auxiliary scalars by name."""


class DiscreteAutoencoder(nn.Module):
    """Audio to integer codes and back.

    Args:
        sample_rate: in Hz.
        encoder: audio to hidden frames.
        quantizer: latents to codes; the 1x1 convolutions to and from its `dim` channels are the autoencoder's.
        decoder: hidden frames to audio, with the encoder's channels and strides.

    Raises:
        ValueError: for a sample rate out of range (see `checks.sample_rate`), or if encoder and decoder do not fit one
            another.
    """

    model_hash: str | None = None
    """SHA-256 that names the trained model, where it was loaded from a file; code files carry it."""
    entropy_model: Any = None
    """The `EntropyModel` of its codes, where it was loaded from a file that has one; code files are coded with it."""

    def __init__(self, sample_rate: int, encoder: Encoder, quantizer: Quantizer, decoder: Decoder) -> None:
        super().__init__()
        if encoder.channels != decoder.channels:
            raise ValueError(
                f"channels: the encoder has {encoder.channels}, the decoder {decoder.channels}; make them equal"
            )
        if encoder.strides != decoder.strides:
            raise ValueError(
                f"strides: the encoder has {encoder.strides}, the decoder {decoder.strides}; give both the encoder's "
                "order, the decoder undoes them from the last to the first"
            )
        self.sample_rate = checks.sample_rate("sample_rate", sample_rate)
        self.encoder = encoder
        self.to_latents = nn.Conv1d(encoder.dim, quantizer.dim, 1)
        self.quantizer = quantizer
        self.from_latents = nn.Conv1d(quantizer.dim, decoder.dim, 1)
        self.decoder = decoder

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
        """The smallest interval of input samples that holds all that the outputs depend on, away from the ends."""
        return self.encoder.input_span(self.decoder.input_span(outputs))

    @property
    def receptive_field_samples(self) -> int:
        """The most input samples, first to last, on which one output sample depends."""
        spans = [self.input_span(Span(n, n)) for n in range(self.hop_length)]
        return max(span.last - span.first + 1 for span in spans)

    @property
    def look_ahead_samples(self) -> int:
        """How far an output sample may look into the future: the most samples after its own on which one depends.

        A whole frame is coded at once, so this is at least hop_length - 1, and exactly that of a causal model.
        """
        return max(self.input_span(Span(n, n)).last - n for n in range(self.hop_length))

    def forward(self, audio: Tensor) -> AutoencoderOutput:
        """Reconstruct audio (B, C, N), any N >= 1.

        Raises:
            ValueError: for audio of another shape.
        """
        latents = self.latents(audio)
        quantized = self.quantizer(latents)
        reconstruction = self.reconstruct(quantized.latents, audio.shape[-1])
        return AutoencoderOutput(reconstruction, quantized.codes, latents, quantized.losses)

    @torch.no_grad()
    def encode(self, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Return codes (B, K, T) int64 of audio (B, C, N), T = ceil(N / hop_length), on the model's device.

        The whole batch is computed at once, in the precision of autocast. The last bits of the latents then depend on
        its shape and on the number of threads, and now and then a code does. `discrete_ae.Codec` gives codes that
        never change.

        Args:
            audio: (B, C, N), any N >= 1.
            num_codebooks: how many of the codebooks to use, where the quantizer is residual; None is all of them.

        Raises:
            ValueError: for audio of another shape, or of which the model makes NaN or infinite latents, a quantizer
                without codes, or a num_codebooks that it cannot decode.
        """
        self.quantizer.check_count(num_codebooks)
        latents = self.latents(audio.to(self.to_latents.weight.device))
        if not bool(latents.isfinite().all()):
            raise ValueError("audio: the model makes NaN or infinite latents of it; bring its samples to [-1, 1]")
        return self.quantizer.encode(latents, num_codebooks)

    @torch.no_grad()
    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Return audio (B, C, N) of codes (B, K, T), N = num_samples, or T * hop_length if None; see `encode`.

        Raises:
            ValueError: for codes of another shape or out of range, or a num_samples that needs more frames.
        """
        num_samples = self.check_num_samples(codes, num_samples)
        return self.reconstruct(self.quantizer.decode(codes.to(self.to_latents.weight.device)), num_samples)

    def check_num_samples(self, codes: Tensor, num_samples: int | None) -> int:
        """Return how many samples to make of codes (B, K, T); None is all.

        Raises:
            ValueError: there are not so many.
        """
        available = codes.shape[-1] * self.hop_length
        if num_samples is not None and not 0 < num_samples <= available:
            raise ValueError(
                f"num_samples: expected 1 to {available} for {codes.shape[-1]} frames of {self.hop_length}, "
                f"got {num_samples}"
            )
        return num_samples or available

    def latents(self, audio: Tensor) -> Tensor:
        """Return latents (B, D, T) of audio (B, C, N), as the quantizer is given them.

        Raises:
            ValueError: for audio of another shape.
        """
        self.check_audio(audio)
        missing = -audio.shape[-1] % self.hop_length
        return self.to_latents(self.encoder(F.pad(audio, (0, missing))))

    def reconstruct(self, latents: Tensor, num_samples: int) -> Tensor:
        """Return audio (B, C, num_samples) of quantized latents (B, D, T)."""
        return self.decoder(self.from_latents(latents))[..., :num_samples]

    def check_audio(self, audio: Tensor) -> None:
        """ValueError unless audio is (B, C, N) with at least 1 sample."""
        if audio.ndim != 3 or audio.shape[1] != self.channels or audio.shape[2] < 1:
            raise ValueError(
                f"audio: expected shape (batch, {self.channels}, samples) with at least 1 sample, "
                f"got {tuple(audio.shape)}"
            )
