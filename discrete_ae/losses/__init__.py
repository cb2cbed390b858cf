"""Reconstruction losses, adversarial losses, and their weighted sum by name."""

from discrete_ae.losses.adversarial import Adversary, MultiBandSTFTDiscriminator, MultiPeriodDiscriminator
from discrete_ae.losses.balancer import LossBalancer
from discrete_ae.losses.mel import MultiScaleMel
from discrete_ae.losses.stft import ComplexSTFT, CompressedSTFT, MultiResolutionSTFT
from discrete_ae.losses.waveform import LogSNR, NegativeSISDR, WaveformL1
from discrete_ae.losses.weighted import LossValues, WeightedLoss

__all__ = [
    "Adversary",
    "ComplexSTFT",
    "CompressedSTFT",
    "LogSNR",
    "LossBalancer",
    "LossValues",
    "MultiBandSTFTDiscriminator",
    "MultiPeriodDiscriminator",
    "MultiResolutionSTFT",
    "MultiScaleMel",
    "NegativeSISDR",
    "WaveformL1",
    "WeightedLoss",
]
