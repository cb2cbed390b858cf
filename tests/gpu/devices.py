"""Devices of the tests in this folder: all run on a GPU, and a few on a CPU too, to show that they work."""

import pytest
import torch

GPU_MARKS = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
)
on_each_device = pytest.mark.parametrize("device", [pytest.param("cuda", marks=GPU_MARKS), "cpu"])
ON_DEVICE = {
    "cuda": ("trainer.accelerator=gpu", "trainer.precision=auto"),
    "cpu": ("trainer.accelerator=cpu", "trainer.precision=32-true"),
}
"""Overrides that train there, as `trainer=auto` does."""


def on_each_device_every(names: list[str], on_cpu: tuple[str, ...]) -> pytest.MarkDecorator:
    """Parametrize `device` and `name`: every name on a GPU, a few on a CPU."""
    return pytest.mark.parametrize(
        ("device", "name"),
        [
            *(pytest.param("cuda", name, marks=GPU_MARKS) for name in names),
            *(("cpu", name) for name in names if name in on_cpu),
        ],
    )
