"""A common interface for codecs from outside this package, with resampling to and from their sample rates.

Axes: C channels, N samples.
"""

import math
from typing import NamedTuple, Protocol

import numpy as np

from discrete_ae.data.reading import Audio
from discrete_ae.evaluation.perceptual import resampled


class Passed(NamedTuple):
    """Audio that passed through a codec."""

    audio: Audio
    """(C, N), aligned with the input."""
    bits: float
    """Size of its codes."""
    encode_s: float
    """Seconds for encoding. For an external program, they include its start and its access to files."""
    decode_s: float


class Coder(Protocol):
    """A codec at one bitrate."""

    @property
    def name(self) -> str:
        """Name such as "opus 6 kbps", unique to this codec and bitrate."""

    @property
    def bitrate_bps(self) -> float:
        """Nominal bitrate of the channels coded together."""

    @property
    def sample_rate(self) -> int:
        """Sample rate of its input, in Hz."""

    @property
    def decoded_rate(self) -> int:
        """Sample rate of its output, in Hz."""

    @property
    def max_channels(self) -> int:
        """Largest number of channels that it codes together."""

    @property
    def keeps_waveform(self) -> bool:
        """See `Evaluation`."""

    @property
    def is_entropy_coded(self) -> bool:
        """True if `Passed.bits` is an entropy coder's output size; False if it follows from the number of codes."""

    @property
    def piece_s(self) -> float:
        """Approximate length of the pieces into which longer recordings are split, to bound memory."""

    @property
    def device(self) -> str:
        """Description of the device it runs on."""

    @property
    def parameters(self) -> int | None:
        """Number of trained parameters, None without training."""

    @property
    def model_hash(self) -> str | None:
        """Hash of its weights, None without weights."""

    def version(self) -> str:
        """Return the version of the program or package that runs it."""

    def code(self, audio: Audio) -> Passed:
        """Code and decode audio (C, N) at `sample_rate`; the result has about N * decoded_rate / sample_rate samples.

        Raises:
            DataError: the codec fails.
        """


def through(coder: Coder, audio: Audio, sample_rate: int, channels: int = 1) -> Passed:
    """Code and decode audio.

    Args:
        coder: a codec at one bitrate.
        audio: audio (C, N), N >= 1.
        sample_rate: sample rate of the audio, in Hz.
        channels: number of channels to code together; C must be a multiple of `channels`. A codec that takes fewer
            channels codes each channel separately.

    Returns:
        Decoded audio in the shape of `audio`.

    Raises:
        DataError: the codec fails.
    """
    together = channels if channels <= coder.max_channels else 1
    streams = [_stream(coder, audio[i : i + together], sample_rate) for i in range(0, len(audio), together)]
    found, *sums = zip(*streams, strict=True)
    return Passed(np.concatenate(found), *map(math.fsum, sums))


def _stream(coder: Coder, audio: Audio, sample_rate: int) -> Passed:
    length = -(-audio.shape[1] * coder.sample_rate // sample_rate)
    passed = coder.code(of_length(resampled(audio, sample_rate, coder.sample_rate), length))
    return passed._replace(audio=of_length(resampled(passed.audio, coder.decoded_rate, sample_rate), audio.shape[1]))


def of_length(audio: Audio, num_samples: int) -> Audio:
    """Cut audio (C, N) to `num_samples`, or pad it with silence."""
    missing = max(0, num_samples - audio.shape[1])
    return np.ascontiguousarray(np.pad(audio[:, :num_samples], ((0, 0), (0, missing))))
