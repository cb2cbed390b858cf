"""Sines, and their bands on the mel scale."""

import numpy as np

from discrete_ae.metrics import HEIGHT

RATE = 16000


def sine(hz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def mel_band(hz: float, rate: int = RATE) -> int:
    """Return the index of the band with this frequency, of HEIGHT bands of equal width on the mel scale."""
    return int(HEIGHT * np.log10(1 + hz / 700) / np.log10(1 + rate / 2 / 700))
