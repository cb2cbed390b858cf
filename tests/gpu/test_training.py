"""Runs of `discrete-ae train` on a GPU: every quantizer, without waiting for it; compiled; broken off and continued."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

import discrete_ae
from tests.gpu.devices import ON_DEVICE, on_each_device_every
from tests.gpu.test_quantizers import NAMES
from tests.runs import TINY, fail_at, scalars

LOG_EVERY = 4
pytestmark = [
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature"),
    # As in tests/training/test_compiled.py.
    pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not be instantiated"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor is being accessed"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script.* is deprecated:DeprecationWarning"),
]


class NeverWaits(pl.Callback):
    """Makes it an error to wait for the GPU in a step that is not logged, once the first ones are over."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """See Callback."""
        step = trainer.global_step
        if pl_module.device.type == "cuda" and step >= LOG_EVERY and (step + 1) % LOG_EVERY:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """See Callback."""
        allow_waiting()


def allow_waiting() -> None:
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(autouse=True)
def _waiting_is_allowed_again() -> Iterator[None]:
    yield
    allow_waiting()


@on_each_device_every([*NAMES, "adversarial"], ("ste",))
def test_it_trains_and_waits_for_the_gpu_in_logged_steps_alone(
    device: str, name: str, run_training: Callable[..., Path]
) -> None:
    run = run_training(
        *(TINY if name == "adversarial" else (f"quantizer={name}",)),
        *ON_DEVICE[device],
        f"trainer.log_every_n_steps={LOG_EVERY}",
        f"trainer.max_steps={3 * LOG_EVERY}",
        f"trainer.val_check_interval={3 * LOG_EVERY}",
        f"+callbacks.never_waits._target_={__name__}.NeverWaits",
    )
    losses = scalars(run, "train/loss")
    assert list(losses) == [3, 7, 11]
    assert all(math.isfinite(value) for value in losses.values())
    assert next(discrete_ae.load(run / "checkpoints" / "best.ckpt", device).parameters()).device.type == device


@on_each_device_every(["ste", "gumbel", "rvq"], ("gumbel",))
def test_a_run_broken_off_goes_on_as_if_it_had_not(
    device: str, name: str, run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (f"quantizer={name}", *ON_DEVICE[device], "trainer.precision=32-true", "trainer.max_steps=8")
    whole = scalars(run_training(*overrides, "trainer.val_check_interval=8"), "train/loss")
    with monkeypatch.context() as patch:
        fail_at(patch, "_training_output", 6)
        broken = run_training(*overrides, "trainer.val_check_interval=4", status=1)
    resumed = run_training(*overrides, "trainer.val_check_interval=4", f"ckpt_path={broken}/checkpoints/last.ckpt")
    found = scalars(resumed, "train/loss")
    assert list(found) == [4, 5, 6, 7]
    # A GPU sums gradients up in no fixed order; the crops of two steps differ by far more.
    assert list(found.values()) == pytest.approx([whole[step] for step in found], rel=1e-3)
    assert len({round(value, 3) for value in whole.values()}) > 4


@pytest.mark.slow
@on_each_device_every(["fourier", "rvq"], ())  # tests/training/test_compiled.py has it on a CPU
def test_compiled_and_eager_losses_agree(device: str, name: str, run_training: Callable[..., Path]) -> None:
    overrides = (
        f"quantizer={name}",
        *ON_DEVICE[device],
        "trainer.precision=32-true",
        "float32_matmul_precision=highest",
        "trainer.max_steps=6",
        "trainer.val_check_interval=3",
    )
    eager, compiled = (run_training(*overrides, f"compile={on}") for on in ("false", "true"))
    expected = scalars(eager, "train/loss")
    assert len(expected) == 6
    assert scalars(compiled, "train/loss") == pytest.approx(expected, rel=1e-2)


@pytest.mark.slow
@on_each_device_every(["adversarial"], ())  # there it takes minutes to make
def test_compiled_adversarial_training(device: str, name: str, run_training: Callable[..., Path]) -> None:
    steps = ("trainer.max_steps=5", "trainer.val_check_interval=5")
    run = run_training(*TINY, *ON_DEVICE[device], *steps, "compile=true")
    assert list(scalars(run, "train/discriminator")) == [2, 3, 4]
    assert all(math.isfinite(value) for value in scalars(run, "train/loss").values())
