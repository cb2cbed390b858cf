"""A disk that is full, or fails, ends training in one line, with a whole checkpoint to go on from."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.compat.tensorflow_stub.io import gfile

from discrete_ae.training.callbacks import checkpoints
from tests.runs import errors, state_of

SHORT = ("trainer.max_steps=3", "trainer.val_check_interval=1")

Train = Callable[..., Path]


def full_from(patch: pytest.MonkeyPatch, owner: object, name: str, call: int) -> None:
    """Let a function that writes fail from one of its calls on, as the system does where the disk is full."""
    usual, calls = getattr(owner, name), []

    def write(*arguments: object, **named: object) -> object:
        calls.append(arguments)
        if len(calls) >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return usual(*arguments, **named)

    patch.setattr(owner, name, write)


def ended(capsys: pytest.CaptureFixture) -> str:
    (line,) = errors(capsys.readouterr().err)
    return line


@pytest.mark.parametrize("call", [1, 3, 8])
def test_events_that_cannot_be_written(
    call: int, run_training: Train, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # in the thread that TensorBoard writes in
        full_from(patch, gfile.LocalFileSystem, "append", call)
        run_training(*SHORT, run_dir=tmp_path / "run", status=1)
    line = ended(capsys)
    assert line.startswith(f"error: {tmp_path}/run: No space left on device; free some space")
    if found := re.search(r"ckpt_path=(\S+)", line):
        run_training(*SHORT, found[0], run_dir=tmp_path / "again")
    else:
        run_training(*SHORT, *(["force=true"] if "force=true" in line else []), run_dir=tmp_path / "run")


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    run_training: Train, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = checkpoints.write_whole

    def write_whole(target: Path, content: bytes) -> None:
        if target.name == "last.ckpt" and target.exists():
            half = bytes(content)[: len(content) // 2]
            monkeypatch.setattr(Path, "write_bytes", lambda self, _: usual_write(self, half) and full())
        usual(target, content)

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    usual_write = Path.write_bytes
    monkeypatch.setattr(checkpoints, "write_whole", write_whole)
    run = run_training(*SHORT, run_dir=tmp_path, status=1)
    line = ended(capsys)
    last = run / "checkpoints" / "last.ckpt"
    assert line.startswith(f"error: {last}: No space left on device; free some space")
    assert f"to resume: ckpt_path={last}" in line
    assert state_of(run)["global_step"] == 1
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_a_configuration_that_cannot_be_written_leaves_the_folder_free(
    run_training: Train, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        usual = Path.open

        def opened(self: Path, mode: str = "r", *arguments: object, **named: object) -> object:
            if self.name == "config.yaml" and "x" in mode:
                self.touch()
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return usual(self, mode, *arguments, **named)

        patch.setattr(Path, "open", opened)
        run_training(*SHORT, run_dir=tmp_path, status=1)
    assert ended(capsys).startswith(f"error: {tmp_path}: Input/output error; check the disk")
    run_training(*SHORT, run_dir=tmp_path)


def test_a_continued_run_keeps_its_configuration_on_a_full_disk(
    run_training: Train, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_training("trainer.max_steps=1", run_dir=tmp_path)
    before = (run / "config.yaml").read_bytes()
    last = run / "checkpoints" / "last.ckpt"
    with monkeypatch.context() as patch:
        full_from(patch, Path, "write_bytes", 1)
        run_training(*SHORT, f"ckpt_path={last}", run_dir=run, status=1)
    assert f"{run}/config.yaml: No space" in (line := ended(capsys))
    assert f"ckpt_path={last}" in line
    assert (run / "config.yaml").read_bytes() == before


def test_shared_memory_without_room(
    run_training: Train, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_0>: Success (0)")

    monkeypatch.setattr("lightning.pytorch.Trainer.validate", lambda *_, **__: full())
    run_training(*SHORT, status=1)
    assert ended(capsys).startswith("error: /dev/shm: no room for batches")


def test_checkpoints_do_not_go_through_tmpdir(run_training: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkstemp", lambda *_, **__: pytest.fail("a file in TMPDIR"))
    assert state_of(run_training("trainer.max_steps=1"))["global_step"] == 1
