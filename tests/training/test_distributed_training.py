"""Training by two processes over gloo: they stay the same, measure what one measures, and end together."""

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from tests.processes import Process
from tests.runs import REPOSITORY, SMALL, TINY, errors, events_of, same, scalars, state_of

pytestmark = pytest.mark.slow

DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
PLAIN = ("callbacks.clips=null", "callbacks.entropy_model=null")
# Five segments: an odd number, which a sampler that pads would make six of.
STEPS = ("trainer.max_steps=4", "trainer.val_check_interval=2", "data.max_validation_segments=5")
# Gradients as they are: Adam and clipping would give the same for gradients that were added instead of averaged.
SGD = (
    "optim.optimizer._target_=torch.optim.SGD",
    "~optim.optimizer.betas",
    "optim.optimizer.lr=0.05",
    "optim.scheduler.warmup_steps=0",
    "trainer.gradient_clip_val=0",
)
VQ = ("quantizer=vq", "quantizer.ema_decay=0.9", *SGD)
"""Nothing of it is drawn at random; tests/test_ranks.py has the other quantizers."""
NAMED = {
    "vq": VQ,
    "rvq, balanced": (
        *("quantizer=rvq", "quantizer.dropout=0.5", "loss=balanced"),
        *("trainer.accumulate_grad_batches=2", "trainer.log_every_n_steps=2"),
    ),
    "gumbel, adversarial": ("quantizer=gumbel", *TINY, "callbacks.ema.decay=0.9"),
}
LONG = ("trainer.max_steps=1000", "trainer.val_check_interval=500", "trainer.log_every_n_steps=3")
WORKER = """
import json, sys
from discrete_ae.cli.train import main

for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as ended:
        if ended.code and not (ended.code == 143 and "terminated" in arguments[-1]):
            raise
"""


TRAIN = """
import sys
from discrete_ae.cli.train import main

sys.argv[0] = "train.py"  # which Lightning starts for the second process
main()
"""
HIDDEN = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}


class SaveOfEachRank(pl.Callback):
    """Saves what every rank has at the end."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.save(pl_module.state_dict(), self.folder / f"rank{trainer.global_rank}.pt")


class Disturb(pl.Callback):
    """Callback that disturbs each rank at its fourth step, by the named method."""

    def __init__(self, ranks: list[str]) -> None:
        self.ranks = ranks

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        if trainer.global_step == 3:
            getattr(self, self.ranks[trainer.global_rank])()

    def nothing(self) -> None:
        pass

    def waits(self) -> None:
        """Wait, like a rank on a GPU that is not told of a lost connection."""
        time.sleep(1000)

    def terminated(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def bug(self) -> None:
        raise RuntimeError("a bug of ours")


def overrides_of(recordings: Path, run: Path, *more: str) -> list[str]:
    left_out = ("trainer=", "callbacks.entropy", "callbacks.clips")
    small = [override for override in SMALL if not override.startswith(left_out)]
    save = (f"+callbacks.save._target_={__name__}.SaveOfEachRank", f"+callbacks.save.folder={run}")
    return [*small, *DDP, *PLAIN, f"data.root={recordings}", f"hydra.run.dir={run}", *save, *more]


def disturbed(first: str, second: str) -> tuple[str, ...]:
    """Overrides of a run in which something happens to each process, one of the names of Disturb."""
    return *LONG, f"+callbacks.disturb._target_={__name__}.Disturb", f"+callbacks.disturb.ranks=[{first},{second}]"


class Together(NamedTuple):
    """Results of runs by two processes, which are started once for all runs."""

    runs: dict[str, Path]
    said: list[tuple[str, str]]
    """stdout and stderr of each process."""


@pytest.fixture(scope="module")
def both(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Together:
    root = tmp_path_factory.mktemp("together")
    named = {name: (*STEPS, *more) for name, more in NAMED.items()}
    named["terminated"] = disturbed("nothing", "terminated")
    runs = {name: root / str(number) for number, name in enumerate(named)}
    given = json.dumps([overrides_of(recordings, runs[name], *more) for name, more in named.items()])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"} | HIDDEN
    ranks = [Process(WORKER, given, LOCAL_RANK=rank, **place) for rank in "01"]
    ended = [process.wait(600) for process in ranks]
    said = [(process.out, process.err) for process in ranks]
    assert ended == [0, 0], said
    return Together(runs, said)


def ranks_of(run: Path) -> list[dict[str, Tensor]]:
    return [torch.load(run / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", NAMED)
def test_ranks_end_with_the_same_weights_and_codebooks(name: str, both: Together) -> None:
    # Each has crops of its own, so only because gradients were averaged, and what codebooks follow was added up.
    run = both.runs[name]
    assert same(*ranks_of(run))
    assert state_of(run)["global_step"] == 4
    assert {0, 2, 4} <= set(scalars(run, "val/reconstruction"))
    if "adversarial" in name:
        assert list(scalars(run, "train/discriminator")) == [2, 3]


def test_two_processes_are_one_with_twice_the_batch(both: Together, run_training: Callable[..., Path]) -> None:
    run, alone = both.runs["vq"], run_training(*PLAIN, *STEPS, *VQ, "data.batch_size=4")
    found, expected = ranks_of(run)[0], state_of(alone)["state_dict"]
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=1e-5)
    # All of one process, whatever the order of summation.
    tags = [tag for tag in events_of(alone).Tags()["scalars"] if tag.startswith("val/")]
    assert {"val/reconstruction", "val/si_sdr_db", "val/codes/perplexity"} <= set(tags)
    for tag in tags:
        assert scalars(run, tag) == pytest.approx(scalars(alone, tag), rel=1e-4, abs=1e-4), tag
    losses = scalars(alone, "val/reconstruction")
    assert abs(losses[4] - losses[0]) > 1e-2 * losses[0]  # it does learn
    for codebook in ("val_codes/codebook_0", "val_codes/codebook_1"):
        counts = [events_of(folder).Histograms(codebook) for folder in (run, alone)]
        assert [event.step for event in counts[0]] == [0, 2, 4]
        for one, other in zip(*counts, strict=True):
            assert one.histogram_value.num == 5 * 10  # frames of 320 in 0.2 s
            assert one.histogram_value.bucket == other.histogram_value.bucket


def test_one_process_speaks_and_a_signal_to_the_other_ends_both_with_a_checkpoint(both: Together) -> None:
    (out, err), (silent, also_silent) = both.said
    run = both.runs["terminated"]
    assert errors(err + also_silent) == ["Terminated"]
    assert f"ckpt_path={run}/checkpoints/last.ckpt" in out
    assert out.count("run folder: ") == len(both.runs)
    assert silent == ""
    # Noted in the fourth step, agreed on with the next that is logged.
    assert state_of(run)["global_step"] == 6
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert same(*ranks_of(run))


def test_two_processes_share_the_folder_of_a_sweep_and_keep_what_the_first_wrote(
    recordings: Path, tmp_path: Path
) -> None:
    small = [override for override in SMALL if not override.startswith(("trainer=", "callbacks.e", "callbacks.clips"))]
    short = ("trainer.max_steps=2", "trainer.val_check_interval=2", f"data.root={recordings}", "seed=1,2")
    process = Process(TRAIN, "-m", *small, *DDP, *PLAIN, *short, cwd=tmp_path, **HIDDEN)
    assert process.wait(300) == 0, process.err
    (sweep,) = (tmp_path / "logs/default").iterdir()
    runs = sorted(path for path in sweep.iterdir() if path.is_dir())
    assert [run.name[-5:] for run in runs] == ["seed1", "seed2"]
    for run in runs:
        assert {path.name for path in run.iterdir() if "tfevents" not in path.name} == {"checkpoints", "config.yaml"}
        assert state_of(run)["global_step"] == 2
    assert process.out.count("\nrun 1 of 2: seed=1\n") == process.out.count("sweep: 2 runs done, 0 failed") == 1


def read_to_end(pipe: int) -> str:
    """Read all that is written, until the last process which has the pipe is gone."""
    content = b""
    with os.fdopen(pipe, "rb", buffering=0) as file:
        while select.select([file], [], [], 300)[0]:
            if not (piece := file.read(2**16)):
                return content.decode()
            content += piece
    raise TimeoutError("a process that should have ended goes on")


@pytest.mark.parametrize(
    ("first", "second", "status", "last_line"),
    [
        ("nothing", "bug", 1, "RuntimeError: a bug of ours"),
        ("nothing", "killed", 1, "error: another process of this run was killed or cannot be reached"),
        pytest.param(
            *("killed", "waits", -signal.SIGKILL, None),
            marks=pytest.mark.skipif(sys.platform != "linux", reason="a parent's death is told by Linux"),
        ),
    ],
)
def test_failure_of_one_is_said_once_and_ends_both(
    first: str, second: str, status: int, last_line: str | None, recordings: Path, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    arguments = overrides_of(recordings, tmp_path, *disturbed(first, second))
    with os.fdopen(writing, "w") as stderr:
        process = Process(TRAIN, *arguments, stderr=stderr, **HIDDEN)
    assert process.wait(300) == status
    said = errors(read_to_end(reading))
    assert [line for line in said if line.startswith((" ", "Traceback"))] == (said[:-1] if second == "bug" else [])
    assert said[-1:] == [] if last_line is None else said[-1].startswith(last_line)
