"""Audio tokenizers of the package transformers (EnCodec, DAC, Mimi, X-Codec 2, …) as codecs to evaluate.

A tokenizer works here if its `encode` returns the `audio_codes` that its `decode` takes. Its bitrates follow from the
parameters of `encode`. With a parameter `bandwidth`, they are the `target_bandwidths` of the configuration. With
`n_quantizers` or `num_quantizers`, there is a bitrate for each number of first codebooks.

Axes: C channels, N samples, K codebooks, T frames.
"""

import inspect
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from discrete_ae.data.reading import Audio
from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.coded import timing_device
from discrete_ae.evaluation.coders import Coder, Passed, of_length
from discrete_ae.quantizers.base import counts_in_words

_NUMBERS = ("n_quantizers", "num_quantizers")
_OF_CODES = ("audio_codes", "audio_scales", "last_frame_pad_length", "audio_codes_mask")
"""Outputs of `encode` that are transmitted; outputs such as latents are not."""
_SCALE_BITS = 32  # as in EnCodec's own files, which store the level of a chunk as a float
_TRIAL_S = 2.0
_PIECE_S = 30.0


class Codes(NamedTuple):
    """A tokenizer's codes for a piece of audio."""

    for_decoder: dict[str, Any]
    shape: tuple[int, int]
    """K and T, of one chunk if the tokenizer works in chunks."""
    num_codes: int
    """Number of codes in all codebooks, frames and chunks."""
    scales: int
    """Number of level values transmitted beside the codes."""


class Tokenizer:
    """A tokenizer with its weights.

    Args:
        given: name of the tokenizer as the user gave it.
        label: its name in tables.
        model: the transformers model.
        extractor: feature extractor that maps audio to the model's inputs.
        model_hash: hash of the model's weights.
        device: device to run it on.

    Raises:
        DataError: the model is not an audio tokenizer, or its configuration does not define its bitrate.
    """

    def __init__(self, given: str, label: str, model: Any, extractor: Any, model_hash: str, device: str) -> None:
        self.given, self.label = given, label
        self.config, self.extractor = model.config, extractor
        if not hasattr(model, "encode") or not hasattr(model, "decode"):
            kind = self.config.model_type
            raise DataError(f"{given}: is a model of type {kind}, which does not code audio; give an audio tokenizer")
        self.model_hash = model_hash
        self.model = model.eval().to(device)
        self.sample_rate: int = extractor.sampling_rate
        self.decoded_rate: int = getattr(self.config, "output_sampling_rate", self.sample_rate)
        self.channels: int = getattr(self.config, "audio_channels", 1)
        self.modes = self._modes()

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of codebooks that it can code with, increasing."""
        return tuple(self.modes)

    @property
    def rates(self) -> tuple[int, ...]:
        """Entries of `counts` to compare by default: one per bandwidth, else the powers of two and the largest."""
        if "bandwidth" in self._parameters:
            return self.counts
        return tuple(count for count in self.counts if count & (count - 1) == 0 or count == self.counts[-1])

    @property
    def decodes_from(self) -> str:
        """Description of `counts`."""
        return counts_in_words(self.counts)

    @cached_property
    def hop_length(self) -> float:
        """Samples per frame, from its configuration."""
        for name in ("encoder_hop_length", "hop_length"):
            if hop := getattr(self.config, name, None):
                return float(hop)
        if rate := getattr(self.config, "frame_rate", None):
            return self.sample_rate / rate
        raise DataError(f"{self.given}: its config.json has neither hop_length nor frame_rate; its bitrate is unknown")

    @cached_property
    def code_bits(self) -> float:
        """Bits per code: log2 of the codebook size."""
        if size := getattr(self.config, "codebook_size", None):
            return math.log2(size)
        if levels := getattr(self.config, "quantization_levels", None):
            return math.fsum(map(math.log2, levels))
        raise DataError(
            f"{self.given}: its config.json has neither codebook_size nor quantization_levels; its bitrate is unknown"
        )

    @property
    def _parameters(self) -> Mapping[str, object]:
        return inspect.signature(self.model.encode).parameters

    def _modes(self) -> dict[int, dict[str, float]]:
        """Return the arguments of `encode` by number of codebooks."""
        if "bandwidth" in self._parameters:
            asked: Sequence[dict[str, float]] = [{"bandwidth": kbps} for kbps in self.config.target_bandwidths]
            return dict(sorted(((self._num_codebooks(one), one) for one in asked), key=lambda mode: mode[0]))
        whole = self._num_codebooks({})
        if names := [name for name in _NUMBERS if name in self._parameters]:
            least = getattr(self.config, "num_semantic_quantizers", 1)
            return {count: {names[0]: count} for count in range(least, whole + 1)}
        return {whole: {}}

    def _num_codebooks(self, mode: Mapping[str, float]) -> int:
        """Count the codebooks of a mode by encoding silence.

        Raises:
            DataError: encoding gives another number of frames than the configuration.
        """
        length = round(_TRIAL_S * self.sample_rate)
        codes, given = self.encode(np.zeros((self.channels, length), np.float32), mode)
        num_codebooks, frames = codes.shape
        said = given / self.hop_length
        if abs(frames - said) > 1:
            raise DataError(
                f"{self.given}: expected {said:g} frames for {given} samples, one per {self.hop_length:g} by its "
                f"config.json, got {frames}; its bitrate is unknown: use a tokenizer with a constant frame rate"
            )
        return num_codebooks

    def encode(self, audio: Audio, mode: Mapping[str, float]) -> tuple[Codes, int]:
        """Return the codes of audio (C, N) at `sample_rate`, and the number of samples per chunk, or of all samples.

        Raises:
            DataError: the tokenizer cannot encode the audio to codes.
        """
        signal = np.resize(audio, (self.channels, audio.shape[1]))
        chunk, options = getattr(self.config, "chunk_length", None), {}
        if chunk is not None:
            # By default transformers pads the last chunk, unlike EnCodec's own code. Without padding,
            # transformers fails if the second-to-last chunk is incomplete too.
            rest, overlap = signal.shape[1] % self.config.chunk_stride, chunk - self.config.chunk_stride
            signal = of_length(signal, signal.shape[1] + (overlap - rest if 0 < rest < overlap else 0))
            options = {"padding": False}
        if self.channels == 1:
            signal = signal[0]
        with self._coding("code", audio):
            inputs = self.extractor(signal, sampling_rate=self.sample_rate, return_tensors="pt", **options)
            taken = {name: value for name, value in inputs.items() if name in self._parameters}
            moved = {name: value.to(self.model.device) for name, value in taken.items() if isinstance(value, Tensor)}
            found = self.model.encode(**moved, **mode)
        codes = found.get("audio_codes")
        if codes is None:
            raise DataError(f"{self.given}: returns no audio_codes; give a tokenizer that quantizes")
        *_, num_codebooks, frames = codes.shape
        num_codes = codes.numel() - (found.get("last_frame_pad_length") or 0) * num_codebooks
        scales = sum(scale.numel() for scale in found.get("audio_scales") or () if scale is not None)
        for_decoder = {name: found[name] for name in _OF_CODES if name in found}
        samples = inputs["input_values"].shape[-1]
        return Codes(for_decoder, (num_codebooks, frames), num_codes, scales), min(samples, chunk or samples)

    def decode(self, codes: Codes, audio: Audio) -> Audio:
        """Decode the codes of `audio` (C, N) to audio with C channels.

        Raises:
            DataError: the tokenizer cannot decode the codes.
        """
        taken = inspect.signature(self.model.decode).parameters
        with self._coding("decode", audio):
            given = {name: value for name, value in codes.for_decoder.items() if name in taken}
            decoded = self.model.decode(**given).audio_values.float().cpu().numpy()
        found: Audio = decoded.reshape(self.channels, -1)
        return found if len(audio) == self.channels else found.mean(axis=0, keepdims=True)

    @contextmanager
    def _coding(self, what: str, audio: Audio) -> Iterator[None]:
        advice = "leave this recording out, or use another tokenizer"
        with in_one_line(self.given, f"cannot {what} {audio.shape[1]} samples", advice), torch.inference_mode():
            yield

    def at(self, num_codebooks: int | None = None) -> Coder:
        """Return the tokenizer at the bitrate of its first `num_codebooks` codebooks, None for all.

        Raises:
            UsageError: the tokenizer cannot code with this number of codebooks.
        """
        count = self.counts[-1] if num_codebooks is None else num_codebooks
        if count not in self.modes:
            raise UsageError(f"--codebooks: {self.label} codes with {self.decodes_from}, got {count}")
        bitrate_bps = count * self.code_bits * self.sample_rate / self.hop_length
        return Coder(
            name=f"{self.label} {bitrate_bps / 1000:.4g} kbps",
            bitrate_bps=bitrate_bps,
            sample_rate=self.sample_rate,
            decoded_rate=self.decoded_rate,
            max_channels=self.channels,
            piece_s=_PIECE_S,
            device=timing_device(self.model),
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            model_hash=self.model_hash,
            version=lambda: f"transformers {version('transformers')}",
            code=partial(self._passed, self.modes[count]),
        )

    def _passed(self, mode: Mapping[str, float], audio: Audio) -> Passed:
        start = time.perf_counter()
        codes, _ = self.encode(audio, mode)
        if (device := self.model.device).type != "cpu":
            torch.accelerator.synchronize(device)  # else the decoder's time would include the encoder's
        between = time.perf_counter()
        found = self.decode(codes, audio)
        end = time.perf_counter()
        length = -(-audio.shape[1] * self.decoded_rate // self.sample_rate)
        bits = codes.num_codes * self.code_bits + codes.scales * _SCALE_BITS
        return Passed(of_length(found, length), bits, between - start, end - between)


@contextmanager
def in_one_line(given: str, what: str, advice: str) -> Iterator[None]:
    """Turn any exception of transformers or a model into a one-line DataError.

    Args:
        given: name of the tokenizer as the user gave it.
        what: what failed.
        advice: what the user can do.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        reason = f"{reason[:160]}…" if len(reason) > 160 else reason or type(error).__name__
        raise DataError(f"{given}: {what} ({reason}); {advice}") from error
