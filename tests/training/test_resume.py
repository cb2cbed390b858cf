"""A run that was broken off and resumed ends with the weights of one that was not, to the last bit."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, ExponentialLR, SequentialLR

from discrete_ae.data.shards import write_shards
from tests.processes import Process
from tests.runs import SHARPENED, SMALL, TINY, errors, fail_at, same, scalars, state_of

# The process that trains kills itself in mid-run, with a signal that it cannot handle.
KILLED_AT_8 = """
import os, signal, sys
from discrete_ae.cli.train import main
from discrete_ae.training import AutoencoderModule

output = AutoencoderModule._training_output

def training_output(self, *arguments):
    if self.global_step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return output(self, *arguments)

AutoencoderModule._training_output = training_output
main(sys.argv[1:])
"""


def compare(whole: Path, resumed: Path, steps: int) -> None:
    expected, found = state_of(whole), state_of(resumed)
    assert found["global_step"] == steps
    assert same(found["state_dict"], expected["state_dict"])
    assert same(found.get("raw_weights", {}), expected.get("raw_weights", {}))
    about, also = found["discrete_ae"], expected["discrete_ae"]
    assert same(about.pop("entropy_model"), also.pop("entropy_model"))
    assert about == also


@pytest.mark.parametrize(
    "given",
    [
        ("quantizer=vq", "quantizer.ema_decay=0.9", "callbacks.ema.decay=0.9"),
        ("quantizer=gumbel", "callbacks.ema.decay=0.9", *TINY),
        SHARPENED,
    ],
    ids=["moving codebook", "noise, adversarial", "schedules"],
)
def test_broken_and_resumed_equals_uninterrupted(
    given: tuple[str, ...], run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (*given, "trainer.max_steps=5", "trainer.val_check_interval=3")
    whole = run_training(*overrides)
    with monkeypatch.context() as patch:
        fail_at(patch, "_training_output", 4)
        broken = run_training(*overrides, status=1)
    assert state_of(broken)["global_step"] == 3
    compare(whole, run_training(*overrides, f"ckpt_path={broken}/checkpoints/last.ckpt"), 5)


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(
    run_training: Callable[..., Path], recordings: Path, tmp_path: Path
) -> None:
    """Both halves read tars, with two loading processes and with one; the uninterrupted run reads the files itself."""
    overrides = ["quantizer=rvq", "trainer.max_steps=12", "trainer.val_check_interval=6"]
    broken, shards = tmp_path / "broken", tmp_path / "shards"
    assert len(write_shards(recordings, shards, 150_000).shards) > 1
    began = [f"data.root={shards}", "data.num_workers=2", f"hydra.run.dir={broken}"]
    killed = Process(KILLED_AT_8, *SMALL, *overrides, *began)
    assert killed.wait() == -signal.SIGKILL
    assert state_of(broken)["global_step"] == 6
    goes_on = [f"data.root={shards}", "data.num_workers=1", f"ckpt_path={broken}/checkpoints/last.ckpt"]
    compare(run_training(*overrides), run_training(*overrides, *goes_on), 12)


def test_a_run_that_ended_before_its_first_checkpoint_is_begun_anew_by_force(
    run_training: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    run, given = tmp_path / "run", ("trainer.max_steps=2", "trainer.val_check_interval=2")
    with monkeypatch.context() as patch:
        fail_at(patch, "_training_output", 1)
        run_training(*given, run_dir=run, status=1)
    assert (run / "config.yaml").exists()
    capsys.readouterr()
    for more in ((), (f"ckpt_path={run}/checkpoints/last.ckpt",), (f"ckpt_path={run}",), (f"init_from={run}",)):
        run_training(*given, *more, run_dir=run, status=1)
        (line,) = errors(capsys.readouterr().err)
        assert line.startswith(f"error: {run}")
        assert "without a checkpoint" in line
        assert "force=true" in line
    run_training(*given, "force=true", run_dir=run)
    assert state_of(run)["global_step"] == 2


def test_init_from_a_run_with_another_quantizer_takes_all_but_that(
    ste_run: Path, run_training: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    taken = state_of(ste_run)["state_dict"]
    channels = taken["model.to_latents.weight"].shape[0]
    # A learning rate of 0 (and no decay) leaves the weights as they were read.
    frozen = ("trainer.max_steps=1", "optim.optimizer.lr=0", "trainer.val_check_interval=1")
    given = (
        *("quantizer=rvq_pretrained", "quantizer.num_stages=1", f"quantizer.stage.codebook_dim={channels}"),
        *("quantizer.stage.ema_decay=null", "quantizer.stage.dead_code_threshold=0"),  # entries that stay
    )
    fresh = state_of(run_training(*given, *frozen))["state_dict"]
    assert "init_from=" in capsys.readouterr().err  # that quantizer is for a trained network
    run = state_of(run_training(*given, *frozen, f"init_from={ste_run}/checkpoints/last.ckpt"))
    assert run["global_step"] == 1
    for name, tensor in run["state_dict"].items():
        source = fresh if name.startswith("model.quantizer.") else taken
        assert torch.equal(tensor, source[name])
    assert {name for name in taken if not name.startswith("model.quantizer.")} <= run["state_dict"].keys()


def test_a_run_goes_on_with_the_learning_rate_and_the_betas_that_are_given(
    ste_run: Path, run_training: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    given = ("optim.optimizer.lr=1e-5", "optim.optimizer.betas=[0.5,0.9]")
    run = run_training(f"ckpt_path={ste_run}/checkpoints/last.ckpt", "trainer.max_steps=6", *given)
    # The warm-up of 50 steps, of which four are made, rises linearly: step n has (n + 1) / 50 of the peak.
    assert list(scalars(run, "train/learning_rate").values()) == pytest.approx([1e-5 * 5 / 50, 1e-5 * 6 / 50])
    (group,) = state_of(run)["optimizer_states"][0]["param_groups"]
    assert list(group["betas"]) == [0.5, 0.9]
    assert "learning rate of 1e-05 instead of 0.002" in capsys.readouterr().err


def sequence(optimizer: Optimizer) -> SequentialLR:
    """Constant for a step, then a tenth, then falling by half."""
    parts = [ConstantLR(optimizer, 1.0), ConstantLR(optimizer, 0.1, 9), ExponentialLR(optimizer, 0.5)]
    return SequentialLR(optimizer, parts, milestones=[1, 3])


IN_SEQUENCE = ("~optim.scheduler", f"+optim.scheduler={{_target_:{__name__}.sequence,_partial_:true}}")


def test_a_sequence_of_schedules_goes_on(run_training: Callable[..., Path]) -> None:
    begun = run_training(*IN_SEQUENCE, "trainer.max_steps=2", "trainer.val_check_interval=2")
    whole = run_training(*IN_SEQUENCE, "trainer.max_steps=5")
    gone_on = run_training(*IN_SEQUENCE, "trainer.max_steps=5", f"ckpt_path={begun}/checkpoints/last.ckpt")
    rates, later = (list(scalars(run, "train/learning_rate").values()) for run in (whole, gone_on))
    assert rates == pytest.approx([2e-3, 2e-4, 2e-4, 2e-3, 1e-3])
    assert later == rates[2:]
    slower = run_training(
        *IN_SEQUENCE, "trainer.max_steps=5", f"ckpt_path={begun}/checkpoints/last.ckpt", "optim.optimizer.lr=1e-4"
    )
    assert list(scalars(slower, "train/learning_rate").values()) == pytest.approx([1e-5, 1e-4, 5e-5])


def test_a_schedule_of_torch_is_chosen_by_its_name(run_training: Callable[..., Path]) -> None:
    halved = "{_target_:torch.optim.lr_scheduler.ExponentialLR,_partial_:true,gamma:0.5}"
    once = "{_target_:torch.optim.lr_scheduler.OneCycleLR,_partial_:true,max_lr:1,pct_start:0.5,anneal_strategy:linear}"
    rates = [
        list(scalars(run, "train/learning_rate").values())
        for given in (halved, once)
        for run in [run_training("~optim.scheduler", f"+optim.scheduler={given}", "trainer.max_steps=3")]
    ]
    assert rates[0] == pytest.approx([2e-3, 1e-3, 5e-4])
    # Of three steps the half is 0.5: up from 1/25 in half a step, down to 1/25 / 1e4 in one and a half.
    assert rates[1][0] == pytest.approx(1 / 25)
    assert rates[1][2] == pytest.approx(1 / 25 / 1e4)


@pytest.mark.parametrize("is_begun_in_sequence", [True, False])
def test_a_run_with_another_schedule_does_not_go_on(
    is_begun_in_sequence: bool, ste_run: Path, run_training: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    ours: tuple[str, ...] = ()
    begun, now = ste_run, IN_SEQUENCE
    if is_begun_in_sequence:
        begun, now = run_training(*IN_SEQUENCE, "trainer.max_steps=2", "trainer.val_check_interval=2"), ours
    run_training(*now, "trainer.max_steps=6", f"ckpt_path={begun}/checkpoints/last.ckpt", status=2)
    (line,) = (line for line in errors(capsys.readouterr().err) if "rror" in line)
    assert "needs its original scheduler" in line
