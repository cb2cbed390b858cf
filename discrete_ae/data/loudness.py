"""The loudness of audio of any length, in bounded memory: ITU-R BS.1770-4, https://www.itu.int/rec/R-REC-BS.1770

K-weighted audio is cut into blocks of 400 ms that begin every 100 ms; of every 100 ms the energy is kept, one number,
and when all have been heard, the gates choose the blocks whose mean is the loudness. Filters, weights and gates are
those of `torchaudio.functional.loudness`; the deviations:

- the absolute gate of -70 LUFS holds for the audio at a peak of -20 dB, so that quiet audio has a loudness too;
- audio shorter than a block counts as if silence followed;
- the filters compute in float64 and do not clip at full scale, which lowers loud audio by up to 4 dB in torchaudio.

Legend: C channels, n samples of a piece.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy
from torch import Tensor

from discrete_ae.data.resampling import Audio

BLOCK_SECONDS = 0.4
"""Loudness is that of blocks of this length."""

MAX_CHANNELS = 5
"""The standard gives weights to so many."""

MAX_GAIN_DB = 30.0
"""No audio is raised by more: what is nearly silence stays nearly silent."""

MIN_SAMPLE_RATE = 4000
"""In Hz. The filter for the treble has its corner at 1500 Hz; below twice of that it would be unstable."""

_MEASURED_PEAK = 0.1  # for which the absolute gate holds as it stands
_BIAS_LU = -0.691
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE = 0.1  # of the mean energy: -10 LU
_CHANNEL_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.41, 1.41])


class Level(NamedTuple):
    """How loud audio is."""

    loudness_lufs: float
    """-inf for silence."""
    peak: float
    """The greatest magnitude of a sample, full scale at 1."""


def measure_stream(blocks: Iterable[Audio], sample_rate: int) -> Level:
    """Measure audio that comes in blocks; however it is cut, the result is the same to the last bit.

    Args:
        blocks: (C, n) of any lengths, 1 to `MAX_CHANNELS` channels.
        sample_rate: in Hz, at least `MIN_SAMPLE_RATE`.

    Raises:
        ValueError: more channels, or a lower sample rate.
    """
    if sample_rate < MIN_SAMPLE_RATE:
        raise ValueError(f"sample_rate: expected at least {MIN_SAMPLE_RATE} Hz to measure loudness, got {sample_rate}")
    quarter = round(BLOCK_SECONDS / 4 * sample_rate)
    filters = _k_weighting(sample_rate)
    peak, state, powers = 0.0, np.zeros(0), np.zeros(0)
    energies: list[float] = []  # of quarters of blocks
    for piece in (block for block in blocks if block.size):
        if len(piece) > MAX_CHANNELS:
            raise ValueError(f"blocks: expected at most {MAX_CHANNELS} channels to measure loudness, got {len(piece)}")
        peak = max(peak, float(piece.max()), -float(piece.min()))
        heard, state = scipy.signal.sosfilt(filters, piece, zi=state if state.size else np.zeros((2, len(piece), 2)))
        powers = np.append(powers, (_CHANNEL_WEIGHTS[: len(piece), None] * heard**2).sum(0))
        whole = len(powers) - len(powers) % quarter
        energies += powers[:whole].reshape(-1, quarter).mean(1).tolist()
        powers = powers[whole:]
    if len(energies) < 4:
        energies = [*energies, powers.sum() / quarter, 0.0, 0.0, 0.0][:4]
    return Level(_gated_loudness(np.convolve(energies, np.full(4, 0.25), "valid"), peak), peak)


def amplify(audio: Tensor, gain_db: float, peak: float | None = None) -> Tensor:
    """Multiply by a gain; by a lower one where the peak would exceed 1. `peak` is that of the audio, if it is known."""
    if peak is None:
        peak = audio.abs().max().item()
    # Division by the peak itself gives exactly 1, multiplication by its inverse may give more.
    return audio / max(peak, 10 ** (-gain_db / 20))


def gain_for(level: Level, loudness_lufs: float) -> float:
    """Return the gain in dB to a loudness: at most `MAX_GAIN_DB`, only as far as the peak allows, and 0 for silence."""
    if level.loudness_lufs == -math.inf:
        return 0.0
    return min(loudness_lufs - level.loudness_lufs, MAX_GAIN_DB, -20 * math.log10(level.peak))


def bring_to_loudness(audio: Tensor, sample_rate: int, loudness_lufs: float | None) -> Tensor:
    """Amplify to a loudness by `gain_for`; None and silence leave the audio as it is.

    Raises:
        ValueError: as `measure_stream`.
    """
    if loudness_lufs is None:
        return audio
    level = measure_stream([audio.numpy()], sample_rate)
    return audio if level.loudness_lufs == -math.inf else amplify(audio, gain_for(level, loudness_lufs), level.peak)


def _k_weighting(sample_rate: int) -> npt.NDArray[np.float64]:
    """Return second-order sections: a shelf of 4 dB from 1500 Hz on, and a high pass at 38 Hz.

    By the formulas of R. Bristow-Johnson's Audio EQ Cookbook, https://www.w3.org/TR/audio-eq-cookbook/, with Q of
    1/√2 and 1/2.
    """
    root = 10 ** (4.0 / 40)
    cosine, alpha = _cosine_and_alpha(1500.0, sample_rate, math.sqrt(0.5))
    up, down, wide = root + 1, root - 1, 2 * math.sqrt(root) * alpha
    shelf = [
        root * (up + down * cosine + wide), -2 * root * (down + up * cosine), root * (up + down * cosine - wide),
        up - down * cosine + wide, 2 * (down - up * cosine), up - down * cosine - wide,
    ]  # fmt: skip
    cosine, alpha = _cosine_and_alpha(38.0, sample_rate, 0.5)
    high_pass = [(1 + cosine) / 2, -1 - cosine, (1 + cosine) / 2, 1 + alpha, -2 * cosine, 1 - alpha]
    sections = np.array([shelf, high_pass])
    return sections / sections[:, 3:4]


def _cosine_and_alpha(frequency_hz: float, sample_rate: int, q: float) -> tuple[float, float]:
    angle = 2 * math.pi * frequency_hz / sample_rate
    return math.cos(angle), math.sin(angle) / (2 * q)


def _gated_loudness(energies: npt.NDArray[np.float64], peak: float) -> float:
    """Loudness in LUFS of the blocks that pass both gates, -inf where none does."""
    absolute_gate = 10 ** ((_ABSOLUTE_GATE_LUFS - _BIAS_LU) / 10) * (peak / _MEASURED_PEAK) ** 2
    heard = energies[energies > absolute_gate]
    if not len(heard):
        return -math.inf
    loud = heard[heard > _RELATIVE_GATE * heard.mean()]
    return _BIAS_LU + 10 * math.log10(loud.mean())
