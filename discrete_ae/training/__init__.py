"""Training with Lightning."""

from discrete_ae.training.adversarial import AdversarialModule
from discrete_ae.training.module import AutoencoderModule
from discrete_ae.training.run import TrainingRun, build_training, train, typed_config

__all__ = ["AdversarialModule", "AutoencoderModule", "TrainingRun", "build_training", "train", "typed_config"]
