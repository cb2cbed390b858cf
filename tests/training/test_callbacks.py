"""What guards a run: divergence, collapse, Ctrl-C; and the schedule of the learning rate."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from discrete_ae.build import build_model
from discrete_ae.errors import DataError
from discrete_ae.losses import WaveformL1, WeightedLoss
from discrete_ae.training import AutoencoderModule
from discrete_ae.training.callbacks import WarnOfCollapse
from discrete_ae.training.learning_rate import warmup_cosine
from tests.models import config
from tests.runs import errors, state_of


@pytest.fixture(scope="module")
def good_run(run_training: Callable[..., Path]) -> Path:
    """The folder of a run of two steps that nothing disturbed."""
    return run_training("trainer.max_steps=2", "trainer.val_check_interval=2")


def nan_loss(patch: pytest.MonkeyPatch, bad_step: int) -> None:
    """A term that is NaN in one training step."""
    forward, step = WaveformL1.forward, AutoencoderModule.training_step
    current = [0]

    def training_step(self: AutoencoderModule, *arguments: object) -> Tensor:
        current[0] = self.global_step
        return step(self, *arguments)

    def bad_forward(self: nn.Module, reconstruction: Tensor, target: Tensor) -> Tensor:
        loss = forward(self, reconstruction, target)
        return loss * float("nan") if reconstruction.requires_grad and current[0] == bad_step else loss

    patch.setattr(AutoencoderModule, "training_step", training_step)
    patch.setattr(WaveformL1, "forward", bad_forward)


def nan_gradient(patch: pytest.MonkeyPatch, bad_step: int) -> None:
    """A finite loss with a gradient that is not, so that the weights are NaN from the next step on."""

    def before_step(self: AutoencoderModule, optimizer: object) -> None:
        if self.global_step == bad_step:
            for parameter in self.model.parameters():
                parameter.grad.fill_(float("nan"))

    patch.setattr(AutoencoderModule, "on_before_optimizer_step", before_step)


# Validations, and so checkpoints, are after 2 and 4 steps: a fault at 2 shows in the next step, one at 3 in validation.
@pytest.mark.parametrize(("fault", "bad_step"), [(nan_loss, 2), (nan_gradient, 3)])
def test_divergence_ends_the_run_and_leaves_the_last_good_checkpoint(
    fault: Callable[[pytest.MonkeyPatch, int], None],
    bad_step: int,
    good_run: Path,
    run_training: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    fault(monkeypatch, bad_step)
    run = run_training("trainer.max_steps=8", "trainer.val_check_interval=2", status=1)
    (line,) = errors(capsys.readouterr().err)
    assert line.startswith("error: the loss is nan at step ")
    assert "optim.optimizer.lr" in line
    found, expected = state_of(run), state_of(good_run)
    assert found["global_step"] == 2
    # While the learning rate warms up it does not depend on the length of the run.
    assert all(torch.equal(tensor, found["state_dict"][name]) for name, tensor in expected["state_dict"].items())
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert signal.getsignal(signal.SIGINT) is handler


class OnGpu(SimpleNamespace):
    """What the guard needs of a module; there need not be a GPU."""

    device = SimpleNamespace(type="cuda")
    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=lambda value, reduce_op: value))
    global_step = 7
    _watched: Tensor | float = 0.0
    _require_finite = AutoencoderModule._require_finite
    watch = AutoencoderModule._watch


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_on_a_gpu_a_bad_loss_is_kept_until_something_is_logged_or_saved(bad: float) -> None:
    guarded = OnGpu(_is_logged=False)
    for value in (1.0, bad, 1.0):
        guarded.watch(torch.tensor(value))
    with pytest.raises(DataError, match=f"the loss is {bad} at step 7"):
        guarded._require_finite()
    guarded = OnGpu(_is_logged=False)
    guarded.watch(torch.tensor(bad))
    guarded._is_logged = True
    with pytest.raises(DataError, match="the loss is"):
        guarded.watch(torch.tensor(1.0))
    guarded.watch(torch.tensor(1.0))  # what was told of is not told of again


@pytest.mark.parametrize(
    ("bound", "algorithm", "expected"),
    [
        (1.0, None, [0.6, 0.8]),  # of (3, 4), whose norm is 5
        (1.0, "norm", [0.6, 0.8]),
        (10.0, "norm", [3, 4]),
        (3.5, "value", [3, 3.5]),
        (0.0, "norm", [3, 4]),
        (None, "norm", [3, 4]),
    ],
)
def test_gradient_is_clipped(bound: float | None, algorithm: str | None, expected: list[float]) -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    found = module(config()["quantizer"])
    found.configure_gradient_clipping(torch.optim.SGD([weight]), bound, algorithm)
    assert weight.grad.tolist() == pytest.approx(expected, rel=1e-5)


def module(quantizer: dict) -> AutoencoderModule:
    model_config = config() | {"quantizer": quantizer}
    loss = WeightedLoss({"l1": WaveformL1()}, {"l1": 1.0})
    return AutoencoderModule(build_model(model_config), model_config, loss, torch.optim.SGD, warmup_cosine, seed=0)


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
        WarnOfCollapse(min_share=0.1, after_steps=100).on_validation_end(trainer, module(config()["quantizer"]))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    if warned:
        assert "perplexity 25.5 of 256 entries, below 25.6" in caplog.text


def interrupt_at(patch: pytest.MonkeyPatch, name: str, place: int, times: int = 1) -> None:
    """Send the process SIGINT, as Ctrl-C does, in the n-th call of a method of the module."""
    method = getattr(AutoencoderModule, name)
    calls = [0]

    def interrupted(self: AutoencoderModule, *arguments: object) -> object:
        if calls[0] == place:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        calls[0] += 1
        return method(self, *arguments)

    patch.setattr(AutoencoderModule, name, interrupted)


@pytest.fixture
def default_interrupt() -> None:
    """The handler that a terminal's process has, and back to it whatever a test does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


LONG = ("trainer.max_steps=1000", "trainer.val_check_interval=500")


@pytest.mark.usefixtures("default_interrupt")
def test_interrupt_ends_after_the_step_with_a_checkpoint_that_resumes(
    run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, "training_step", 3)
        run = run_training(*LONG, status=130)
    out, err = capsys.readouterr()
    assert "Interrupted: ending with a checkpoint" in out
    assert f"{run}/checkpoints/" in out
    assert errors(err) == ["Interrupted"]
    assert state_of(run)["global_step"] == 4
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    last = run / "checkpoints" / "last.ckpt"
    again = run_training("trainer.max_steps=6", "trainer.val_check_interval=6", f"ckpt_path={last}")
    assert state_of(again)["global_step"] == 6


@pytest.mark.usefixtures("default_interrupt")
@pytest.mark.parametrize(("name", "times"), [("validation_step", 1), ("training_step", 2)])
def test_interrupt_before_the_first_step_or_a_second_one_ends_at_once(
    name: str,
    times: int,
    run_training: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    interrupt_at(monkeypatch, name, 0, times)
    run = run_training(*LONG, status=130)
    assert errors(capsys.readouterr().err) == ["Interrupted"]
    assert not (run / "checkpoints").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def rates(steps: int, **settings: float) -> list[float]:
    """The learning rate of each step, for a peak of 2."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = warmup_cosine(optimizer, **settings)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_schedule_by_hand() -> None:
    # A quarter more in each of 4 steps, then half a cosine over 8: at its start, middle and end 1, 1/2 and 0 of the way
    # from a fifth of the peak to the peak; a quarter of the way in cos(pi / 4) = sqrt(1/2).
    found = rates(15, total_steps=12, warmup_steps=4, final_share=0.2)
    assert found[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert found[6] == pytest.approx(2 * (0.2 + 0.8 * (1 + 0.5**0.5) / 2))
    assert found[8] == pytest.approx(2 * (0.2 + 0.8 / 2))
    assert found[12:] == pytest.approx([0.4, 0.4, 0.4])


def test_schedule_without_an_end_or_a_warmup() -> None:
    assert rates(4, total_steps=-1, warmup_steps=2) == pytest.approx([1, 2, 2, 2])
    assert rates(3, total_steps=2, warmup_steps=0) == pytest.approx([2, 1, 0], abs=1e-12)
    assert rates(4, total_steps=2, warmup_steps=4) == pytest.approx([0.5, 1, 1.5, 2])  # ends before its peak


@pytest.mark.parametrize(
    "wrong", [{"warmup_steps": -1}, {"final_share": -0.1}, {"final_share": 1.1}, {"final_share": "foo"}]
)
def test_schedule_refuses_what_it_cannot_do(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"scheduler.{next(iter(wrong))}: expected a .*got"):
        rates(1, **{"total_steps": 10, "warmup_steps": 1, **wrong})
