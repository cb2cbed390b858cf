"""Averaged weights, against numpy; what is measured with them, and what a continued run goes on with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import discrete_ae
from discrete_ae.training import AutoencoderModule
from discrete_ae.training.callbacks import LogClips, WeightEma
from tests.runs import events_of, same, scalars, state_of, watch

FOUR = ("trainer.max_steps=4", "trainer.val_check_interval=2")


def weights_of(module: AutoencoderModule) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.model.named_parameters()}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The weights that each training step began with, in the runs of a test."""
    return watch(monkeypatch, AutoencoderModule, "training_step", lambda module, *_: weights_of(module))


def test_average_is_the_one_computed_by_hand(
    run_training: Callable[..., Path], trained: list[dict[str, Tensor]]
) -> None:
    found = state_of(run_training("callbacks.ema.decay=0.25", *FOUR))
    raw = [*trained, found["raw_weights"]]
    assert len(raw) == 5
    for name, first in raw[0].items():
        average = first.double().numpy()
        # (1 + n) / (10 + n) is 2/11, 3/12 and then more: the decay holds from the second step on.
        for n, decay in ((1, 2 / 11), (2, 0.25), (3, 0.25), (4, 0.25)):
            average = decay * average + (1 - decay) * raw[n][name].double().numpy()
        np.testing.assert_allclose(found["state_dict"][f"model.{name}"], average, rtol=1e-5, atol=1e-7)


def test_codebooks_with_replaced_entries_are_not_averaged(run_training: Callable[..., Path]) -> None:
    found = state_of(run_training("callbacks.ema.decay=0.25", *FOUR, "quantizer=diveq"))
    again = state_of(run_training("callbacks.ema.decay=null", *FOUR, "quantizer=diveq"))
    name = "model.quantizer.codebooks"
    assert torch.equal(found["state_dict"][name], again["state_dict"][name])
    other = "model.to_latents.weight"
    assert not torch.equal(found["state_dict"][other], again["state_dict"][other])


def test_all_of_a_validation_is_of_the_averaged_weights(
    run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = watch(monkeypatch, LogClips, "on_validation_end", lambda _, trainer, module: weights_of(module))
    run = run_training("callbacks.ema.decay=0.9", *FOUR)
    saved = discrete_ae.load(run / "checkpoints" / "last.ckpt")  # whose hash is that of the averaged weights
    assert same(shown[-1], {name: parameter.detach() for name, parameter in saved.named_parameters()})
    # A new run that starts from them first validates what it was given.
    again = run_training("trainer.max_steps=1", f"init_from={run}/checkpoints/last.ckpt")
    assert scalars(again, "val/reconstruction")[0] == scalars(run, "val/reconstruction")[4]


def test_older_checkpoint_is_averaged_from_its_weights_on(ste_run: Path, run_training: Callable[..., Path]) -> None:
    path = ste_run / "checkpoints" / "last.ckpt"
    steps = ("trainer.max_steps=5", "trainer.val_check_interval=1")
    found, old = state_of(run_training("callbacks.ema.decay=0.9", f"ckpt_path={path}", *steps)), state_of(ste_run)
    for name, raw in found["raw_weights"].items():
        # One step, the fifth: 6/15 of what there was.
        expected = 0.4 * old["state_dict"][f"model.{name}"] + 0.6 * raw
        torch.testing.assert_close(found["state_dict"][f"model.{name}"], expected)


def test_a_run_that_no_longer_averages_goes_on_with_the_raw_weights(
    run_training: Callable[..., Path], trained: list[dict[str, Tensor]]
) -> None:
    old = run_training("callbacks.ema.decay=0.9", "trainer.max_steps=2", "trainer.val_check_interval=2")
    raw = state_of(old)["raw_weights"]
    trained.clear()
    path = old / "checkpoints" / "last.ckpt"
    new = run_training(f"ckpt_path={path}", "trainer.max_steps=3", "trainer.val_check_interval=1")
    assert same(trained[0], raw)
    assert "raw_weights" not in state_of(new)
    assert "val/reconstruction" in events_of(new).Tags()["scalars"]


@pytest.mark.parametrize("decay", [1, -0.1, float("nan"), "0.9"])
def test_decay_outside_of_its_range_is_refused(decay: object) -> None:
    with pytest.raises(ValueError, match="decay: expected null or a number from 0 to below 1"):
        WeightEma(decay)
