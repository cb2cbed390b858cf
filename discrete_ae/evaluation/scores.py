"""Which scores are to be computed of a pair of signals, and those that need torch; `perceptual.py` has the others."""

import math
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import discrete_ae
from discrete_ae.errors import UsageError
from discrete_ae.evaluation.perceptual import Scores, perceptual_version
from discrete_ae.evaluation.quantities import (
    ALL,
    NAMES,
    NUM_MELS,
    ORIGINAL,
    SCORES,
    WINDOW_LENGTHS,
    Score,
)
from discrete_ae.losses import MultiResolutionSTFT, MultiScaleMel
from discrete_ae.metrics import si_sdr_db

Audio = NDArray[np.float32]

INSTALL = "pip install 'discrete-ae[quality]'"


class Choice(NamedTuple):
    """Scores that are to be computed."""

    names: tuple[str, ...]
    """In the order of `SCORES`."""
    missing: tuple[str, ...] = ()
    """Those that are left out because a package of theirs is not installed."""

    @property
    def perceptual(self) -> tuple[str, ...]:
        """Those of `perceptual.py`."""
        return tuple(name for name in self.names if SCORES[name].packages)

    @property
    def said(self) -> str:
        """One line on those that are missing; empty where none is."""
        labels = [SCORES[name].label for name in self.missing if not SCORES[name].is_of_original]
        if not labels:
            return ""
        listed = " and ".join(filter(None, [", ".join(labels[:-1]), labels[-1]]))
        return f"{listed} {'is' if len(labels) == 1 else 'are'} left out: {INSTALL}"

    def versions(self) -> dict[str, str]:
        """Of every score, and of what computes it."""
        scores = [SCORES[name] for name in self.names]
        found = {score.name: perceptual_version(score) if score.packages else score.how for score in scores}
        return {"discrete-ae": discrete_ae.__version__, "torch": torch.__version__, **found}


def choose(wanted: Sequence[str] | None = None) -> Choice:
    """The scores that are wanted; None is those of `Score.by_default`, `ALL` every one, as far as packages are there.

    Raises:
        UsageError: for a name that is not among `NAMES`, none, or one whose package is not installed.
    """
    if wanted is None:
        asked = [score for score in SCORES.values() if score.by_default]
    elif list(wanted) == [ALL]:
        asked = list(SCORES.values())
    else:
        unknown = [name for name in wanted if name not in NAMES]
        if unknown or not wanted:
            raise UsageError(
                f"metrics: expected {ALL}, or some of {', '.join(NAMES)}, got {unknown[0] if unknown else 'none'}"
            )
        asked = [score for score in SCORES.values() if score.name.removesuffix(ORIGINAL) in wanted]
        if absent := [score.name for score in asked if not _is_installed(score)]:
            raise UsageError(f"metrics: {absent[0]} needs a package that is not installed: {INSTALL}")
    there = [score.name for score in asked if _is_installed(score)]
    return Choice(tuple(there), tuple(score.name for score in asked if score.name not in there))


def _is_installed(score: Score) -> bool:
    try:
        return all(version(package) for package in score.packages)
    except PackageNotFoundError:
        return False


class SignalScores:
    """Scores of pairs on the CPU.

    Args:
        sample_rate: of the pairs, in Hz.
        names: which; those that are not of this file are left to `perceptual.py`.
    """

    def __init__(self, sample_rate: int, names: Sequence[str]) -> None:
        self._distances: dict[str, nn.Module] = {}
        if "mel_distance" in names:
            self._distances["mel_distance"] = MultiScaleMel(sample_rate, WINDOW_LENGTHS, NUM_MELS)
        if "stft_distance" in names:
            self._distances["stft_distance"] = MultiResolutionSTFT()
        self._has_si_sdr = "si_sdr_db" in names

    @torch.no_grad()
    def __call__(self, reconstruction: Audio, original: Audio) -> Scores:
        """`Scores` of a finite reconstruction (C, n) of `original` (C, n); any n >= 1.

        SI-SDR and the STFT distance are not defined where the original, by which they divide, is silent; SI-SDR is the
        mean over the channels that are not. Lost is what float32 does not hold, as the squares of samples of 1e20.
        """
        found, wanted = (torch.from_numpy(audio)[None] for audio in (reconstruction, original))
        is_silent = not original.any()
        scores: Scores = {}
        scores |= {name: float(module(found, wanted)) for name, module in self._distances.items()}
        if is_silent and "stft_distance" in scores:
            scores["stft_distance"] = None
        if self._has_si_sdr:
            is_defined = not is_silent and original.shape[1] > 1  # one sample is always a multiple of another
            scores["si_sdr_db"] = float(si_sdr_db(found, wanted).mean()) if is_defined else None
        return {name: score if score is None or math.isfinite(score) else math.nan for name, score in scores.items()}
