"""Short training runs in tests: overrides, results, and forced failures."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from discrete_ae.errors import DataError
from discrete_ae.training import AutoencoderModule

REPOSITORY = Path(__file__).parents[1]
SMALL = (
    "trainer=cpu",
    "model.encoder.dim=16",
    "model.encoder.depth=1",
    "model.decoder.dim=16",
    "model.decoder.depth=1",
    "num_codebooks=2",
    "data.crop_seconds=0.2",
    "data.batch_size=2",
    "data.max_validation_segments=4",
    "callbacks.progress=null",
    "callbacks.entropy_model.max_seconds=2",
    "callbacks.clips.count=0",  # drawing is slow
    "callbacks.rounding_curve=null",
    "trainer.log_every_n_steps=1",
)
"""A very small model."""
TINY = (
    "loss=adversarial",
    "loss.adversary.begin_step=2",
    "loss.adversary.discriminators.periods.periods=[2]",
    "loss.adversary.discriminators.periods.width=2",
    "loss.adversary.discriminators.bands.window_lengths=[256]",
    "loss.adversary.discriminators.bands.width=2",
)
"""Small discriminators too."""
SCHEDULE = "_target_:discrete_ae.schedules.Schedule"
SHARPENED = (
    "quantizer=sigmoid",
    f"quantizer.rounding.sharpness={{{SCHEDULE},shape:linear,first:4,last:12}}",
    f"quantizer.rounding.hard={{{SCHEDULE},shape:switch,first:0,last:1,end:0.5}}",
)
"""A rounding that follows schedules."""


def state_of(run: Path, name: str = "last") -> dict:
    """Return the content of a run's checkpoint."""
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Return True if two sets of tensors are equal to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@functools.cache
def events_of(run: Path) -> EventAccumulator:
    """Return everything that a run has logged to TensorBoard."""
    sizes = {"scalars": 0, "images": 0, "audio": 0, "histograms": 0}
    return EventAccumulator(str(run), size_guidance=sizes).Reload()


def scalars(run: Path, tag: str) -> dict[int, float]:
    """Return the values that a run has logged under a tag, by step."""
    return {event.step: event.value for event in events_of(run).Scalars(tag)}


def errors(text: str) -> list[str]:
    """Return the lines of stderr that are not INFO."""
    return [line for line in text.splitlines() if line and not line.startswith("INFO: ")]


def fail_at(patch: pytest.MonkeyPatch, name: str, step: int) -> list[AutoencoderModule]:
    """Make a method of the module fail once, at a step; returns the modules that failed."""
    method = getattr(AutoencoderModule, name)
    failed: list[AutoencoderModule] = []

    def failing(self: AutoencoderModule, *arguments: object) -> object:
        if self.global_step == step:
            failed.append(self)
            raise DataError("as the test wants it")
        return method(self, *arguments)

    patch.setattr(AutoencoderModule, name, failing)
    return failed


def watch(patch: pytest.MonkeyPatch, owner: type, name: str, note: Callable[..., Any]) -> list[Any]:
    """Record `note(*arguments)` before each call of a method; return the list of records."""
    method = getattr(owner, name)
    found: list[Any] = []

    def watched(*arguments: Any) -> Any:
        found.append(note(*arguments))
        return method(*arguments)

    patch.setattr(owner, name, watched)
    return found
