"""Faults in the middle of a run: loading processes that die, recordings that vanish or change."""

import io
import logging
import multiprocessing
import os
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import get_worker_info

from discrete_ae.data import TrainingCrops, ValidationSegments, crops, find_audio
from discrete_ae.data.crops import CropSettings
from discrete_ae.data.datamodule import TrainingBatches
from discrete_ae.data.index import index
from discrete_ae.data.reading import read_audio
from discrete_ae.data.workers import AudioLoader, LoadingError, lost_worker
from discrete_ae.errors import DataError, UsageError
from tests.runs import errors, fail_at, state_of

# A loading process that dies may have begun to hand over a batch: Python leaves that socket open.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

RATE = 8000
NAMES = ["a.wav", "b.flac", "c.wav", "d.wav"]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch waits 5 seconds at most for loading processes to end after an error, and does so."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files of noise of one second."""
    random = np.random.default_rng(0)
    (tmp_path / "audio").mkdir()
    for name in NAMES:
        soundfile.write(tmp_path / "audio" / name, random.uniform(-0.5, 0.5, RATE), RATE)
    return tmp_path / "audio"


def settings(**changes: object) -> CropSettings:
    return CropSettings.of({"sample_rate": RATE, "channels": 1, "crop_seconds": 0.5, **changes})


def crops_of(folder: Path, **changes: object) -> TrainingCrops:
    return TrainingCrops(find_audio(folder).files, settings(**changes))


def loaded(data: TrainingCrops, workers: int = 1) -> list[torch.Tensor]:
    return list(AudioLoader(data, batch_sampler=TrainingBatches(4, total=6), num_workers=workers))


def in_workers(patch: pytest.MonkeyPatch, name: str, happens: Callable[[], None]) -> None:
    """Let something happen to a loading process that reads this file."""
    usual = crops.read_audio

    def read(file, *arguments, **named):
        if get_worker_info() and Path(file.name).name == name:
            happens()
        return usual(file, *arguments, **named)

    patch.setattr(crops, "read_audio", read)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (signal.SIGKILL, "SIGKILL (Killed)"),
        (signal.SIGSEGV, "SIGSEGV (Segmentation fault)"),
        (signal.SIGBUS, "SIGBUS (Bus error)"),
    ],
)
def test_a_loading_process_that_dies_is_named_with_what_it_was_reading(folder, monkeypatch, number, told):
    in_workers(monkeypatch, "b.flac", lambda: os.kill(os.getpid(), number))
    with pytest.raises((LoadingError, RuntimeError)) as caught:
        loaded(crops_of(folder))
    said = str(lost_worker(caught.value) or caught.value)  # PyTorch may raise it while an error is turned into ours
    assert said.startswith(f"a worker process was ended by {told} while reading {folder}/b.flac, or right after; ")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UsageError("s3://x: no package: s3fs"), "s3://x: no package: s3fs"),
        (MemoryError(), "out of memory while loading a batch; use fewer"),
        (MemoryError("8 GB"), "out of memory while loading a batch (8 GB); use fewer"),
    ],
)
def test_an_error_in_a_loading_process_is_one_line(folder, monkeypatch, error, told):
    def fail() -> None:
        raise error

    in_workers(monkeypatch, "b.flac", fail)
    with pytest.raises(LoadingError) as caught:
        loaded(crops_of(folder))
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_a_bug_in_a_loading_process_keeps_its_traceback(folder, monkeypatch):
    in_workers(monkeypatch, "b.flac", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError, match="Original Traceback"):
        loaded(crops_of(folder))


def test_a_run_whose_loading_process_dies_goes_on_from_its_checkpoint(run_training, monkeypatch, tmp_path, capsys):
    usual = TrainingCrops.__getitems__

    def batch(self: TrainingCrops, numbers: list[int]) -> list[torch.Tensor]:
        if 12 in numbers and get_worker_info():  # of batch 6, which is read while batches 4 and 5 wait at most
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(self, numbers)

    short = ("trainer.max_steps=8", "trainer.val_check_interval=1", "data.num_workers=1", "data.prefetch_batches=1")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingCrops, "__getitems__", batch)
        run = run_training(*short, run_dir=tmp_path / "run", status=1)
    (line,) = errors(capsys.readouterr().err)
    assert line.startswith("error: a worker process was ended by SIGKILL")
    last = run / "checkpoints" / "last.ckpt"
    assert line.endswith(f"; to resume: ckpt_path={last}")
    run_training(*short, f"ckpt_path={last}", run_dir=run)
    assert state_of(run)["global_step"] == 8


def test_a_run_that_fails_in_a_validation_leaves_no_process(run_training, monkeypatch):
    # Python would wait for them at its end, and they for it.
    before = set(multiprocessing.active_children())
    fail_at(monkeypatch, "validation_step", 2)
    run_training("trainer.max_steps=4", "trainer.val_check_interval=2", "data.num_workers=1", status=1)
    assert set(multiprocessing.active_children()) == before


def test_a_file_that_vanishes_is_named_once_by_all_processes_and_used_again_when_it_is_back(folder, tmp_path):
    data = crops_of(folder)
    before = loaded(data, workers=0)
    (folder / "b.flac").rename(tmp_path / "away")
    log = logging.getLogger("discrete_ae")
    handler = logging.FileHandler(tmp_path / "log")  # which loading processes write to, too
    log.addHandler(handler)
    try:
        without, again = loaded(data), loaded(data, workers=0)
    finally:
        log.removeHandler(handler)
        handler.close()
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith(f"Skipped in training (1 so far): {folder}/b.flac: ")
    assert "No such file or directory" in line
    assert all(torch.equal(one, other) for one, other in zip(without, again, strict=True))
    kept = [torch.equal(one, other) for one, other in zip(torch.cat(before), torch.cat(without), strict=True)]
    assert 0 < sum(kept) < len(kept)
    (tmp_path / "away").rename(folder / "b.flac")
    assert all(torch.equal(one, other) for one, other in zip(before, loaded(data), strict=True))


def test_a_disk_that_is_gone_ends_the_run_in_one_line(folder, tmp_path, caplog):
    data, validation = crops_of(folder), ValidationSegments(find_audio(folder).files, settings(), 9)
    caplog.clear()
    folder.rename(tmp_path / "away")
    for one in (data, validation):
        with pytest.raises(DataError, match=r"4 recordings;.*No such file"):
            one[0]
    with pytest.raises(DataError, match=r"^/\S+: cannot be read"):
        TrainingCrops([*data.files], settings(strict=True))[0]
    assert not caplog.records


def test_a_validation_file_that_vanishes_is_named_and_the_next_segment_taken(folder, caplog):
    files = find_audio(folder).files
    data, strict = (ValidationSegments(files, settings(strict=strict), 9) for strict in (False, True))
    before = [data[k] for k in range(8)]  # two segments of each file
    caplog.clear()
    (folder / "b.flac").unlink()
    (folder / "b.flac").mkdir()
    after = [data[k] for k in range(8)]
    for k, place in enumerate([0, 1, 4, 4, 4, 5, 6, 7]):
        assert torch.equal(after[k], before[place])
    (record,) = caplog.records
    assert f"{folder}/b.flac: cannot be read (Is a directory)" in record.getMessage()
    assert "of different audio" in record.getMessage()
    with pytest.raises(DataError, match=r"b\.flac"):
        strict[2]


def test_another_recording_in_the_place_of_a_member_is_not_read_for_it(tmp_path):
    contents = {}
    for k, name in enumerate(["a.wav", "b.wav", "x" * 120 + ".wav"]):
        soundfile.write(sound := io.BytesIO(), np.full(RATE, 0.1 * k), RATE, format="WAV")
        contents[name] = sound.getvalue()

    def write(names: list[str]) -> None:
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(contents[name])
                tar.addfile(member, io.BytesIO(contents[name]))

    a, b, long = contents
    write([a, b, long])
    files = index([tmp_path / "x.tar"]).files
    for k, file in enumerate(files):
        assert read_audio(file, RATE).max() == pytest.approx(0.1 * k, abs=1e-4)
    write([b, a, long])
    for file in files[:2]:
        with pytest.raises(DataError, match=rf"{file.member}: is no longer at its place"):
            read_audio(file, RATE)
    assert read_audio(files[2], RATE).max() == pytest.approx(0.2, abs=1e-4)
