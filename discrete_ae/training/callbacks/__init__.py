"""Lightning callbacks: everything besides the training step."""

from discrete_ae.training.callbacks.checkpoints import FitEntropyModel, KeepBest, KeepLast, WeightEma
from discrete_ae.training.callbacks.logs import (
    LogClips,
    LogCodeHistograms,
    LogHyperparameters,
    LogLayout,
    LogRoundingCurve,
)
from discrete_ae.training.callbacks.terminal import StopOnInterrupt, TrainingProgress, WarnOfCollapse

__all__ = [
    "FitEntropyModel",
    "KeepBest",
    "KeepLast",
    "LogClips",
    "LogCodeHistograms",
    "LogHyperparameters",
    "LogLayout",
    "LogRoundingCurve",
    "StopOnInterrupt",
    "TrainingProgress",
    "WarnOfCollapse",
    "WeightEma",
]
