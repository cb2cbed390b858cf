"""Training with Lightning."""

from discrete_ae.training.adversarial import AdversarialModule
from discrete_ae.training.module import AutoencoderModule
from discrete_ae.training.parts import TrainingRun, build_training, typed_config
from discrete_ae.training.run import train

__all__ = ["AdversarialModule", "AutoencoderModule", "TrainingRun", "build_training", "train", "typed_config"]
