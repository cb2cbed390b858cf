"""The bar looks at the loss, for which a GPU waits, only where a step was logged."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from discrete_ae.training.callbacks import TrainingProgress


class Bar:
    """What the callback needs of a bar: keeps what it shows."""

    figures = ""
    completed = 0

    def update(self, task: object, completed: int, figures: str) -> None:
        self.completed, self.figures = completed, figures


@pytest.fixture
def progress() -> TrainingProgress:
    found: Any = TrainingProgress()
    found.bar, found.task = Bar(), 0
    return found


def shown_at(progress: Any, step: int, every: int = 10, **metrics: object) -> str:
    named = {name.replace("__", "/"): value for name, value in metrics.items()}
    trainer = SimpleNamespace(global_step=step, log_every_n_steps=every, callback_metrics=named)
    progress.on_train_batch_end(trainer, None, None, None, 0)
    assert progress.bar.completed == step
    return progress.bar.figures


def test_only_logged_steps_are_looked_at(progress: TrainingProgress) -> None:
    assert shown_at(progress, 10, train__loss=torch.tensor(2.5)).strip() == "loss 2.500"
    for step in (11, 15, 19):
        assert shown_at(progress, step, train__loss=torch.tensor(7.0)).strip() == "loss 2.500"
    assert shown_at(progress, 20, train__loss=torch.tensor(7.0)).strip() == "loss 7.000"
