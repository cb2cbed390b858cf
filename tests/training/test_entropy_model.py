"""The entropy model that training leaves in a checkpoint, and that it changes nothing else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import discrete_ae
from discrete_ae.build import read_saved, restore
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.data import AudioDataModule
from discrete_ae.errors import DataError
from discrete_ae.saving.bundle import write_bundle
from discrete_ae.saving.checkpoint import KEY, read_training_state
from tests.runs import same, state_of

TWO = ("trainer.max_steps=2", "trainer.val_check_interval=2")


@pytest.mark.parametrize("averaged", [False, True], ids=["raw", "averaged"])
def test_it_is_fitted_to_the_codes_of_the_first_crops(
    averaged: bool, run_training: Callable[..., Path], recordings: Path
) -> None:
    run = run_training(
        *TWO, "callbacks.entropy_model.max_seconds=1", *(["callbacks.ema.decay=0.9"] if averaged else [])
    )
    model = discrete_ae.load(run / "checkpoints" / "last.ckpt")  # with averaged weights, where there are any
    data = AudioDataModule(
        root=str(recordings), validation_root=None, sample_rate=16000, channels=1, crop_seconds=0.2, batch_size=2
    )
    data.setup()
    # A second is five crops of 0.2 s; one at a time, where the callback takes batches of two.
    crops = [data.training_crops[number][None] for number in range(5)]
    with torch.no_grad():
        codes = [model.quantizer.encode(model.latents(crop)).numpy() for crop in crops]
    assert model.entropy_model is not None
    assert model.entropy_model.fingerprint == EntropyModel.fit(codes, [256, 256]).fingerprint


def test_training_goes_on_as_without(ste_run: Path, run_training: Callable[..., Path]) -> None:
    steps = ("trainer.max_steps=4", "trainer.val_check_interval=2")
    bare, whole = state_of(run_training(*steps, "callbacks.entropy_model=null")), state_of(ste_run)
    assert "entropy_model" not in bare[KEY]
    assert "entropy_model" in whole[KEY]
    assert same(bare["state_dict"], whole["state_dict"])
    assert bare[KEY]["model_hash"] == whole[KEY]["model_hash"]  # which does not cover it


OF_ANOTHER = EntropyModel.fit([np.zeros((1, 3, 9), np.int64)], [256] * 3).to_arrays()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda arrays: arrays.pop("base"), "its entropy model is damaged"),
        (lambda arrays: arrays.update(base="text"), "its entropy model is damaged"),
        (lambda arrays: arrays["codebook_sizes"].fill_(7), "entropy model"),
        (lambda arrays: arrays["base"].fill_(-1), "its entropy model is damaged"),
        (
            lambda arrays: arrays.update({name: torch.from_numpy(array) for name, array in OF_ANOTHER.items()}),
            "entropy model does not match its quantizer",
        ),
    ],
    ids=["missing", "text", "sizes", "negative", "another"],
)
def test_damage_is_one_line(change: Callable[[dict], object], reason: str, ste_run: Path, tmp_path: Path) -> None:
    content = state_of(ste_run)
    change(content[KEY]["entropy_model"])
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(DataError, match=reason) as refused:
        discrete_ae.load(tmp_path / "x.ckpt")
    assert "\n" not in str(refused.value)


def test_a_run_starts_from_a_bundle_but_does_not_go_on_with_one(
    ste_run: Path, run_training: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    checkpoint = ste_run / "checkpoints" / "last.ckpt"
    saved = read_saved(checkpoint)
    write_bundle(tmp_path / "model", saved, restore(checkpoint, saved))
    one = ("trainer.max_steps=1", "trainer.val_check_interval=1", "optim.optimizer.lr=0")
    run = run_training(f"init_from={tmp_path}/model", *one)
    assert discrete_ae.load(run / "checkpoints" / "last.ckpt").model_hash == saved.model_hash
    run_training(f"ckpt_path={tmp_path}/model", status=1)
    assert "has no training state" in capsys.readouterr().err


def test_a_run_goes_on_with_a_checkpoint_of_a_run_alone(ste_run: Path, tmp_path: Path) -> None:
    content = state_of(ste_run)
    for kept in ((KEY, "state_dict"), (KEY, "state_dict", "loops", "lr_schedulers")):
        torch.save({name: content[name] for name in kept}, tmp_path / "x.ckpt")
        with pytest.raises(DataError, match=r"x\.ckpt: .*optimizer_states is missing"):
            read_training_state(tmp_path / "x.ckpt")
