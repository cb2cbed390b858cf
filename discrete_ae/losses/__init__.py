"""Reconstruction losses and their weighted sum by name."""

from discrete_ae.losses.terms import LogSNR, MultiResolutionSTFT, MultiScaleMel, WaveformL1
from discrete_ae.losses.weighted import LossValues, WeightedLoss

__all__ = ["LogSNR", "LossValues", "MultiResolutionSTFT", "MultiScaleMel", "WaveformL1", "WeightedLoss"]
