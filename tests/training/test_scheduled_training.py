"""Numbers that follow a schedule: what is logged, saved, restored, and refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import discrete_ae

SCHEDULE = "_target_:discrete_ae.schedules.Schedule"
SHARPENED = (
    "quantizer=sigmoid",
    f"quantizer.rounding.sharpness={{{SCHEDULE},shape:linear,first:4,last:12}}",
    f"quantizer.rounding.hard={{{SCHEDULE},shape:switch,first:0,last:1,end:0.5}}",
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
)


@pytest.fixture(scope="module")
def sharpened_run(run_training: Callable[..., Path]) -> Path:
    return run_training(*SHARPENED)


def scalars(run: Path, tag: str) -> list[float]:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return [event.value for event in events.Scalars(tag)]


def test_every_step_logs_the_numbers_that_it_used(sharpened_run: Path) -> None:
    # Step s of 4 stands at s / 4 of the run: 4 + 8 s / 4, and hard from 1/2 on.
    assert scalars(sharpened_run, "schedule/quantizer.rounding.sharpness") == [4, 6, 8, 10]
    assert scalars(sharpened_run, "schedule/quantizer.rounding.hard") == [0, 0, 1, 1]


def test_soft_reconstruction_is_logged_also_when_the_forward_has_become_hard(sharpened_run: Path) -> None:
    # Validations at 0, 2 and 4 of 4 steps: soft in the first alone, the exact forward from 1/2 on.
    hard, soft = (scalars(sharpened_run, f"val/{name}") for name in ("reconstruction", "soft_reconstruction"))
    assert soft[0] != hard[0]
    assert soft[1:] == pytest.approx(hard[1:], rel=1e-6)
    assert len(soft) == len(hard) == 3


def test_a_checkpoint_holds_the_numbers_beside_the_weights(sharpened_run: Path) -> None:
    path = sharpened_run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    assert content["discrete_ae"]["scheduled"] == {"quantizer.rounding.hard": 1, "quantizer.rounding.sharpness": 12}
    assert not [name for name in content["state_dict"] if "sharpness" in name]
    rounding = discrete_ae.load(path).quantizer.rounding
    assert rounding.sharpness == 12
    assert rounding.hard == 1


def test_a_fraction_of_a_run_without_an_end_is_refused(
    run_training: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    run_training(*SHARPENED[:3], "trainer.max_steps=-1", "trainer.max_epochs=1", status=2)
    assert "set trainer.max_steps, or unit=steps" in capsys.readouterr().err


def test_a_wrong_schedule_is_one_line(run_training: Callable[..., Path], capsys: pytest.CaptureFixture) -> None:
    wrong = f"quantizer.rounding.sharpness={{{SCHEDULE},shape:linear,first:-4,last:12}}"
    run_training("quantizer=sigmoid", wrong, status=2)
    error = capsys.readouterr().err
    assert "sharpness: expected a finite number above 0, got -4" in error
    assert "Traceback" not in error
