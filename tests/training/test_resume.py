"""A run that was broken off and resumed ends with the weights of one that was not, to the last bit."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.runs import SMALL, TINY, fail_at, same, state_of

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
    "quantizer",
    [
        "ste",
        "gumbel",
        "vq quantizer.ema_decay=0.9 callbacks.ema.decay=0.9",
        "gumbel callbacks.ema.decay=0.9 " + " ".join(TINY),
        "sigmoid quantizer.rounding.sharpness={_target_:discrete_ae.schedules.Schedule,shape:cosine,first:4,last:12}",
    ],
    ids=lambda value: " ".join(value.split()[:2]),
)
def test_broken_and_resumed_equals_uninterrupted(
    quantizer: str, run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (*f"quantizer={quantizer}".split(), "trainer.max_steps=5", "trainer.val_check_interval=3")
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
    overrides = ["quantizer=rvq", "trainer.max_steps=12", "trainer.val_check_interval=6"]
    broken = tmp_path / "broken"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_8, *SMALL, f"data.root={recordings}", f"hydra.run.dir={broken}", *overrides],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -9
    assert state_of(broken)["global_step"] == 6
    compare(run_training(*overrides), run_training(*overrides, f"ckpt_path={broken}/checkpoints/last.ckpt"), 12)


def test_init_from_starts_a_new_run_from_old_weights(ste_run: Path, run_training: Callable[..., Path]) -> None:
    old = ste_run / "checkpoints" / "last.ckpt"
    # A learning rate of 0 (and no decay) leaves the weights as they were read.
    run = run_training(
        "trainer.max_steps=1", "optim.optimizer.lr=0", f"init_from={old}", "trainer.val_check_interval=1"
    )
    assert state_of(run)["global_step"] == 1
    expected = torch.load(old, weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state_of(run)["state_dict"].items())


def test_init_from_a_run_with_another_quantizer_takes_all_but_that(
    ste_run: Path, run_training: Callable[..., Path]
) -> None:
    old = ste_run / "checkpoints" / "last.ckpt"
    channels = torch.load(old, weights_only=True)["state_dict"]["model.to_latents.weight"].shape[0]
    frozen = ("trainer.max_steps=1", "optim.optimizer.lr=0", "trainer.val_check_interval=1")
    overrides = ("quantizer=vq", f"quantizer.codebook_dim={channels}", "quantizer.num_codebooks=1", *frozen)
    fresh, run = (state_of(run_training(*overrides, *more)) for more in ((), (f"init_from={old}",)))
    taken = torch.load(old, weights_only=True)["state_dict"]
    for name, tensor in run["state_dict"].items():
        source = fresh["state_dict"] if name.startswith("model.quantizer.") else taken
        assert torch.equal(tensor, source[name])
    assert {name for name in taken if not name.startswith("model.quantizer.")} <= run["state_dict"].keys()


def test_what_is_for_a_trained_network_says_so(
    ste_run: Path, run_training: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    one_step = ("trainer.max_steps=1", "trainer.val_check_interval=1", "quantizer=rvq_pretrained")
    run_training(*one_step, "data.max_validation_segments=1")
    assert "init_from=" in capsys.readouterr().err
    run_training(*one_step, f"init_from={ste_run}/checkpoints/last.ckpt", status=1)  # whose latents have 8 channels
    assert [line[:5] for line in capsys.readouterr().err.splitlines()] == ["error"]
