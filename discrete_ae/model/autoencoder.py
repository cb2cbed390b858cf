"""Encoder, quantizer, decoder. Axes: B batch, C audio channels, N samples, D latent channels, K codebooks, T frames."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_ae import checks
from discrete_ae.model.base import Decoder, Encoder
from discrete_ae.model.runner import Runner
from discrete_ae.model.span import Span
from discrete_ae.model.windows import Cutter, Window
from discrete_ae.quantizers import Quantizer

if TYPE_CHECKING:
    from discrete_ae.codes.entropy import EntropyModel


class AutoencoderOutput(NamedTuple):
    """What one pass through the autoencoder gives."""

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
    entropy_model: "EntropyModel | None" = None
    """Of its codes, where it was loaded from a file that has one; code files are coded with it."""

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

    @property
    def encoder_window(self) -> Window:
        """The windows in which audio is encoded."""
        hop = self.hop_length
        span = self.encoder.input_span(Span(0, 0))
        return Window.reaching(math.ceil(-span.first / hop), math.ceil((span.last + 1) / hop) - 1, self.frame_rate_hz)

    @property
    def decoder_window(self) -> Window:
        """The windows in which codes are decoded."""
        span = self.decoder.input_span(Span(0, self.hop_length - 1))
        return Window.reaching(-span.first, span.last, self.frame_rate_hz)

    def encode(self, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Codes (B, K, T) int64 of audio (B, C, N), T = ceil(N / hop_length), without gradient, in evaluation mode.

        Long audio is encoded in windows (see `model.windows`), in float32 whatever autocast says. On a CPU the codes of
        an item are the same bits in every batch and with any number of threads.

        Args:
            audio: (B, C, N), any N >= 1.
            num_codebooks: how many of the codebooks to use, where the quantizer is residual; None is all of them.

        Raises:
            ValueError: for audio of another shape, or of which the model makes what is no number, a quantizer without
                codes, or a num_codebooks that it cannot decode.
        """
        self._check_audio(audio)
        self.quantizer.check_count(num_codebooks)
        codes = self._in_windows(
            audio, self.encoder_window, self.hop_length, 1, lambda windows: self.window_codes(windows, num_codebooks)
        )
        if bool((codes < 0).any()):
            raise ValueError("audio: the model makes NaN or infinite latents of it; bring its samples to [-1, 1]")
        return codes

    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Audio (B, C, N) of codes (B, K, T), without gradient; N = num_samples, or T * hop_length if None.

        Long codes are decoded in windows, as `encode` does.

        Raises:
            ValueError: for codes of another shape or out of range, or a num_samples that needs more frames.
        """
        self.quantizer.check_codes(codes)
        available = codes.shape[-1] * self.hop_length
        if num_samples is not None and not 0 < num_samples <= available:
            raise ValueError(
                f"num_samples: expected 1 to {available} for {codes.shape[-1]} frames of {self.hop_length}, "
                f"got {num_samples}"
            )
        audio = self._in_windows(codes, self.decoder_window, 1, self.hop_length, self.window_audio)
        return audio[..., : num_samples or available]

    def window_codes(self, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Codes (B, K, T) of one window of audio (B, C, T hop_length), all at once.

        They are -1 in a frame whose latents are not finite: no code stands for it.
        """
        with torch.autocast(audio.device.type, enabled=False):
            latents = self.latents(audio)
            codes = self.quantizer.encode(latents, num_codebooks)
            return codes.masked_fill(~latents.isfinite().all(dim=1, keepdim=True), -1)

    def window_audio(self, codes: Tensor) -> Tensor:
        """Audio (B, C, T hop_length) of one window of codes (B, K, T), all at once."""
        with torch.autocast(codes.device.type, enabled=False):
            return self.reconstruct(self.quantizer.decode(codes), codes.shape[-1] * self.hop_length)

    def latents(self, audio: Tensor) -> Tensor:
        """Latents (B, D, T) of audio (B, C, N), as the quantizer is given them."""
        self._check_audio(audio)
        missing = -audio.shape[-1] % self.hop_length
        return self.to_latents(self.encoder(F.pad(audio, (0, missing))))

    def reconstruct(self, latents: Tensor, num_samples: int) -> Tensor:
        """Audio (B, C, num_samples) of quantized latents (B, D, T)."""
        return self.decoder(self.from_latents(latents))[..., :num_samples]

    def _in_windows(
        self, signals: Tensor, window: Window, unit: int, unit_out: int, function: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Apply a function to windows of signals (B, ..., n), and put the frames that count together."""
        device = signals.device

        def pieces() -> Iterator[tuple[tuple[int, int, int], Tensor]]:
            for item, signal in enumerate(signals.detach().cpu()):
                cutter = Cutter(window, unit)
                for piece in (*cutter.push(signal), *cutter.finish()):
                    yield (item, piece.first, piece.stop), piece.signal

        results: list[list[Tensor]] = [[] for _ in signals]
        for (item, first, stop), result in Runner().map(self, function, pieces()):
            if result is not None:
                results[item].append(result[..., first * unit_out : stop * unit_out].to(device))
        return torch.stack([torch.cat(parts, dim=-1) for parts in results])

    def _check_audio(self, audio: Tensor) -> None:
        """ValueError unless audio is (B, C, N) with at least 1 sample."""
        if audio.ndim != 3 or audio.shape[1] != self.channels or audio.shape[2] < 1:
            raise ValueError(
                f"audio: expected shape (batch, {self.channels}, samples) with at least 1 sample, "
                f"got {tuple(audio.shape)}"
            )
