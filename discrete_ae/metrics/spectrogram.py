"""What a sound looks like: levels over time and frequency. Axes: N samples."""

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 96
LEVELS_DB = (-80.0, 0.0)
"""From dark to bright: one scale, so that pictures compare."""


def levels_db(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Find the strongest sine in every mel band and stretch of time, (HEIGHT, WIDTH), the lowest band first.

    The bands go up to half the sample rate, the stretches over the whole duration; a sine of full scale has 0 dB,
    silence -120 dB. The strongest one and not the sum, so that bands of few and of many frequencies compare.

    Args:
        audio: (N,), N >= 1.
        sample_rate: in Hz.
    """
    stretch = len(audio) / WIDTH
    # At least 32 ms, to tell harmonics of speech apart; in long clips so long that no time is passed over.
    length = max(round(0.032 * sample_rate), int(2 * stretch), 2)
    points = 4 << (length - 1).bit_length()
    starts = ((np.arange(WIDTH) + 0.5) * stretch).astype(int)
    padded = np.pad(audio, (length // 2, length))
    window = np.hanning(length + 1)[:-1]
    frames = padded[starts[:, None] + np.arange(length)] * window
    amplitude = np.abs(np.fft.rfft(frames, points)) / (window.sum() / 2)

    edges_hz = 700 * (10 ** (np.linspace(0, mel(sample_rate / 2), HEIGHT + 1) / 2595) - 1)
    edges = (edges_hz / sample_rate * points).astype(int)
    return 20 * np.log10(np.maximum.reduceat(amplitude, edges[:-1], axis=1).T + 1e-6)


def mel(hz: float) -> float:
    """Where a frequency lies on the mel scale of `levels_db` (O'Shaughnessy 1987)."""
    return float(2595 * np.log10(1 + hz / 700))
