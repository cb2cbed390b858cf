"""Measure a training step of the presets with compile=true."""

from gpu_steps import training
from gpu_steps.results import Given


def measure(given: Given) -> None:
    """See gpu_steps.training."""
    training.measure(given, compiled=True)
