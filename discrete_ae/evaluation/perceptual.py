"""STOI and PESQ of speech, by the packages of the extra `quality`; without torch, for worker processes of their own.

STOI: Taal et al. 2011, "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech", package
pystoi. PESQ: ITU-T P.862.2, wideband, package pesq, which is the ITU's own program.

Axes: C channels, N samples.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
import soxr
from numpy.typing import NDArray

from discrete_ae.evaluation.segments import weighted_mean

Audio = NDArray[np.float32]
Scores = dict[str, float | None]
"""By name. None where a score is not defined for the original, whatever was made of it; NaN where it is and was lost,
by a crash or a number that is not finite. To leave out what a codec lost would reward it."""

RATE = 16000
"""Both are computed at this rate, in Hz, of audio at any other one resampled to it."""
PESQ_PIECE_S = 15.0
"""PESQ is made for about 10 s, and its program has room for 50 utterances, each at least 0.4 s with its pause: of more
it crashes, as of 30 s of a drum at 120 beats a minute."""
MIN_STOI_S = 0.4  # 30 frames of 25.6 ms, overlapping by half
MIN_PESQ_S = 0.25
_QUIETEST = np.float32(2**-15)  # the rounding of 16 bits

PACKAGES = {"stoi": "pystoi", "pesq": "pesq"}
"""Which package computes what."""


def perceptual_scores(reconstruction: Audio, original: Audio, sample_rate: int, names: Sequence[str]) -> Scores:
    """See `Scores`; each is the mean over the channels where it is defined.

    Neither is where the original is silent or shorter than 0.4 s (STOI), 0.25 s (PESQ), or has too little in it that
    is not silence.

    Args:
        reconstruction: (C, N), finite.
        original: (C, N), finite.
        sample_rate: of both, in Hz.
        names: among "stoi" and "pesq".
    """
    found, wanted = (_resampled(audio, sample_rate) for audio in (reconstruction, original))
    functions: dict[str, Callable[[Audio, Audio], float | None]] = {"stoi": _stoi, "pesq": _pesq}
    channels = [pair for pair in zip(found, wanted, strict=True) if pair[1].any()]
    return {name: weighted_mean([(1.0, functions[name](*pair)) for pair in channels]) for name in names}


def perceptual_version(name: str) -> str:
    """Of the package, and what it is asked for.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    package = PACKAGES[name]
    details = {"stoi": "not extended", "pesq": f"wideband, pieces of at most {PESQ_PIECE_S:g} s"}[name]
    return f"{package} {version(package)}, {RATE} Hz, {details}"


def _resampled(audio: Audio, sample_rate: int) -> Audio:
    if sample_rate == RATE:
        return audio
    return np.ascontiguousarray(soxr.resample(audio.T, sample_rate, RATE, quality="HQ").T)


def _stoi(found: Audio, wanted: Audio) -> float | None:
    from pystoi import stoi

    if len(wanted) < MIN_STOI_S * RATE:
        return None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        value = float(stoi(wanted.astype(np.float64), found.astype(np.float64), RATE))
    # Of too few frames it warns, and returns a constant.
    too_short = any("Not enough STFT frames" in str(warning.message) for warning in said)
    return None if too_short else _finite(value)


def _pesq(found: Audio, wanted: Audio) -> float | None:
    count = math.ceil(len(wanted) / (PESQ_PIECE_S * RATE))
    pieces = zip(np.array_split(found, count), np.array_split(wanted, count), strict=True)
    return weighted_mean([(len(piece[1]), _pesq_of_piece(*piece)) for piece in pieces])


def _pesq_of_piece(found: Audio, wanted: Audio) -> float | None:
    from pesq import BufferTooShortError, NoUtterancesError, pesq

    if len(wanted) < MIN_PESQ_S * RATE or not wanted.any():
        return None
    if np.abs(found).max() < _QUIETEST * np.abs(wanted).max():
        # It divides by the level. To leave such a piece out would reward a codec for falling silent.
        noise = np.random.default_rng(0).uniform(-1, 1, len(found)).astype(np.float32)
        found = noise * _QUIETEST * np.abs(wanted).max()
    try:
        return _finite(float(pesq(RATE, wanted, found, "wb")))
    except BufferTooShortError:
        return None
    except NoUtterancesError:  # in the original, or where the two overlap once they are aligned
        return None if found is wanted or _pesq_of_piece(wanted, wanted) is None else math.nan


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan
