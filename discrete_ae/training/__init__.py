"""Training with Lightning."""

from discrete_ae.training.adversarial import AdversarialModule
from discrete_ae.training.module import AutoencoderModule
from discrete_ae.training.run import TrainingRun

__all__ = ["AdversarialModule", "AutoencoderModule", "TrainingRun"]
