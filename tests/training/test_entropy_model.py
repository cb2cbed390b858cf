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
from discrete_ae.saving.checkpoint import KEY
from tests.runs import state_of

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
    bare = state_of(
        run_training(
            "quantizer=ste", "trainer.max_steps=4", "trainer.val_check_interval=2", "callbacks.entropy_model=null"
        )
    )
    whole = state_of(ste_run)
    assert "entropy_model" not in bare[KEY]
    assert "entropy_model" in whole[KEY]
    assert all(torch.equal(tensor, whole["state_dict"][name]) for name, tensor in bare["state_dict"].items())
    assert bare[KEY]["model_hash"] == whole[KEY]["model_hash"]  # which does not cover it


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda arrays: arrays.pop("base"), "its entropy model is damaged"),
        (lambda arrays: arrays.update(base="text"), "its entropy model is damaged"),
        (lambda arrays: arrays["codebook_sizes"].fill_(7), "entropy model"),
        (lambda arrays: arrays["base"].fill_(-1), "its entropy model is damaged"),
    ],
    ids=["missing", "text", "sizes", "negative"],
)
def test_damage_is_one_line(change: Callable[[dict], object], reason: str, ste_run: Path, tmp_path: Path) -> None:
    content = state_of(ste_run)
    change(content[KEY]["entropy_model"])
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(DataError, match=reason) as refused:
        discrete_ae.load(tmp_path / "x.ckpt")
    assert len(str(refused.value).splitlines()) == 1


def test_that_of_another_quantizer_is_refused(ste_run: Path, tmp_path: Path) -> None:
    content = state_of(ste_run)
    other = EntropyModel.fit([np.zeros((1, 3, 9), np.int64)], [256] * 3).to_arrays()
    content[KEY]["entropy_model"] = {name: torch.from_numpy(array) for name, array in other.items()}
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(DataError, match="its entropy model is not that of its quantizer"):
        discrete_ae.load(tmp_path / "x.ckpt")


def test_a_run_starts_from_a_bundle_but_does_not_go_on_with_one(
    ste_run: Path, run_training: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    checkpoint = ste_run / "checkpoints" / "last.ckpt"
    saved = read_saved(checkpoint)
    write_bundle(tmp_path / "model", saved, restore(checkpoint, saved))
    run = run_training(
        f"init_from={tmp_path}/model", "trainer.max_steps=1", "trainer.val_check_interval=1", "optim.optimizer.lr=0"
    )
    assert discrete_ae.load(run / "checkpoints" / "last.ckpt").model_hash == saved.model_hash

    content = state_of(ste_run)
    bare = {name: content[name] for name in (KEY, "state_dict")}
    torch.save(bare, tmp_path / "bare.ckpt")
    del content["optimizer_states"]
    torch.save(content, tmp_path / "weights.ckpt")
    for name, words in (
        ("model", "holds no state of a run"),
        ("bare.ckpt", "without the state of its run (optimizer_states is missing)"),
        ("weights.ckpt", "without the state of its run (optimizer_states is missing)"),
        ("none.ckpt", "no such checkpoint"),
        (ste_run, "give checkpoints/best.ckpt or checkpoints/last.ckpt in it"),
    ):
        capsys.readouterr()
        run_training(f"ckpt_path={tmp_path / name}", "trainer.max_steps=5", status=1)
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1
        assert words in errors[0]
