"""The loudness of audio of any length, in bounded memory: ITU-R BS.1770-4, https://www.itu.int/rec/R-REC-BS.1770

K-weighted audio is cut into blocks of 400 ms that begin every 100 ms. One energy per 100 ms is kept. At the end, the
gates select blocks, and the mean energy of these gives the loudness. Filters, weights and gates are those of
`torchaudio.functional.loudness`, with these deviations:

- the absolute gate of -70 LUFS applies to the audio scaled to a peak of -20 dB, so that quiet audio has a loudness too;
- audio shorter than a block is padded with silence;
- the filters compute in float64 and do not clip at full scale; in torchaudio, clipping lowers loud audio by up to 4 dB.

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
"""Length of the blocks whose loudness is measured."""

MAX_CHANNELS = 5
"""Largest number of channels; the standard gives weights for no more."""

MAX_GAIN_DB = 30.0
"""Largest gain, which keeps near-silence nearly silent."""

MIN_SAMPLE_RATE = 4000
"""Lowest sample rate in Hz. The treble filter has its corner at 1500 Hz, and is unstable at rates below 3000 Hz."""

_MEASURED_PEAK = 0.1  # peak at which the absolute gate is -70 LUFS
_BIAS_LU = -0.691
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE = 0.1  # share of the mean energy: -10 LU
_CHANNEL_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.41, 1.41])


class Level(NamedTuple):
    """Loudness and peak of audio."""

    loudness_lufs: float
    """Loudness; -inf for silence."""
    peak: float
    """Largest magnitude of a sample, full scale at 1."""


def measure_stream(blocks: Iterable[Audio], sample_rate: int) -> Level:
    """Measure audio given in blocks; the result is bit-identical for any division into blocks.

    Args:
        blocks: blocks (C, n) of any lengths, with 1 to `MAX_CHANNELS` channels.
        sample_rate: sample rate in Hz, at least `MIN_SAMPLE_RATE`.

    Raises:
        ValueError: there are too many channels, or the sample rate is too low.
    """
    if sample_rate < MIN_SAMPLE_RATE:
        raise ValueError(f"sample_rate: expected at least {MIN_SAMPLE_RATE} Hz to measure loudness, got {sample_rate}")
    quarter = round(BLOCK_SECONDS / 4 * sample_rate)
    filters = _k_weighting(sample_rate)
    peak, state, powers = 0.0, np.zeros(0), np.zeros(0)
    energies: list[float] = []  # one per quarter of a block
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
    """Multiply by a gain, or by less if the peak would exceed 1. `peak` is the audio's peak; None to compute it."""
    if peak is None:
        peak = audio.abs().max().item()
    # Division by the peak gives exactly 1; multiplication by its inverse may give more.
    return audio / max(peak, 10 ** (-gain_db / 20))


def gain_for(level: Level, loudness_lufs: float) -> float:
    """Return the gain in dB that gives audio a loudness, limited by `MAX_GAIN_DB` and the peak; 0 for silence."""
    if level.loudness_lufs == -math.inf:
        return 0.0
    return min(loudness_lufs - level.loudness_lufs, MAX_GAIN_DB, -20 * math.log10(level.peak))


def bring_to_loudness(audio: Tensor, sample_rate: int, loudness_lufs: float | None) -> Tensor:
    """Amplify to a loudness by `gain_for`; if the loudness is None or the audio silent, return the audio unchanged.

    Raises:
        ValueError: as in `measure_stream`.
    """
    if loudness_lufs is None:
        return audio
    level = measure_stream([audio.numpy()], sample_rate)
    return audio if level.loudness_lufs == -math.inf else amplify(audio, gain_for(level, loudness_lufs), level.peak)


def _k_weighting(sample_rate: int) -> npt.NDArray[np.float64]:
    """Return second-order sections of a 4 dB shelf from 1500 Hz on and a high pass at 38 Hz.

    The formulas are those of R. Bristow-Johnson's Audio EQ Cookbook, https://www.w3.org/TR/audio-eq-cookbook/, with Q
    of 1/√2 and 1/2.
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
    """Return the loudness in LUFS of the blocks that pass both gates; -inf if none does."""
    absolute_gate = 10 ** ((_ABSOLUTE_GATE_LUFS - _BIAS_LU) / 10) * (peak / _MEASURED_PEAK) ** 2
    heard = energies[energies > absolute_gate]
    if not len(heard):
        return -math.inf
    loud = heard[heard > _RELATIVE_GATE * heard.mean()]
    return _BIAS_LU + 10 * math.log10(loud.mean())
