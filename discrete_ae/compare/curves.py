"""What TensorBoard holds of a run: a scalar over the steps of training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TAGS = (
    "val/reconstruction",
    "val/si_sdr_db",
    "val/soft_reconstruction",
    "val/codes/usage",
    "val/codes/perplexity",
    "train/gradient_norm",
)


class Curve(NamedTuple):
    """A scalar over training."""

    steps: NDArray[np.int64]
    """Increasing, each once."""
    values: NDArray[np.float64]


Curves = Mapping[str, Mapping[str, Curve]]
"""By name of the run and tag."""


class Band(NamedTuple):
    """Several curves in one, at the steps that all of them have."""

    steps: NDArray[np.int64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    """The least of the curves at each step."""
    high: NDArray[np.float64]


def read_curves(run: Path, tags: Sequence[str] = TAGS) -> dict[str, Curve]:
    """The curves of a run's folder by tag; those that were not logged, or not to TensorBoard, are missing.

    Where a run was continued, a step may have been logged twice: what was logged last counts.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    if not any(run.glob("events.out.tfevents.*")):
        return {}
    # 0 keeps every scalar; 1 keeps one of what is large and not wanted here.
    keep = {"scalars": 0, "images": 1, "audio": 1, "histograms": 1, "compressedHistograms": 1, "tensors": 1}
    events = EventAccumulator(str(run), size_guidance=keep).Reload()
    logged = set(events.Tags()["scalars"])
    curves = {}
    for tag in tags:
        if tag in logged:
            by_step = {event.step: event.value for event in events.Scalars(tag)}
            steps = sorted(by_step)
            curves[tag] = Curve(np.array(steps), np.array([by_step[step] for step in steps], np.float64))
    return curves


def band(curves: Sequence[Curve]) -> Band:
    """Mean, least and greatest of curves (at least one) at the steps that all have."""
    steps = curves[0].steps
    for curve in curves[1:]:
        steps = np.intersect1d(steps, curve.steps)
    values = np.stack([curve.values[np.isin(curve.steps, steps)] for curve in curves])
    return Band(steps, values.mean(0), values.min(0), values.max(0))
