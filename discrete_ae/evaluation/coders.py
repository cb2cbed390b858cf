"""A common interface for codecs from outside this package, with resampling to and from their sample rates.

Axes: C channels, N samples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

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


@dataclass(frozen=True, kw_only=True)
class Coder:
    """A codec at one bitrate."""

    name: str
    """Name such as "opus 6 kbps", unique to this codec and bitrate."""
    bitrate_bps: float
    """Nominal bitrate of the channels coded together."""
    sample_rate: int
    """Sample rate of its input, in Hz."""
    decoded_rate: int
    """Sample rate of its output, in Hz."""
    max_channels: int
    """Largest number of channels that it codes together."""
    keeps_waveform: bool = True
    """See `Evaluation`."""
    is_entropy_coded: bool = False
    """True if `Passed.bits` is an entropy coder's output size; False if it follows from the number of codes."""
    piece_s: float
    """Approximate length of the pieces into which longer recordings are split, to bound memory."""
    device: str
    """Description of the device it runs on."""
    parameters: int | None = None
    """Number of trained parameters, None without training."""
    model_hash: str | None = None
    """Hash of its weights, None without weights."""
    version: Callable[[], str]
    """Function that returns the version of the program or package that runs it."""
    code: Callable[[Audio], Passed]
    """Function that codes and decodes audio (C, N) at `sample_rate`, or raises a DataError.

    Its result has about N * decoded_rate / sample_rate samples.
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
