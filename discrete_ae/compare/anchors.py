"""Anchors of the blind test: low-passed versions of the reference, whose grades show how the scale was used.

ITU-R BS.1534-3 §5.1, see `ratings`. Axes: C channels, N samples.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from discrete_ae.compare.page.content import Version
from discrete_ae.compare.ratings import ANCHORS
from discrete_ae.compare.version import flac

Audio = NDArray[np.float32]

# An anchor that keeps more of the band than this is the reference to most ears: at 16 kHz the mid anchor would lack no
# more than what lies from 7 to 8 kHz, and a grade above 90 would be no mistake of the listener's.
_MOST_OF_BAND = 0.7
_TRANSITION_HZ = 500.0
_ATTENUATION_DB = 65.0


def anchors(original: Audio, sample_rate: int) -> tuple[Version, ...]:
    """Return the anchors that tell something at a sample rate: the low one from 10 kHz on, the mid one from 20 kHz."""
    return tuple(
        Version(
            key,
            f"{key.replace('_', ' ')} ({cutoff_hz / 1000:g} kHz)",
            flac(low_pass(original, cutoff_hz, sample_rate), sample_rate),
            spectrogram_png=b"",
            note="",
        )
        for key, cutoff_hz in ANCHORS.items()
        if cutoff_hz <= _MOST_OF_BAND * sample_rate / 2
    )


def low_pass(audio: Audio, cutoff_hz: float, sample_rate: int) -> Audio:
    """Return audio (C, N) without what lies above a frequency, neither delayed nor longer.

    The low anchor of BS.1534-3 §5.1 has ±0.1 dB up to 3.5 kHz, at least 25 dB less at 4 kHz and 50 dB at 4.5 kHz. This
    filter has 65 dB less from 500 Hz above the cutoff on.
    """
    length, beta = signal.kaiserord(_ATTENUATION_DB, _TRANSITION_HZ / (sample_rate / 2))
    middle_hz = cutoff_hz + _TRANSITION_HZ / 2
    taps = signal.firwin(length | 1, middle_hz, window=("kaiser", beta), fs=sample_rate)
    return signal.fftconvolve(audio, taps[None], mode="same", axes=1).astype(np.float32)
