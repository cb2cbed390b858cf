"""The loudness of audio of any length, in bounded memory: ITU-R BS.1770-4, https://www.itu.int/rec/R-REC-BS.1770

K-weighted audio is cut into blocks of 400 ms that begin every 100 ms; of each its energy is kept, one number, and when
all have been heard, the gates choose those whose mean is the loudness. Filters, weights and gates are those of
`torchaudio.functional.loudness`; the deviations:

- the absolute gate of -70 LUFS holds for the audio at a peak of -20 dB, so that quiet audio has a loudness too;
- audio shorter than a block counts as if silence followed;
- the filters are applied by FFT, in a third of the time, in float64, and to windows of a few seconds, so that the
  memory is bounded; nothing is clipped at full scale, which makes loud audio measure up to 4 dB too low in torchaudio.

Legend: C channels, N samples per channel.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchaudio.functional import highpass_biquad, treble_biquad

from discrete_ae.data.resampling import Audio

BLOCK_SECONDS = 0.4
"""Loudness is that of blocks of this length."""

MAX_CHANNELS = 5
"""The standard gives weights to so many."""

MAX_GAIN_DB = 30.0
"""No audio is raised by more: what is nearly silence stays nearly silent."""

MIN_SAMPLE_RATE = 4000
"""In Hz. The filter for the treble has its corner at 1500 Hz; below twice of that it would be unstable."""

# The peak for which the absolute gate holds as it stands; with it, the filters do not reach full scale.
_MEASURED_PEAK = 0.1

# The slower filter has a double pole that decays by e in 4.2 ms, so that of what lies 0.25 s back there remains
# 60 e^-60, below -480 dB: no digit of a float64. So much before a window is known to its first block, and so much after
# its end comes around to its beginning in the FFT.
_CONTEXT_SECONDS = 0.25

# As many as this, unless the sample rate is so high that a window would take much memory.
_BLOCKS_PER_WINDOW = 64
_SAMPLES_PER_WINDOW = 64 * 19200  # reached at 192 kHz
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
    length = round(BLOCK_SECONDS * sample_rate)
    step = round(length / 4)
    context = round(_CONTEXT_SECONDS * sample_rate)
    advance = min(_BLOCKS_PER_WINDOW, max(1, _SAMPLES_PER_WINDOW // step)) * step
    peak = 0.0
    energies: list[float] = []
    for window in _windows(blocks, context, context + advance + length - step, advance):
        if len(window) > MAX_CHANNELS:
            raise ValueError(f"blocks: expected at most {MAX_CHANNELS} channels to measure loudness, got {len(window)}")
        peak = max(peak, _peak(window))
        if (missing := context + length - window.shape[1]) > 0:
            if energies:
                continue  # the end, shorter than a block, of longer audio
            window = np.pad(window, ((0, 0), (0, missing)))
        energies += _energies(window, sample_rate, context, length, step).tolist()
    return Level(_gated_loudness(np.array(energies), peak), peak)


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


def _windows(blocks: Iterable[Audio], context: int, length: int, advance: int) -> Iterator[Audio]:
    """Cut `context` of silence and the blocks after it into windows (C, length) that begin every `advance` samples.

    The last one is what remains. That windows do not depend on the cutting is why the measurement does not.
    """
    waiting: list[Audio] = []
    num_waiting = 0
    for block in blocks:
        if not waiting:
            waiting, num_waiting = [np.zeros((len(block), context), np.float32)], context
        waiting.append(block)
        num_waiting += block.shape[1]
        if num_waiting >= length:
            held = np.concatenate(waiting, axis=1)
            while held.shape[1] >= length:
                yield held[:, :length]
                held = held[:, advance:]
            waiting, num_waiting = [held], held.shape[1]
    if waiting:
        yield np.concatenate(waiting, axis=1)


def _peak(window: Audio) -> float:
    """Return the greatest magnitude, without a copy."""
    return max(float(window.max()), -float(window.min()))


def _energies(window: Audio, sample_rate: int, context: int, length: int, step: int) -> npt.NDArray[np.float64]:
    """Return the energy of each block after the context: mean squares, added up over the channels by their weights."""
    size = fft_size(window.shape[1])
    response = _response(sample_rate, size)

    def mean_squares(channel: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        spectrum = np.fft.rfft(channel.astype(np.float64), size)
        spectrum *= response
        # From the sample before the first block on, so that a block is the difference of two sums.
        sums = np.cumsum(np.fft.irfft(spectrum, size)[context - 1 : window.shape[1]] ** 2)
        return (sums[length::step] - sums[:-length:step]) / length

    # One after the other: in float64 each takes several times the memory of its samples.
    energies: npt.NDArray[np.float64] = _CHANNEL_WEIGHTS[: len(window)] @ [mean_squares(channel) for channel in window]
    return energies


def fft_size(num_samples: int) -> int:
    """Return the next size with four binary digits before its zeros.

    It is `num_samples` or up to an eighth more, has no prime factor above 13, and few sizes take their turns.
    """
    unit = 1 << max(0, num_samples.bit_length() - 4)
    return -(-num_samples // unit) * unit


@functools.lru_cache(maxsize=8)
def _response(sample_rate: int, size: int) -> npt.NDArray[np.complex128]:
    """Return the filters' frequency response: the spectrum of torchaudio's answer to an impulse, far from clipping."""
    impulse = torch.zeros(size, dtype=torch.float64)
    impulse[0] = _MEASURED_PEAK
    answer = treble_biquad(impulse, sample_rate, 4.0, 1500.0, 1 / math.sqrt(2))
    answer = highpass_biquad(answer, sample_rate, 38.0, 0.5)
    response: npt.NDArray[np.complex128] = np.fft.rfft(answer.numpy() / _MEASURED_PEAK)
    return response


def _gated_loudness(energies: npt.NDArray[np.float64], peak: float) -> float:
    """Loudness in LUFS of the blocks that pass both gates, -inf where none does."""
    absolute_gate = 10 ** ((_ABSOLUTE_GATE_LUFS - _BIAS_LU) / 10) * (peak / _MEASURED_PEAK) ** 2
    heard = energies[energies > absolute_gate]
    if not len(heard):
        return -math.inf
    loud = heard[heard > _RELATIVE_GATE * heard.mean()]
    return _BIAS_LU + 10 * math.log10(loud.mean())
