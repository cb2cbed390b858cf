"""What happens beside the training step."""

from discrete_ae.training.callbacks.clips import LogClips
from discrete_ae.training.callbacks.codes import LogCodeHistograms
from discrete_ae.training.callbacks.collapse import WarnOfCollapse
from discrete_ae.training.callbacks.ema import WeightEma
from discrete_ae.training.callbacks.entropy import FitEntropyModel
from discrete_ae.training.callbacks.hyperparameters import LogHyperparameters
from discrete_ae.training.callbacks.interrupt import StopOnInterrupt
from discrete_ae.training.callbacks.last_checkpoint import KeepLast
from discrete_ae.training.callbacks.layout import LogLayout
from discrete_ae.training.callbacks.progress import TrainingProgress
from discrete_ae.training.callbacks.rounding_curve import LogRoundingCurve

__all__ = [
    "FitEntropyModel",
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
