"""Training with Lightning."""

from discrete_ae.training.module import AutoencoderModule
from discrete_ae.training.run import TrainingRun

__all__ = ["AutoencoderModule", "TrainingRun"]
