"""Training against discriminators, against the same steps written in plain PyTorch; counting, resuming, refusing."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

import discrete_ae
from discrete_ae.training import AdversarialModule
from discrete_ae.training.learning_rate import warmup_cosine
from tests.runs import TINY, errors, events_of, same, scalars, state_of, watch

FIVE = ("trainer.max_steps=5", "trainer.val_check_interval=2")


def test_steps_are_those_written_by_hand(run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    begun = watch(
        monkeypatch,
        AdversarialModule,
        "training_step",
        lambda module, audio, index: (copy.deepcopy((module.model, module.loss)), audio.clone()),
    )
    saved = state_of(run_training(*TINY, *FIVE, "trainer.gradient_clip_val=0.01"))["state_dict"]
    model, loss = begun[0][0]
    adversary: nn.Module = loss.adversary
    ours = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.01)
    theirs = torch.optim.AdamW(adversary.parameters(), lr=1e-4, betas=(0.8, 0.99), weight_decay=0.01)
    # The discriminators' three steps are the first of their own schedule.
    rates = [warmup_cosine(ours, 5, warmup_steps=50), warmup_cosine(theirs, 3, warmup_steps=50)]
    assert len(begun) == 5
    for step, (_, audio) in enumerate(begun):
        output = model(audio)
        if step >= 2:
            theirs.zero_grad()
            adversary.discriminator_loss(output.reconstruction, audio).backward()
            assert nn.utils.clip_grad_norm_(adversary.parameters(), 0.01) > 0.01
            theirs.step()
            rates[1].step()
        ours.zero_grad()
        loss(output.reconstruction, audio, output.losses, adversarial=step >= 2).total.backward()
        assert nn.utils.clip_grad_norm_(model.parameters(), 0.01) > 0.01
        ours.step()
        rates[0].step()
    for prefix, module in (("model", model), ("loss.adversary", adversary)):
        for name, tensor in module.state_dict().items():
            torch.testing.assert_close(saved[f"{prefix}.{name}"], tensor, rtol=1e-4, atol=1e-6)


def test_steps_are_counted_once_and_everything_is_logged(run_training: Callable[..., Path]) -> None:
    run = run_training(*TINY, *FIVE)
    assert state_of(run)["global_step"] == 5
    assert list(scalars(run, "val/reconstruction")) == [0, 2, 4, 5]
    # Lightning notes what is logged of a step under its number from 0.
    assert list(scalars(run, "train/loss")) == [0, 1, 2, 3, 4]
    for name in ("discriminator", "adversarial", "feature_matching"):
        values = scalars(run, f"train/{name}")
        assert list(values) == [2, 3, 4]
        assert all(math.isfinite(value) and value > 0 for value in values.values())
    rates = scalars(run, "train/learning_rate")
    assert list(rates.values()) == pytest.approx([2e-3 * (step + 1) / 50 for step in range(5)])
    assert not [tag for tag in events_of(run).Tags()["scalars"] if tag.startswith("val/adversarial")]
    assert discrete_ae.load(run / "checkpoints" / "last.ckpt").sample_rate == 16000


def test_until_it_begins_it_is_the_run_without_an_adversary(run_training: Callable[..., Path]) -> None:
    steps = ("trainer.max_steps=2", "trainer.val_check_interval=2")
    found = state_of(run_training(*TINY, *steps))["state_dict"]
    plain = state_of(run_training(*TINY[:1], "loss.adversary=null", *steps))["state_dict"]
    assert same(plain, {name: found[name] for name in plain})


class WatchBackward(pl.Callback):
    """Notes whether autocast is on when a backward begins."""

    under_autocast: ClassVar[list[bool]] = []

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """See Callback."""
        self.under_autocast.append(torch.is_autocast_enabled("cpu"))


def test_mixed_precision_trains_with_backwards_outside_autocast(run_training: Callable[..., Path]) -> None:
    WatchBackward.under_autocast.clear()
    watch = f"+callbacks.watch._target_={__name__}.WatchBackward"
    run = run_training(*TINY, "trainer.precision=bf16-mixed", "trainer.max_steps=4", watch)
    assert all(math.isfinite(value) for value in scalars(run, "train/loss").values())
    assert WatchBackward.under_autocast == [False] * (4 + 2)  # the autoencoder's, and from step 2 the discriminators'


def test_gradients_that_two_optimizers_would_accumulate_are_refused(
    run_training: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    run_training(*TINY, "trainer.accumulate_grad_batches=2", status=2)
    assert "trainer.accumulate_grad_batches: expected 1 with an adversarial loss" in capsys.readouterr().err


def test_run_without_an_adversary_is_not_continued_but_begun_from(
    ste_run: Path, run_training: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    path = ste_run / "checkpoints" / "last.ckpt"
    run_training(*TINY, *FIVE, f"ckpt_path={path}", status=1)
    (line,) = errors(capsys.readouterr().err)
    assert line.startswith(f"error: {path}: comes from a run with another loss= or model")
    run = run_training(*TINY, f"init_from={path}", "trainer.max_steps=1", "trainer.val_check_interval=1")
    assert scalars(run, "val/codes/usage")[0] == scalars(ste_run, "val/codes/usage")[4]
