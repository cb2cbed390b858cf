"""Codecs that are not of this package, under one interface: audio in, and back; resampled on the way.

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
    """(C, N), aligned with what went in."""
    bits: float
    """Of its codes."""
    encode_s: float
    """How long it took, of a program with its start and its files."""
    decode_s: float


class Coder(Protocol):
    """A codec at one bitrate."""

    @property
    def name(self) -> str:
        """Such as "opus 6 kbps", no other codec's at no other rate."""

    @property
    def bitrate_bps(self) -> float:
        """The nominal bitrate of what is coded together."""

    @property
    def sample_rate(self) -> int:
        """Of what it codes, in Hz."""

    @property
    def decoded_rate(self) -> int:
        """Of what it gives back, in Hz."""

    @property
    def max_channels(self) -> int:
        """As many can be coded together."""

    @property
    def keeps_waveform(self) -> bool:
        """As of `Evaluation`."""

    @property
    def is_entropy_coded(self) -> bool:
        """True if `Passed.bits` are those of an entropy coder; False if they follow from the number of codes alone."""

    @property
    def piece_s(self) -> float:
        """Longer recordings go through it in pieces of about this length, so that memory is bounded."""

    @property
    def device(self) -> str:
        """Where it runs, in words."""

    @property
    def parameters(self) -> int | None:
        """Numbers that training optimized, None if there was none."""

    @property
    def model_hash(self) -> str | None:
        """Of its weights, None without."""

    def version(self) -> str:
        """Return the version of what computes it."""

    def code(self, audio: Audio) -> Passed:
        """Return what becomes of audio (C, N) at `sample_rate`: (C, about N times `decoded_rate` / `sample_rate`).

        Raises:
            DataError: it fails.
        """


def through(coder: Coder, audio: Audio, sample_rate: int, channels: int = 1) -> Passed:
    """Pass audio through a codec and back.

    Args:
        coder: at one bitrate.
        audio: (C, N), N >= 1.
        sample_rate: in Hz.
        channels: as many are coded together, as a model of so many does; C is a multiple of it. A codec of one channel
            codes every channel alone whatever is said.

    Returns:
        The audio in the shape that it had.

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
    """Cut audio off, or fill it up with silence."""
    missing = max(0, num_samples - audio.shape[1])
    return np.ascontiguousarray(np.pad(audio[:, :num_samples], ((0, 0), (0, missing))))
