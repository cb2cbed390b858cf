"""The batches that a real trainer sees: the stream, its resumption, the shares of the ranks, the errors of `setup`."""

import multiprocessing
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
import torch
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from discrete_ae.data import AudioDataModule, datamodule
from discrete_ae.data.cores import usable_cores
from discrete_ae.data.datamodule import (
    MAX_WORKERS,
    TrainingBatches,
    loading_workers,
    validation_batches,
)
from discrete_ae.data.index import find_audio
from discrete_ae.data.loudness import measure_stream
from discrete_ae.errors import DataError, UsageError

# Lightning's advice on speed and on where checkpoints lie is not the matter here.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]

RATE = 8000


class Recorder(pl.LightningModule):
    """Learns one number and remembers the checksum of every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[float] = []
        self.validated: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen.append(batch.double().sum().item())
        return (batch - self.weight).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validated.extend(item.double().sum().item() for item in batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten files of noise, one second each."""
    root = tmp_path / "audio"
    root.mkdir()
    random = np.random.default_rng(0)
    for k in range(10):
        soundfile.write(root / f"{k}.wav", random.uniform(-0.5, 0.5, RATE), RATE)
    return root


def make(root: Path | str | None, **changes: object) -> AudioDataModule:
    settings = {"validation_root": None, "sample_rate": RATE, "channels": 1, "crop_seconds": 0.1, "batch_size": 3}
    return AudioDataModule(root=str(root) if root else None, **{**settings, **changes})


def fit(data: AudioDataModule, run: Path, max_steps: int, resume: Path | None = None, **trainer: object) -> Recorder:
    model = Recorder()
    settings = {"max_epochs": -1, "val_check_interval": 4, "check_val_every_n_epoch": None, "log_every_n_steps": 1}
    pl.Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[ModelCheckpoint(run, filename="{step}", save_top_k=-1)],
        default_root_dir=run,
        **{**settings, **trainer},
    ).fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    return model


@pytest.mark.parametrize(
    ("until", "workers", "trainer"),
    [(10, 2, {}), (10, 0, {"max_epochs": 1}), (4, 0, {"accumulate_grad_batches": 2})],
    ids=["workers", "epoch", "longer, accumulating"],
)
def test_resumed_run_sees_exactly_the_remaining_batches(folder, tmp_path, until, workers, trainer):
    # A validation, and with it a checkpoint, comes every 4 batches.
    whole = fit(make(folder), tmp_path / "whole", 10, **trainer)
    per_step = trainer.get("accumulate_grad_batches", 1)
    assert len(set(whole.seen)) == len(whole.seen) == 10 * per_step  # no batch comes twice
    fit(make(folder), tmp_path / "short", until, **trainer)
    rest = fit(make(folder, num_workers=workers), tmp_path / "short", 10, tmp_path / "short" / "step=4.ckpt", **trainer)
    assert rest.seen == whole.seen[4 * per_step :]
    assert torch.equal(rest.weight, whole.weight)
    segments = len(whole.validated) // (10 * per_step // 4)
    assert rest.validated == whole.validated[per_step * segments :]


def test_ranks_share_one_stream():
    # Batch 5 of a run on 3 ranks with 4 crops each: numbers 60 to 71, four for each rank.
    shares = [next(iter(TrainingBatches(4, rank=rank, world_size=3, first=5))) for rank in range(3)]
    assert shares == [[60, 61, 62, 63], [64, 65, 66, 67], [68, 69, 70, 71]]
    assert len(list(TrainingBatches(4, first=2, total=5))) == 3
    assert len(TrainingBatches(4, first=2, total=5)) == 5


@pytest.mark.parametrize(("num_segments", "batch_size", "world_size"), [(13, 5, 1), (3, 1, 3), (13, 1, 3), (13, 5, 3)])
def test_validation_batches_hold_each_segment_once_and_are_as_many_on_each_rank(num_segments, batch_size, world_size):
    ranks = [validation_batches(num_segments, batch_size, rank, world_size) for rank in range(world_size)]
    assert sorted(k for rank in ranks for batch in rank for k in batch) == list(range(num_segments))
    assert len({len(rank) for rank in ranks}) == 1
    assert all(1 <= len(batch) <= max(batch_size, 2) for rank in ranks for batch in rank)
    with pytest.raises(DataError, match="a validation segment for each of 14 devices"):
        validation_batches(num_segments, batch_size, 0, 14)


def test_own_recordings_are_found_and_loaded():
    data = make(None, batch_size=4)
    data.setup("fit")
    assert next(iter(data.train_dataloader())).shape == (4, 1, 800)
    assert sum(len(batch) for batch in data.val_dataloader()) == len(data.validation_segments)
    assert "35 files (2.7 min) to train on, 9 files (0.7 min) to validate on" in data.describe()


def test_validation_root_inside_root_is_held_out(folder):
    (folder / "held").mkdir()
    (folder / "0.wav").rename(folder / "held" / "0.wav")
    data = make(folder, validation_root=str(folder / "held"))
    data.setup()
    assert [file.path.name for file in data.validation_files] == ["0.wav"]
    assert sorted(file.path.name for file in data.train_files) == [f"{k}.wav" for k in range(1, 10)]
    with pytest.raises(DataError, match="none is left to train on"):
        make(folder, validation_root=str(folder)).setup()


@pytest.mark.parametrize(("channels", "skipped"), [(1, 0), (2, 1)])  # mixed down; neither 1 nor 2
def test_files_of_other_channel_counts_are_skipped_and_named(folder, caplog, channels, skipped):
    soundfile.write(folder / "surround.wav", np.zeros((RATE, 6)), RATE)
    data = make(folder, channels=channels)
    data.setup()
    assert data.num_skipped == skipped == caplog.text.count("surround.wav")
    with pytest.raises(DataError, match=r"expected 1 or 2 channels in surround\.wav"):
        make(folder, channels=2, strict=True).setup()


def test_crops_longer_than_every_recording_are_told(folder, caplog):
    make(folder, crop_seconds=1.0).setup()
    assert "crop_seconds" not in caplog.text
    make(folder, crop_seconds=1.5).setup()
    assert "data.crop_seconds=1.5: the longest training recording has 1 s" in caplog.text


def test_damaged_file_ends_a_strict_run_in_one_line_though_a_worker_met_it(folder, tmp_path):
    (tmp_path / "bad").mkdir()
    bad = tmp_path / "bad" / "0.wav"
    soundfile.write(bad, np.full(RATE, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(DataError) as caught:
        fit(make(bad.parent, validation_root=str(folder), strict=True, num_workers=1), tmp_path / "run", 2)
    assert str(caught.value) == f"{bad}: holds NaN or infinite samples; repair or remove it"


def test_clips_of_one_file_name_have_names_of_their_own(tmp_path):
    for song in "abcd":
        (tmp_path / song).mkdir()
        soundfile.write(tmp_path / song / "mixture.wav", np.zeros(RATE), RATE)
    data = make(tmp_path, validation_root=str(tmp_path))
    data.validation_files = find_audio(tmp_path).files
    assert [name for name, _ in data.clips(4)] == [f"{song}/mixture.wav" for song in "abcd"]


def test_a_signal_to_all_processes_of_a_run_leaves_those_that_load_to_the_main_one(folder):
    data = make(folder, num_workers=1)
    data.setup("fit")
    loader = data.train_dataloader()
    batches, others = iter(loader), set(multiprocessing.active_children())
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - others
    for number in (signal.SIGINT, signal.SIGTERM):
        subprocess.run(["kill", f"-{number:d}", str(worker.pid)], check=True)  # from another process
    for _ in range(3 * data.settings.prefetch_batches):  # more than lay ready
        next(batches)
    worker.terminate()  # as Python does at the end of the main process
    worker.join(60)
    assert worker.exitcode == 0


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("crop_seconds", {"crop_seconds": 0.0}),
        ("balance", {"balance": "folders"}),
        ("gain_db", {"gain_db": [0, "6"]}),
        ("gain_db", {"gain_db": [-1000, 0]}),
        ("speed", {"speed": [1.25, 0.8]}),
        ("equalizer_db", {"equalizer_db": float("nan")}),
        ("mixture", {"mixture": 0.5}),
        # Loudness is of at least 0.4 s, at most 5 channels, at least 4000 Hz.
        ("crop_seconds", {"loudness_lufs": -23}),
        ("channels", {"loudness_lufs": -23, "crop_seconds": 0.4, "channels": 6}),
        ("sample_rate", {"loudness_lufs": -23, "crop_seconds": 0.4, "sample_rate": 2000}),
    ],
)
def test_settings_that_do_not_fit_are_usage_errors(folder, key, changes):
    with pytest.raises(UsageError, match=rf"^data\.{key}"):
        make(folder, **changes)


def loudness(audio: Tensor) -> float:
    return measure_stream([audio.numpy()], RATE).loudness_lufs


def test_validation_and_clips_follow_the_loudness_and_not_the_augmentation(folder):
    changes = {"gain_db": [6, 6], "flip_polarity": True, "speed": [0.8, 1.25], "equalizer_db": 6, "mix": 1.0}
    plain, changed = make(folder, crop_seconds=0.5), make(folder, crop_seconds=0.5, **changes)
    loud = make(folder, crop_seconds=0.5, loudness_lufs=-20, **changes)
    for data in (plain, changed, loud):
        data.setup()
    for k in range(len(plain.validation_segments)):
        assert torch.equal(plain.validation_segments[k], changed.validation_segments[k])
        assert loudness(loud.validation_segments[k]) == pytest.approx(-20, abs=0.01)
    for (_, same), (_, original), (_, raised) in zip(changed.clips(9), plain.clips(9), loud.clips(9), strict=True):
        assert torch.equal(same, original)
        assert loudness(raised) == pytest.approx(-20, abs=0.01)
    for name, value in changes.items():
        one = make(folder, crop_seconds=0.5, **{name: value})
        one.setup()
        assert any(not torch.equal(plain.training_crops[k], one.training_crops[k]) for k in range(10)), name


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16),
        ({"cpu.max": "max 100000"}, 16),
        ({"cpu.max": "6400000 100000"}, 16),  # 64 cores' time on 16 cores
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "600000", "cpu/cpu.cfs_period_us": "100000"}, 6),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
    ],
)
def test_usable_cores_are_those_of_the_affinity_less_by_the_containers_quota(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(16), raising=False)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    assert usable_cores(tmp_path) == expected


def test_processes_on_gpus_share_the_cores_and_each_keeps_one(folder, monkeypatch):
    found = {}
    for usable, processes in ((96, 1), (16, 2), (16, 16), (1, 1), (2, 1)):
        monkeypatch.setattr(datamodule, "usable_cores", lambda usable=usable: usable)
        found[usable, processes] = loading_workers(processes)
    assert found == {(96, 1): MAX_WORKERS, (16, 2): 7, (16, 16): 0, (1, 1): 0, (2, 1): 1}
    data = make(folder)
    data.setup()
    steps = {"global_step": 0, "max_steps": 10, "accumulate_grad_batches": 1}
    for accelerator, workers in ((CUDAAccelerator(), 1), (CPUAccelerator(), 0)):
        data.trainer = SimpleNamespace(accelerator=accelerator, global_rank=0, world_size=1, num_devices=1, **steps)
        assert data.train_dataloader().num_workers == data.val_dataloader().num_workers == workers
