"""Callbacks: divergence, collapse, Ctrl-C, last and best checkpoint, progress bar, pictures."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from torch import Tensor, nn

from discrete_ae.build import build_model
from discrete_ae.errors import DataError
from discrete_ae.losses import WaveformL1, WeightedLoss
from discrete_ae.saving.checkpoint import read_training_state
from discrete_ae.training import AutoencoderModule
from discrete_ae.training.callbacks import TrainingProgress, WarnOfCollapse
from discrete_ae.training.callbacks.logs import draw_log_mel
from discrete_ae.training.learning_rate import warmup_cosine
from tests.models import config
from tests.runs import TINY, errors, same, scalars, state_of, watch
from tests.sines import RATE, sine

BOTH = {"best.ckpt", "last.ckpt"}


def module() -> AutoencoderModule:
    loss = WeightedLoss({"l1": WaveformL1()}, {"l1": 1.0})
    return AutoencoderModule(build_model(config()), config(), loss, torch.optim.SGD, warmup_cosine, seed=0)


def checkpoints_of(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").iterdir()}


@pytest.mark.parametrize("kind", [(), TINY], ids=["plain", "adversarial"])
def test_callbacks_get_what_the_model_made_of_a_batch(
    run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, kind: tuple[str, ...]
) -> None:
    """`train/l1` and `val/l1` again, from the outputs: the mean magnitude of the difference."""
    trained = watch(monkeypatch, WarnOfCollapse, "on_train_batch_end", lambda *given: given[3:5])
    validated = watch(monkeypatch, WarnOfCollapse, "on_validation_batch_end", lambda *given: given[3:5])
    run = run_training(*kind, "loss.weights.l1=1", "trainer.max_steps=3")
    for tag, found in (("train/l1", trained), ("val/l1", validated)):
        again = [float((outputs["reconstruction"] - audio).abs().mean()) for outputs, audio in found]
        assert {outputs["codes"].shape[1] for outputs, _ in found} == {2}
        logged = list(scalars(run, tag).values())
        batches = len(again) // len(logged)
        means = [np.mean(again[i : i + batches]) for i in range(0, len(again), batches)]
        assert means == pytest.approx(logged)
    assert len(trained) == 3


def nan_loss(patch: pytest.MonkeyPatch) -> None:
    """A term that is NaN in the step after the second."""
    forward, step = WaveformL1.forward, AutoencoderModule.training_step
    current = [0]

    def training_step(self: AutoencoderModule, *arguments: object) -> dict[str, Tensor]:
        current[0] = self.global_step
        return step(self, *arguments)

    def bad_forward(self: nn.Module, reconstruction: Tensor, target: Tensor) -> Tensor:
        loss = forward(self, reconstruction, target)
        return loss * float("nan") if reconstruction.requires_grad and current[0] == 2 else loss

    patch.setattr(AutoencoderModule, "training_step", training_step)
    patch.setattr(WaveformL1, "forward", bad_forward)


def nan_gradient(patch: pytest.MonkeyPatch) -> None:
    """A finite loss with a gradient that is not, in the fourth step, so that the weights are NaN in the validation."""

    def before_step(self: AutoencoderModule, optimizer: object) -> None:
        if self.global_step == 3:
            for parameter in self.model.parameters():
                parameter.grad.fill_(float("nan"))

    patch.setattr(AutoencoderModule, "on_before_optimizer_step", before_step)


def test_divergence_ends_the_run_and_leaves_the_last_good_checkpoint(
    run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    expected = state_of(run_training("trainer.max_steps=2", "trainer.val_check_interval=2"))
    for fault in (nan_loss, nan_gradient):
        capsys.readouterr()
        with monkeypatch.context() as patch:
            fault(patch)
            run = run_training("trainer.max_steps=8", "trainer.val_check_interval=2", status=1)
        (line,) = errors(capsys.readouterr().err)
        assert line.startswith("error: the loss is nan at step ")
        found = state_of(run)
        assert found["global_step"] == 2
        # While the learning rate warms up it does not depend on the length of the run.
        assert same(found["state_dict"], expected["state_dict"])
        assert checkpoints_of(run) == BOTH
        assert signal.getsignal(signal.SIGINT) is handler


class OnGpu(SimpleNamespace):
    """Stand-in for a module on a GPU, with the attributes that the guard uses."""

    device = SimpleNamespace(type="cuda")
    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=lambda value, reduce_op: value))
    global_step = 7
    _watched: Tensor | float = 0.0
    _require_finite = AutoencoderModule._require_finite
    watch = AutoencoderModule._watch


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_on_a_gpu_a_bad_loss_is_kept_until_somethingis_logged_or_saved(bad: float) -> None:
    guarded = OnGpu(is_logged=False)
    for value in (1.0, bad, 1.0):
        guarded.watch(torch.tensor(value))
    with pytest.raises(DataError, match=f"the loss is {bad} at step 7"):
        guarded._require_finite()
    guarded = OnGpu(is_logged=False)
    guarded.watch(torch.tensor(bad))
    guarded.is_logged = True
    with pytest.raises(DataError, match="the loss is"):
        guarded.watch(torch.tensor(1.0))
    guarded.watch(torch.tensor(1.0))  # what was told of is not told of again


@pytest.mark.parametrize(
    ("perplexity", "step", "global_zero", "warned"),
    [
        (25.5, 100, True, True),  # a tenth of 256 entries is 25.6
        (25.7, 100, True, False),
        (25.5, 99, True, False),
        (25.5, 5000, False, False),
        (None, 5000, True, False),
    ],
)
def test_collapse_is_warned_of_below_the_share(
    perplexity: float | None, step: int, global_zero: bool, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = {} if perplexity is None else {"val/codes/perplexity": torch.tensor(perplexity)}
    trainer = SimpleNamespace(callback_metrics=metrics, global_step=step, is_global_zero=global_zero)
    with caplog.at_level("WARNING"):
        WarnOfCollapse(min_share=0.1, after_steps=100).on_validation_end(trainer, module())
    assert ["perplexity 25.5 of 256" in record.getMessage() for record in caplog.records] == [True] * warned


def interrupt_at(patch: pytest.MonkeyPatch, name: str, place: int, times: int = 1, number: int = signal.SIGINT) -> None:
    """Send the process SIGINT, as Ctrl-C does, or another signal, in the n-th call of a method of the module."""
    method = getattr(AutoencoderModule, name)
    calls = [0]

    def interrupted(self: AutoencoderModule, *arguments: object) -> object:
        if calls[0] == place:
            for _ in range(times):
                os.kill(os.getpid(), number)
        calls[0] += 1
        return method(self, *arguments)

    patch.setattr(AutoencoderModule, name, interrupted)


@pytest.fixture
def _default_interrupt() -> Iterator[None]:
    """The handlers that a terminal's process has, and back to them whatever a test does."""
    default = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in default.items()}
    yield
    assert {number: signal.getsignal(number) for number in default} == default
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(params=[(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")], ids=["int", "term"])
def interrupted(
    request: pytest.FixtureRequest,
    _default_interrupt: None,
    run_training: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> Callable[..., tuple[Path, str]]:
    """Train until a signal comes in the n-th call of a method of the module, look at status and stderr, and give the
    run's folder and its stdout."""
    number, status, word = request.param

    def run(name: str, place: int, *overrides: str, times: int = 1) -> tuple[Path, str]:
        with monkeypatch.context() as patch:
            interrupt_at(patch, name, place, times, number)
            folder = run_training("trainer.max_steps=1000", "trainer.val_check_interval=500", *overrides, status=status)
        out, err = capsys.readouterr()
        assert errors(err) == [word]
        return folder, out

    return run


def test_interrupt_ends_after_the_step_with_a_checkpoint_that_resumes(
    interrupted: Callable[..., tuple[Path, str]], run_training: Callable[..., Path]
) -> None:
    run, out = interrupted("training_step", 3)
    assert f"to resume: the same command with ckpt_path={run}/checkpoints/last.ckpt" in out
    assert state_of(run)["global_step"] == 4
    assert checkpoints_of(run) == BOTH
    last = run / "checkpoints" / "last.ckpt"
    again = run_training("trainer.max_steps=6", "trainer.val_check_interval=6", f"ckpt_path={last}")
    assert state_of(again)["global_step"] == 6


@pytest.mark.parametrize(("name", "times"), [("validation_step", 1), ("training_step", 2)])
def test_interrupt_before_the_first_step_or_a_second_one_ends_at_once(
    name: str, times: int, interrupted: Callable[..., tuple[Path, str]]
) -> None:
    run, _ = interrupted(name, 0, times=times)
    assert not (run / "checkpoints").exists()


def test_interrupt_ends_a_sweep_with_a_checkpoint_of_the_run_that_it_was_at(
    interrupted: Callable[..., tuple[Path, str]], tmp_path: Path
) -> None:
    _, out = interrupted("training_step", 1, "-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}")
    assert f"to resume: the same command with hydra.sweep.dir={tmp_path}" in out
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["ste-0.8kbps-seed1"]
    assert state_of(tmp_path / "ste-0.8kbps-seed1")["global_step"] == 2


def test_a_run_that_no_longer_improves_keeps_its_last_step_and_goes_on_from_it(
    run_training: Callable[..., Path],
) -> None:
    # Without a learning rate every validation has the same loss, and none after the first is better.
    still = ("optim.optimizer.lr=0", "trainer.val_check_interval=1")
    run = run_training(*still, "trainer.max_steps=2")
    assert [state_of(run, name)["global_step"] for name in ("best", "last")] == [1, 2]
    run_training(*still, "trainer.max_steps=3", f"ckpt_path={run}/checkpoints/last.ckpt", run_dir=run)
    # The state of best.ckpt's own callback came with last.ckpt: an equal loss is no better one.
    assert [state_of(run, name)["global_step"] for name in ("best", "last")] == [1, 3]
    assert checkpoints_of(run) == BOTH


def test_of_several_best_checkpoints_best_is_the_best(
    run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are given by hand: the second of five validations in training is the best, the third the second best."""
    losses = {0: 9.0, 1: 5.0, 2: 1.0, 3: 2.0, 4: 4.0, 5: 3.0}

    def log_dict(self: AutoencoderModule, values: dict[str, Any]) -> None:
        if "val/reconstruction" in values:
            values["val/reconstruction"] = torch.tensor(losses[self.global_step])
        whole(self, values)

    whole = AutoencoderModule.log_dict
    monkeypatch.setattr(AutoencoderModule, "log_dict", log_dict)
    steps = ("trainer.max_steps=5", "trainer.val_check_interval=1")
    run = run_training(*steps, "+callbacks.checkpoints.save_top_k=3")
    assert checkpoints_of(run) == BOTH | {"step2.ckpt", "step3.ckpt", "step5.ckpt"}
    assert state_of(run, "best")["global_step"] == 2
    assert read_training_state(run / "checkpoints" / "last.ckpt").best_score == 1.0


def test_a_run_without_validations_is_kept_at_its_end(run_training: Callable[..., Path]) -> None:
    run = run_training("trainer.max_steps=2", "trainer.val_check_interval=1", "+trainer.limit_val_batches=0")
    assert state_of(run)["global_step"] == 2
    assert checkpoints_of(run) == {"last.ckpt"}


def test_the_bar_looks_at_the_loss_for_which_a_gpu_waits_only_where_it_was_logged() -> None:
    shown: list[str] = []
    progress: Any = TrainingProgress()
    progress.bar = SimpleNamespace(update=lambda task, completed, figures: shown.append(figures.strip()))
    progress.task = 0
    for step, loss in ((10, 2.5), (11, 7.0), (19, 7.0), (20, 7.0)):
        metrics = {"train/loss": torch.tensor(loss)}
        trainer = SimpleNamespace(global_step=step, log_every_n_steps=10, callback_metrics=metrics)
        progress.on_train_batch_end(trainer, None, None, None, 0)
    assert shown == ["loss 2.500"] * 3 + ["loss 7.000"]


def rows_of(picture: np.ndarray, db: float) -> np.ndarray:
    """The rows in which a fifth of the picture has the color of a level; magma changes by 8 in 1.25 dB."""
    color = 255 * np.array(colormaps["magma"]((db + 80) / 80)[:3])  # from -80 to 0 dB
    return np.flatnonzero((np.abs(picture - color).max(axis=2) < 8).mean(axis=1) > 0.2)


def test_in_a_picture_sines_stand_above_one_another_with_their_level_s_color_and_silence_is_dark() -> None:
    heights = []
    for hz in (300, 1000, 6000):
        picture = draw_log_mel(torch.from_numpy(0.1 * sine(hz, 0.5)), RATE).astype(float)
        rows = rows_of(picture, -20)  # a tenth of full scale
        assert 0 < len(rows) < 0.1 * len(picture)
        heights.append(len(picture) - rows.mean())
    # On the mel scale of O'Shaughnessy, 2595 log10(1 + f / 700).
    low, middle, high = (2595 * np.log10(1 + hz / 700) for hz in (300, 1000, 6000))
    ratio = (heights[1] - heights[0]) / (heights[2] - heights[0])
    assert ratio == pytest.approx((middle - low) / (high - low), abs=0.03)
    silence = draw_log_mel(torch.zeros(RATE), RATE).astype(float)
    assert len(rows_of(silence, -80)) > 0.7 * len(silence)
