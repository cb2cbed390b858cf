"""Training and its logs, against recomputations from the checkpoint and the recordings."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

import discrete_ae
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.quantizers import Quantizer, ScalarQuantizer, VectorQuantizer
from discrete_ae.training import AutoencoderModule
from tests.runs import events_of, same, scalars, state_of, watch


def weights_of(run: Path) -> dict[str, Tensor]:
    return state_of(run)["state_dict"]


@pytest.fixture(scope="module")
def validation_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of which one channel-segment in three is silent; five segments of 0.2 s, in batches of two."""
    root = tmp_path_factory.mktemp("validation")
    random = np.random.default_rng(4)
    for name, segments, level in (("a", 3, 0.1), ("b", 1, 0.0), ("c", 1, 0.02)):
        soundfile.write(root / f"{name}.wav", level * random.standard_normal(3200 * segments), 16000, subtype="FLOAT")
    return root


def si_sdr_by_formula(found: np.ndarray, target: np.ndarray) -> float:
    scaled = (found @ target) / (target @ target) * target
    return 10 * math.log10((scaled @ scaled) / ((scaled - found) @ (scaled - found)))


@pytest.mark.parametrize("quantizer", ["linear quantizer.rounding.hard=false", "gumbel"])  # both soft in training
def test_validation_equals_what_the_checkpoint_does_offline(
    quantizer: str, validation_root: Path, run_training: Callable[..., Path]
) -> None:
    run = run_training(
        *f"quantizer={quantizer}".split(),
        "data.max_validation_segments=8",
        f"data.validation_root={validation_root}",
        "trainer.max_steps=4",
        "trainer.val_check_interval=2",
    )
    config = OmegaConf.load(run / "config.yaml")
    data, loss = instantiate(config.data), instantiate(config.loss)
    data.setup()
    segments = torch.cat(list(data.val_dataloader()))
    assert len(segments) == 5
    model = discrete_ae.load(run / "checkpoints" / "last.ckpt")
    codes = model.encode(segments)
    reconstruction = model.decode(codes, segments.shape[-1])  # through integers, as a user decodes
    values = loss(reconstruction, segments, {})
    assert scalars(run, "val/reconstruction")[4] == pytest.approx(values.reconstruction.item(), rel=1e-4)
    for name, value in values.terms.items():
        assert scalars(run, f"val/{name}")[4] == pytest.approx(value.item(), rel=1e-4)
    audible = [(r[0].double().numpy(), t[0].double().numpy()) for r, t in zip(reconstruction, segments, strict=True)]
    ratios = [si_sdr_by_formula(found, target) for found, target in audible if target.any()]
    assert len(ratios) == 4
    assert min(ratios) > -60  # single precision resolves no more: otherwise give the recordings another seed
    assert scalars(run, "val/si_sdr_db")[4] == pytest.approx(sum(ratios) / len(ratios), abs=1e-3)
    used = [len(codebook.unique()) / 256 for codebook in codes.transpose(0, 1)]
    assert scalars(run, "val/codes/usage")[4] == pytest.approx(sum(used) / len(used))
    # The training-time forward gives something else, under its own tag.
    assert scalars(run, "val/soft_reconstruction")[4] != scalars(run, "val/reconstruction")[4]


@pytest.mark.parametrize("quantizer", ["gumbel", "vq quantizer.ema_decay=0.9"])  # noise; a codebook that learns
def test_validation_does_not_disturb_training_nor_training_validation(
    quantizer: str, run_training: Callable[..., Path]
) -> None:
    given = (*f"quantizer={quantizer}".split(), "trainer.max_steps=4", "callbacks.clips.count=1")
    often, seldom = (run_training(*given, f"trainer.val_check_interval={interval}") for interval in (2, 4))
    assert same(weights_of(often), weights_of(seldom))
    tags = {"val/reconstruction", "val/soft_reconstruction", "val/si_sdr_db", "val/codes/perplexity"}
    for tag in tags & set(events_of(seldom).Tags()["scalars"]):
        expected = scalars(seldom, tag)
        assert expected.items() <= scalars(often, tag).items()
        assert set(expected) == {0, 4}


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the generator's seed in each training step, while other code draws numbers from the generator."""
    step = AutoencoderModule.training_step
    found: list[int] = []

    def training_step(self: AutoencoderModule, *arguments: object) -> dict[str, Tensor]:
        torch.rand(len(found) + 1)
        outputs = step(self, *arguments)
        found.append(torch.initial_seed())
        return outputs

    monkeypatch.setattr(AutoencoderModule, "training_step", training_step)
    return found


def test_noise_is_a_function_of_seed_and_step(run_training: Callable[..., Path], seeds: list[int]) -> None:
    steps = ("quantizer=gumbel", "trainer.max_steps=2", "trainer.val_check_interval=2")
    first = run_training(*steps, "seed=1")
    of_first, seeds[:] = seeds[:], [0] * 5  # so that the second run finds the generator elsewhere
    second = run_training(*steps, "seed=1")
    assert seeds[5:] == of_first
    assert scalars(first, "train/loss") == scalars(second, "train/loss")
    assert same(weights_of(first), weights_of(second))
    run_training(*steps, "seed=2")
    assert len({*of_first, *seeds[7:]}) == 4  # no two alike among the steps of two seeds


def test_mixed_precision_trains_and_the_quantizer_sees_float32(
    run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = watch(monkeypatch, Quantizer, "forward", lambda _, latents: latents.dtype)
    network = watch(monkeypatch, DiscreteAutoencoder, "reconstruct", lambda *_: torch.is_autocast_enabled("cpu"))
    seen = watch(monkeypatch, ScalarQuantizer, "quantize", lambda _, x: (x.dtype, torch.is_autocast_enabled("cpu")))
    # Codes are counted after the validation, outside autocast.
    steps = ("trainer.max_steps=4", "trainer.val_check_interval=4", "callbacks.entropy_model=null")
    run = run_training("trainer.precision=bf16-mixed", *steps)
    assert set(network) == {True}  # the network does compute in half precision
    assert set(given) == {torch.float32}
    assert set(seen) == {(torch.float32, False)}
    assert all(math.isfinite(value) for value in scalars(run, "train/loss").values())
    assert all(tensor.dtype == torch.float32 for tensor in weights_of(run).values() if tensor.is_floating_point())


def test_soft_quantizer_is_copied_once_a_validation_and_the_same_for_every_batch(
    run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = watch(monkeypatch, AutoencoderModule, "_soft_quantizer", lambda module: module.global_step)
    moved = watch(
        monkeypatch,
        VectorQuantizer,
        "quantize",
        lambda one, _: (one.training and not torch.is_grad_enabled(), one.codebooks.detach().clone()),
    )
    steps = ("trainer.max_steps=1", "trainer.val_check_interval=1", "callbacks.entropy_model=null")
    run_training("quantizer=diveq", *steps)
    assert copied == [0, 1]
    seen = [codebooks for is_soft, codebooks in moved if is_soft]
    assert len(seen) == 4  # two batches in each of two validations
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    assert not torch.equal(seen[0], seen[2])


def test_codes_of_training_are_those_of_all_steps_since_the_last_log(
    run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted = watch(monkeypatch, AutoencoderModule, "_log_training", lambda _, values, codes: codes)
    run = run_training(
        "trainer.accumulate_grad_batches=2",
        "trainer.log_every_n_steps=2",
        "trainer.max_steps=4",
        "trainer.val_check_interval=4",
    )
    assert len(emitted) == 8  # two batches a step
    found = scalars(run, "train/codes/perplexity")
    assert len(found) == 2
    for k, value in enumerate(found.values()):
        codes = torch.cat(emitted[4 * k : 4 * k + 4])  # two steps
        perplexities = []
        for codebook in codes.transpose(0, 1):
            shares = torch.bincount(codebook.flatten()).double() / codebook.numel()
            perplexities.append(torch.exp(-(shares[shares > 0] * shares[shares > 0].log()).sum()).item())
        assert value == pytest.approx(sum(perplexities) / len(perplexities), rel=1e-5)


def test_debug_overfit_has_the_same_batch_in_every_step(
    run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    batches = watch(monkeypatch, AutoencoderModule, "training_step", lambda _, audio, index: audio.clone())
    run = run_training("debug=overfit", "trainer.max_steps=4", "trainer.val_check_interval=2")
    assert len(batches) == 4
    assert all(torch.equal(batch, batches[0]) for batch in batches)
    assert set(scalars(run, "val/reconstruction")) == {0, 2, 4}
    (_, trained), (_, validated) = (max(scalars(run, f"{stage}/reconstruction").items()) for stage in ("train", "val"))
    told = f"reached: reconstruction {trained:.4f} on the batches that it trains on, {validated:.4f} on validation"
    assert told in capsys.readouterr().out
