"""Random changes to training crops: to what is heard, by speed, equalization and mixing, and to the level alone.

Audio is (C, N), full scale at -1 and 1. Only resampling to a new speed may let a peak exceed 1, as all resampling may.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discrete_ae.data.level import amplify
from discrete_ae.data.loudness import fft_size

NUM_BANDS = 8
MIX_DB = (-10.0, 0.0)
"""The second crop of a mixture is lowered by a gain between these, uniform in dB."""

# So many samples from an impulse, the equalizer's answer is 60 dB below its peak, even where its bands differ by 60 dB.
_ANSWER_SAMPLES = 1024


class Changes(NamedTuple):
    """What was drawn for one crop; a None is a change that is not made."""

    speed: float
    """In hundredths; 1 is the recording's own."""
    mix_db: float | None
    """Gain of the crop that is added."""
    band_gains_db: npt.NDArray[np.float64] | None
    """The equalizer's, (`NUM_BANDS`,)."""
    gain_db: float | None
    flip: bool

    def change_level(self, audio: Tensor) -> Tensor:
        """Amplify by the gain, lowered where the peak would exceed 1, and flip the polarity."""
        if self.gain_db is not None:
            audio = amplify(audio, self.gain_db)
        return -audio if self.flip else audio


@dataclass(frozen=True)
class Augmentation:
    """Which changes there are, and how large they may be.

    All numbers are drawn whether they are used or not: switching one change on leaves the others' draws as they were.
    """

    gain_db: tuple[float, float] | None = None
    """The gain is uniform in dB between these; None for no gain."""
    flip_polarity: bool = False
    """Whether the audio is multiplied by -1 with probability 1/2."""
    speed: tuple[float, float] | None = None
    """The logarithm of the speed is uniform between those of these; None for no change."""
    equalizer_db: float | None = None
    """The gain of every band is uniform between minus and plus this, as `equalize`; None for no equalizer."""
    mix: float = 0.0
    """Probability that another crop is added, as `mixture`, by a gain in `MIX_DB`."""

    def draw(self, random: np.random.Generator) -> Changes:
        """Draw the changes of one crop."""
        gain, coin, speed, mixed, level, *bands = random.random(5 + NUM_BANDS)
        return Changes(
            round(self.speed[0] * (self.speed[1] / self.speed[0]) ** speed, 2) if self.speed else 1.0,
            _between(MIX_DB, level) if mixed < self.mix else None,
            None if self.equalizer_db is None else self.equalizer_db * (2 * np.array(bands) - 1),
            _between(self.gain_db, gain) if self.gain_db is not None else None,
            self.flip_polarity and bool(coin < 0.5),
        )


def mixture(audio: Tensor, other: Tensor, other_db: float) -> Tensor:
    """Add another crop, amplified by `other_db`; both are lowered alike where the peak would exceed 1."""
    return amplify(audio + 10 ** (other_db / 20) * other, 0.0)


def equalize(audio: Tensor, band_gains_db: npt.NDArray[np.float64]) -> Tensor:
    """Filter by a smooth magnitude and no phase; the audio is lowered where the peak would exceed 1.

    The gains hold at frequencies an octave apart, the last at half the sample rate. Between two of them the gain in dB
    goes from one to the other by half a period of a cosine of the octave, so that it is never outside of the two; below
    the first it stays.
    """
    num_samples = audio.shape[1]
    size, bands = _bands(num_samples)
    magnitude = 10 ** (band_gains_db.astype(np.float32) / 20 @ bands)
    filtered = np.fft.irfft(np.fft.rfft(audio.numpy(), size) * magnitude, size)[:, :num_samples]
    return amplify(torch.from_numpy(filtered.astype(np.float32, copy=False)), 0.0)


def _between(ends: tuple[float, float], place: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * place


@functools.lru_cache(maxsize=4)
def _bands(num_samples: int) -> tuple[int, npt.NDArray[np.float32]]:
    """The size of an FFT in which the answer's end does not come round, and each band's share (bands, bins)."""
    size = fft_size(num_samples + _ANSWER_SAMPLES)
    octaves = np.log2(np.maximum(2 * np.fft.rfftfreq(size), 2.0 ** (1 - NUM_BANDS)))
    distances = np.minimum(np.abs(octaves - np.arange(1 - NUM_BANDS, 1)[:, None]), 1)
    return size, ((1 + np.cos(np.pi * distances)) / 2).astype(np.float32)
