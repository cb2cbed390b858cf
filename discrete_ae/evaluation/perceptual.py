"""Scores by the packages of the extra `quality`, each by the function of its name; for worker processes of their own.

What was tried and not taken is in docs/scores.md. Packages are imported where they are used: torch by DistillMOS alone.

Axes: C channels, N samples.
"""

import math
import warnings
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from discrete_ae.evaluation.quantities import ORIGINAL, SCORES, Score
from discrete_ae.evaluation.segments import weighted_mean

Audio = NDArray[np.float32]
Scores = dict[str, float | None]
"""By name. None where a score is not defined for the original, whatever was made of it; NaN where it is and was lost,
by a crash or a number that is not finite. To leave out what a codec lost would reward it."""

_QUIETEST = np.float32(2**-15)  # the rounding of 16 bits


def perceptual_score(reconstruction: Audio, original: Audio, sample_rate: int, name: str) -> float | None:
    """See `Scores`; the mean over the channels where it is defined.

    It is not where the original is silent or shorter than `Score.min_s`, nor for STOI and PESQ where the original has
    too little in it that is not silence.

    Args:
        reconstruction: (C, N), finite.
        original: (C, N), finite.
        sample_rate: of both, in Hz.
        name: of a score of `quantities.SCORES` that has packages.

    Raises:
        Exception: whatever the package raises.
    """
    score = SCORES[name]
    found, wanted = (_resampled(audio, sample_rate, score.rate) for audio in (reconstruction, original))
    if score.is_of_original:
        found = wanted
    channels = [pair for pair in zip(found, wanted, strict=True) if pair[1].any()]
    return weighted_mean([(1.0, _of_channel(score, *pair)) for pair in channels])


def perceptual_version(score: Score) -> str:
    """Of the packages, and what they are asked for.

    Raises:
        PackageNotFoundError: one is not installed.
    """
    packages = ", ".join(f"{package} {version(package)}" for package in score.packages)
    pieces = f", pieces of at most {score.piece_s:g} s" if score.piece_s else ""
    return f"{packages}, {score.rate} Hz, {score.how}{pieces}"


def _of_channel(score: Score, found: Audio, wanted: Audio) -> float | None:
    count = math.ceil(len(wanted) / (score.piece_s * score.rate)) if score.piece_s else 1
    pieces = zip(np.array_split(found, count), np.array_split(wanted, count), strict=True)
    return weighted_mean([(len(piece[1]), _of_piece(score, *piece)) for piece in pieces])


def _of_piece(score: Score, found: Audio, wanted: Audio) -> float | None:
    if len(wanted) < score.min_s * score.rate or not wanted.any():
        return None
    value = globals()[score.name.removesuffix(ORIGINAL)](found, wanted)
    return value if value is None or math.isfinite(value) else math.nan


def _resampled(audio: Audio, sample_rate: int, rate: int) -> Audio:
    if sample_rate == rate:
        return audio
    return np.ascontiguousarray(soxr.resample(audio.T, sample_rate, rate, quality="HQ").T)


def stoi(found: Audio, wanted: Audio) -> float | None:
    """Taal et al. 2011, "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech"."""
    import pystoi

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        value = float(pystoi.stoi(wanted.astype(np.float64), found.astype(np.float64), SCORES["stoi"].rate))
    # Of too few frames it warns, and returns a constant.
    too_short = any("Not enough STFT frames" in str(warning.message) for warning in said)
    return None if too_short else value


def pesq(found: Audio, wanted: Audio) -> float | None:
    """ITU-T P.862.2, wideband, by the ITU's own program."""
    import pesq

    try:
        return float(pesq.pesq(SCORES["pesq"].rate, wanted, _audible(found, wanted), "wb"))
    except pesq.BufferTooShortError:
        return None
    except pesq.NoUtterancesError:  # in the original, or where the two overlap once they are aligned
        return None if found is wanted or _of_piece(SCORES["pesq"], wanted, wanted) is None else math.nan


def visqol(found: Audio, wanted: Audio) -> float:
    """ViSQOL v3 (Chinen et al. 2020, arXiv:2004.09584) in speech mode; its best is about 4.5."""
    pair = wanted.astype(np.float64), _audible(found, wanted).astype(np.float64)
    return float(_visqol().measure_from_arrays(*pair, SCORES["visqol"].rate).moslqo)


def dnsmos_p808(found: Audio, wanted: Audio) -> float:
    """Reddy et al. 2021, arXiv:2010.15258."""
    return _dnsmos(found.tobytes())["p808_mos"]


def dnsmos_ovrl(found: Audio, wanted: Audio) -> float:
    """Reddy et al. 2022, arXiv:2110.01763."""
    return _dnsmos(found.tobytes())["ovrl_mos"]


def distillmos(found: Audio, wanted: Audio) -> float:
    """Stahl and Gamper 2025, arXiv:2502.05356: distilled from a score by XLS-R."""
    import torch

    with torch.inference_mode():
        return float(_distillmos()(torch.from_numpy(found)[None]))


def zimtohrli(found: Audio, wanted: Audio) -> float:
    """Google's distance of auditory spectrograms after time warping; 0 of the same signal."""
    import zimtohrli

    return float(zimtohrli.Pyohrli().distance(found, wanted))


def _audible(found: Audio, wanted: Audio) -> Audio:
    """Noise in the place of what is as good as silent, for what divides by the level.

    To leave such a piece out would reward a codec for falling silent.
    """
    quietest = _QUIETEST * np.abs(wanted).max()
    if np.abs(found).max() >= quietest:
        return found
    noise: Audio = np.random.default_rng(0).uniform(-1, 1, len(found)).astype(np.float32) * quietest
    return noise


@cache
def _visqol() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=True)
    return api


@lru_cache(maxsize=4)  # all scores come of one pass
def _dnsmos(audio: bytes) -> dict[str, float]:
    samples = np.frombuffer(audio, np.float32).clip(-1, 1)
    return {name: float(value) for name, value in _dnsmos_model()(samples, SCORES["dnsmos_p808"].rate, False).items()}


@cache
def _dnsmos_model() -> Any:
    from onnxruntime import InferenceSession, SessionOptions
    from speechmos.dnsmos import DNSMOS

    options = SessionOptions()
    options.intra_op_num_threads = 1  # its own sessions take all cores, each
    paths = [str(files("speechmos") / "dnsmos_models" / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    model = DNSMOS(*paths)
    model.onnx_sess, model.p808_onnx_sess = (InferenceSession(path, options) for path in paths)
    return model


@cache
def _distillmos() -> Any:
    import torch
    from distillmos import ConvTransformerSQAModel

    torch.set_num_threads(1)
    return ConvTransformerSQAModel().eval()
