"""last.ckpt is of the last validation, best.ckpt of the best one."""

from collections.abc import Callable
from pathlib import Path

from tests.runs import state_of

THREE = ("trainer.max_steps=3", "trainer.val_check_interval=1", "callbacks.clips.count=0")


def test_a_run_that_no_longer_improves_keeps_its_last_step_and_goes_on_from_it(
    run_training: Callable[..., Path],
) -> None:
    # Without a learning rate every validation has the same loss, and none after the first is better.
    run = run_training(*THREE, "optim.optimizer.lr=0")
    assert state_of(run, "best")["global_step"] == 1
    assert state_of(run, "last")["global_step"] == 3
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    last = run / "checkpoints" / "last.ckpt"
    settings = ("trainer.max_steps=5", "trainer.val_check_interval=2", "optim.optimizer.lr=0", f"ckpt_path={last}")
    run_training(*settings, run_dir=run)
    # The state of best.ckpt's own callback came with last.ckpt: an equal loss is no better one.
    assert state_of(run, "best")["global_step"] == 1
    assert state_of(run, "last")["global_step"] == 5


def test_a_run_without_validations_is_kept_at_its_end(run_training: Callable[..., Path]) -> None:
    run = run_training("trainer.max_steps=2", "trainer.val_check_interval=1", "+trainer.limit_val_batches=0")
    assert state_of(run, "last")["global_step"] == 2
    assert not (run / "checkpoints" / "best.ckpt").exists()
