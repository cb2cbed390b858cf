"""Scores by the packages of the extra `quality`, each by the function of its name, in processes of their own.

What was tried and not taken is in docs/scores.md. Packages are imported where they are used: torch by DistillMOS alone.

Axes: C channels, N samples.
"""

import math
import multiprocessing
import os
import warnings
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.resources import files
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from discrete_ae.evaluation.scores import ORIGINAL, SCORES, Score

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
        name: of a score of `SCORES` that has packages.

    Raises:
        Exception: whatever the package raises.
    """
    score = SCORES[name]
    found, wanted = (_resampled(audio, sample_rate, score.rate) for audio in (reconstruction, original))
    if score.is_of_original:
        found = wanted
    channels = [pair for pair in zip(found, wanted, strict=True) if pair[1].any()]
    return weighted_mean([(1.0, _of_channel(score, *pair)) for pair in channels])


def weighted_mean(values: Sequence[tuple[float, float | None]]) -> float | None:
    """Of (weight, value), without those that are None; None where all are. NaN where one is, whose value was lost."""
    known = [(weight, value) for weight, value in values if value is not None]
    if not known:
        return None
    return math.fsum(weight * value for weight, value in known) / math.fsum(weight for weight, _ in known)


class Answer(NamedTuple):
    """A score, or NaN and why it was lost."""

    score: float | None
    reason: str = ""


class PerceptualProcess:
    """Computes `perceptual_score`; started anew after a crash. It ends by itself when its other side is gone."""

    def __init__(self) -> None:
        self._killed = False
        self._start()

    def ask(self, reconstruction: Audio, original: Audio, sample_rate: int, name: str) -> Answer:
        """See `perceptual_score`; NaN if it raised something, or the process did not survive it."""
        try:
            self._connection.send((reconstruction, original, sample_rate, name))
            answer: Answer = self._connection.recv()
        except (EOFError, OSError):
            if self._killed:
                return Answer(math.nan)
            self.close()
            self._start()
            return Answer(math.nan, "it crashed")
        return answer

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._killed = True
        self._process.terminate()

    def close(self) -> None:
        """End it when it has nothing to do."""
        self._connection.close()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may stand still
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        try:
            self._connection.recv()
        except EOFError as error:
            if not self._killed:
                raise RuntimeError(
                    "no process for STOI and its like could be started; a script that evaluates needs "
                    'if __name__ == "__main__": around what it does'
                ) from error


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


def _serve(connection: Connection) -> None:
    asked: Any
    os.environ["NUMBA_NUM_THREADS"] = "1"  # there is a process for each core
    try:
        connection.send("ready")
        with Path(os.devnull).open("w") as nowhere:  # where packages say that they were loaded
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        while True:
            asked = connection.recv()
            connection.send(_answer(*asked))
    except (EOFError, OSError):  # nobody asks any more
        return


def _answer(*asked: Any) -> Answer:
    try:
        return Answer(perceptual_score(*asked))
    except Exception as error:  # whatever a package raises; the others go on
        return Answer(math.nan, f"{type(error).__name__}: {error}")
