"""How loud audio is: a gain that keeps the peak, and a given loudness. Audio is (C, N), full scale at -1 and 1."""

import math

from torch import Tensor

from discrete_ae.data.loudness import Level, measure_stream

MAX_GAIN_DB = 30.0
"""No audio is raised by more: what is nearly silence stays nearly silent."""


def amplify(audio: Tensor, gain_db: float, peak: float | None = None) -> Tensor:
    """Multiply by a gain; by a lower one where the peak would exceed 1. `peak` is that of the audio, if it is known."""
    if peak is None:
        peak = audio.abs().max().item()
    # Division by the peak itself gives exactly 1, multiplication by its inverse may give more.
    return audio / max(peak, 10 ** (-gain_db / 20))


def gain_for(level: Level, loudness_lufs: float) -> float:
    """The gain in dB to a loudness: at most `MAX_GAIN_DB`, only as far as the peak allows, and 0 for silence."""
    if level.loudness_lufs == -math.inf:
        return 0.0
    return min(loudness_lufs - level.loudness_lufs, MAX_GAIN_DB, -20 * math.log10(level.peak))


def measure_loudness(audio: Tensor, sample_rate: int) -> float:
    """Loudness in LUFS as `measure_stream` measures it, -inf for silence.

    Raises:
        ValueError: more than 5 channels, or too low a sample rate.
    """
    return measure_stream([audio.numpy()], sample_rate).loudness_lufs


def bring_to_loudness(audio: Tensor, sample_rate: int, loudness_lufs: float | None) -> Tensor:
    """Amplify to a loudness by `gain_for`; None and silence leave the audio as it is.

    Raises:
        ValueError: as `measure_loudness`.
    """
    if loudness_lufs is None:
        return audio
    level = measure_stream([audio.numpy()], sample_rate)
    return audio if level.loudness_lufs == -math.inf else amplify(audio, gain_for(level, loudness_lufs), level.peak)
