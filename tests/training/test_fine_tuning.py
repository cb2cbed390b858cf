"""Runs that begin with parts of another, and leave parts as they are: what is taken, and that codes stay valid."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import discrete_ae
from discrete_ae.errors import DataError
from discrete_ae.training import AutoencoderModule
from tests.runs import SHARPENED, TINY, errors, scalars, state_of, watch
from tests.test_build import named_hash

Train = Callable[..., Path]
AVERAGES = ("quantizer=ema_rvq", "quantizer.num_stages=2", "quantizer.stage.k_means_steps=2", "quantizer.dropout=0.5")
"""Codebooks that every training forward moves, of entries that are replaced, and items from fewer stages."""
SHORT = ("trainer.max_steps=3", "trainer.val_check_interval=3")
FAST = ("optim.optimizer.lr=0.01", "optim.optimizer.weight_decay=0.5", "optim.scheduler.warmup_steps=0")
STILL = ("trainer.max_steps=1", "trainer.val_check_interval=1", "optim.optimizer.lr=0")
"""Weights stay as the run begins with them."""


def last(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def tensors(run: Path, *modules: str) -> dict[str, Tensor]:
    """Return the tensors of some modules of a run's model, or all tensors of its checkpoint."""
    prefixes = tuple(f"model.{module}." for module in modules)
    return {name: tensor for name, tensor in state_of(run)["state_dict"].items() if name.startswith(prefixes or "")}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@pytest.fixture(scope="module")
def old(run_training: Train) -> Path:
    return run_training(*AVERAGES, *SHORT)


@pytest.fixture(scope="module")
def tuned(old: Path, run_training: Train) -> Path:
    """Train the decoder of the old run further."""
    given = ("freeze=[encoder,quantizer]", f"init_from={last(old)}", "callbacks.ema.decay=0.9", "seed=5")
    return run_training(*AVERAGES, *SHORT, *FAST, *given)


def test_all_but_the_decoder_keeps_its_values_to_the_last_bit(old: Path, tuned: Path) -> None:
    coding, decoding = ("encoder", "to_latents", "quantizer"), ("from_latents", "decoder")
    assert changed(tensors(old, *coding), tensors(tuned, *coding)) == set()
    found = tensors(old, *decoding)
    assert changed(found, tensors(tuned, *decoding)) == set(found)
    (group,) = state_of(tuned)["optimizer_states"][0]["param_groups"]
    assert len(group["params"]) == len(found)
    assert len(state_of(tuned)["raw_weights"]) == len(found)


@pytest.mark.parametrize("format", ["npz", "daec", "npy"])
def test_files_of_codes_are_those_of_both_models(
    format: str, old: Path, tuned: Path, recordings: Path, command: Callable, tmp_path: Path
) -> None:
    clip, files = recordings / "clip_3.wav", {}
    for name, run in (("old", old), ("new", tuned)):
        path = tmp_path / f"{name}.{format}"
        assert command("encode", clip, "-o", path, "-c", last(run))[::2] == (0, [])
        files[name] = path.read_bytes()
    if format != "npz":  # a zip holds the time
        assert files["old"] == files["new"]
    for name, run in (("old", tuned), ("new", old), ("old", old)):
        audio = tmp_path / f"{name}-{run.name}.wav"
        assert command("decode", tmp_path / f"{name}.{format}", "-o", audio, "-c", last(run))[::2] == (0, [])
    assert (tmp_path / f"old-{tuned.name}.wav").read_bytes() != (tmp_path / f"old-{old.name}.wav").read_bytes()


def test_the_hash_of_what_makes_codes_is_that_of_all_but_the_decoder(old: Path, tuned: Path) -> None:
    before, after = (discrete_ae.load(last(run)) for run in (old, tuned))
    config = state_of(old)["discrete_ae"]["model"]
    told = hashlib.sha256()
    for name, tensor in sorted(tensors(old, "encoder", "quantizer", "to_latents").items()):
        values = tensor.numpy()
        told.update(f"{name.removeprefix('model.')} {values.shape}\n".encode() + values.astype("<f4").tobytes())
    coding = {key: config[key] for key in ("_target_", "sample_rate", "encoder", "quantizer")}
    told.update(json.dumps(coding, sort_keys=True, separators=(",", ":")).encode())
    assert before.codes_hash == after.codes_hash == told.hexdigest()
    assert before.model_hash != after.model_hash
    assert before.entropy_model.fingerprint == after.entropy_model.fingerprint


def test_codes_of_another_encoder_are_refused_and_those_that_name_the_whole_model_are_not(
    old: Path, tuned: Path, run_training: Train, recordings: Path
) -> None:
    other = run_training(*AVERAGES, *SHORT, *FAST, "freeze=[quantizer,decoder]", f"init_from={last(old)}")
    coding = ("quantizer", "from_latents", "decoder")
    assert changed(tensors(old, *coding), tensors(other, *coding)) == set()
    assert changed(tensors(old, "encoder", "to_latents"), tensors(other, "encoder", "to_latents"))
    codecs = {run: discrete_ae.Codec(discrete_ae.load(last(run))) for run in (old, tuned, other)}
    codes = codecs[old].encode_file(recordings / "clip_0.wav")
    codecs[tuned].decode_file(codes)
    with pytest.raises(DataError, match=f"codes of another model .hash {codes.model_hash[:12]}.*--force"):
        codecs[other].decode_file(codes)
    by_whole_model = codes.model_copy(update={"model_hash": codecs[old].model.model_hash})
    np.testing.assert_array_equal(codecs[old].decode_file(by_whole_model), codecs[old].decode_file(codes))
    with pytest.raises(DataError, match="codes of another model"):  # which says nothing of how they were made
        codecs[tuned].decode_file(by_whole_model)


def emits_its_codes(module: AutoencoderModule, audio: Tensor, _: int) -> bool:
    quantizer = module.model.quantizer
    quantized = quantizer(module.model.latents(audio))
    return torch.equal(quantized.latents, quantizer.decode(quantized.codes)) and not quantized.losses


def test_a_frozen_part_of_an_earlier_version_keeps_its_hash(
    old: Path, run_training: Train, recordings: Path, tmp_path: Path
) -> None:
    """The earlier version has no codebook dropout, so its configuration does not name it."""
    content = torch.load(last(old), weights_only=True)
    about = content["discrete_ae"]
    del about["model"]["quantizer"]["dropout"], about["entropy_model"]
    about["model_hash"] = named_hash(content)
    torch.save(content, tmp_path / "earlier.ckpt")
    run = run_training(*AVERAGES, *SHORT, "freeze=[quantizer,encoder]", f"init_from={tmp_path}/earlier.ckpt")
    earlier, tuned = (discrete_ae.load(path) for path in (tmp_path / "earlier.ckpt", last(run)))
    assert tuned.codes_hash == earlier.codes_hash != discrete_ae.load(last(old)).codes_hash
    discrete_ae.Codec(tuned).decode_file(discrete_ae.Codec(earlier).encode_file(recordings / "clip_0.wav"))
    # It goes on so, too.
    run = run_training(*AVERAGES, "trainer.max_steps=4", "freeze=[quantizer,encoder]", f"ckpt_path={last(run)}")
    assert discrete_ae.load(last(run)).codes_hash == earlier.codes_hash


def test_what_is_frozen_computes_as_in_evaluation(run_training: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rounding is soft in training, and hard at the end."""
    exact = watch(monkeypatch, AutoencoderModule, "training_step", emits_its_codes)
    begun = run_training(*SHARPENED, *SHORT)
    assert scalars(begun, "val/soft_hard_gap")[0] != 0
    run = run_training(*SHARPENED, *SHORT, "freeze=[encoder,quantizer]", f"init_from={last(begun)}")
    assert exact == [False] * 3 + [True] * 3
    assert set(scalars(run, "val/soft_hard_gap").values()) == {0}
    assert list(scalars(run, "train/schedule/quantizer.rounding.hard").values()) == [0, 0, 1]


def test_a_frozen_run_goes_on_with_the_same_parts_alone(
    old: Path, tuned: Path, run_training: Train, capsys: pytest.CaptureFixture
) -> None:
    given = (*AVERAGES, f"ckpt_path={last(tuned)}", "trainer.max_steps=4", "callbacks.ema.decay=0.9", "seed=5")
    run = run_training(*given, "freeze=[quantizer,encoder]")
    coding = ("encoder", "to_latents", "quantizer")
    assert changed(tensors(old, *coding), tensors(run, *coding)) == set()
    assert (
        discrete_ae.load(last(run)).entropy_model.fingerprint == discrete_ae.load(last(old)).entropy_model.fingerprint
    )
    capsys.readouterr()
    run_training(*given, status=1)
    (line,) = errors(capsys.readouterr().err)
    assert line.startswith(f"error: {last(tuned)}: comes from a run with freeze=[encoder,quantizer]; ")


@pytest.mark.parametrize(
    ("given", "status", "told"),
    [
        ("freeze=[encoder,quantizer,decoder]", 2, "freeze: nothing is left to train besides encoder, quantizer"),
        ("freeze=[encoder,decoder]", 2, "nothing is left to train besides encoder, decoder"),
        ("freeze=[vocoder]", 2, "freeze: expected 'encoder', 'quantizer' or 'decoder', got 'vocoder'"),
        ("freeze=vocoder", 2, "freeze: expected 'encoder', 'quantizer' or 'decoder', got 'vocoder'"),
        ("freeze=2", 2, "freeze: expected a list, got 2"),
        ("freeze=[quantizer] init_from={old} quantizer.num_stages=1", 2, "freeze: quantizer.num_stages is 2 in "),
        ("freeze=encoder init_from={old} model.encoder.dim=24", 2, "freeze: model.encoder.dim is 16 in "),
        (
            "freeze=[encoder] init_from={old} model.sample_rate=8000 data.sample_rate=8000",
            2,
            "sample_rate is 16000 in ",
        ),
        ("freeze=[encoder] init_from={old} quantizer.stage.codebook_dim=4", 2, "freeze: the encoder of "),
    ],
)
def test_what_cannot_be_frozen_is_one_line(
    given: str, status: int, told: str, old: Path, run_training: Train, capsys: pytest.CaptureFixture
) -> None:
    run_training(*AVERAGES, *SHORT, *given.format(old=last(old)).split(), status=status)
    (line,) = errors(capsys.readouterr().err)
    assert told in line


def taken_by(run_training: Train, capsys: pytest.CaptureFixture, *given: str) -> tuple[Path, str]:
    """A run of one step without a learning rate, and what it said of the model that it began with."""
    run = run_training(*STILL, *given)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "init_from: " in line)
    return run, line.partition("init_from: ")[2]


def test_another_quantizer_of_other_channels_keeps_encoder_and_decoder(
    old: Path, run_training: Train, capsys: pytest.CaptureFixture
) -> None:
    run, said = taken_by(run_training, capsys, "quantizer=ste", "quantizer.levels=[5,5,5]", f"init_from={last(old)}")
    encoder, decoder, quantizer = (len(tensors(old, part)) for part in ("encoder", "decoder", "quantizer"))
    # The maps to latents and back have a weight and a bias each, and other channels.
    assert said == (
        f"took encoder ({encoder} of {encoder + 2} tensors), decoder ({decoder} of {decoder + 2} tensors); "
        f"left encoder (2 tensors), quantizer (ResidualQuantizer, {quantizer} tensors), decoder (2 tensors); "
        "new: encoder (2 tensors), decoder (2 tensors), quantizer (ScalarQuantizer, 0 tensors)"
    )
    assert changed(tensors(old, "encoder", "decoder"), tensors(run, "encoder", "decoder")) == set()


def test_a_trained_quantizer_that_does_not_fit_is_missed_with_a_warning(
    old: Path, run_training: Train, capfd: pytest.CaptureFixture
) -> None:
    def warned(*overrides: str) -> list[str]:
        run_training("trainer.max_steps=1", f"init_from={last(old)}", *overrides)
        return [line for line in capfd.readouterr().err.splitlines() if "a new one is trained" in line]

    same = ("quantizer=rvq", "quantizer.stage.codebook_size=16", "quantizer.stage.codebook_dim=4")
    assert len(warned(*same, "num_codebooks=1")) == 1
    assert warned("quantizer=ste") == []  # another quantizer is meant


@pytest.mark.parametrize(("lr", "is_worse"), [("10", True), ("0", False)])
def test_a_training_that_only_harms_the_old_weights_says_so(
    old: Path, run_training: Train, capfd: pytest.CaptureFixture, lr: str, is_worse: bool
) -> None:
    given = (*AVERAGES, *SHORT, f"init_from={last(old)}", "freeze=quantizer", "optim.scheduler.warmup_steps=0")
    run_training(*given, f"optim.optimizer.lr={lr}")
    assert ("weights of init_from= are better" in capfd.readouterr().err) is is_worse


def test_an_adversarial_training_is_not_judged_by_its_reconstruction(
    old: Path, run_training: Train, capfd: pytest.CaptureFixture
) -> None:
    given = (*TINY, *AVERAGES, *SHORT, f"init_from={last(old)}", "freeze=quantizer", "optim.scheduler.warmup_steps=0")
    run = run_training(*given, "optim.optimizer.lr=10")  # best.ckpt has an earlier step
    out, err = capfd.readouterr()
    assert "weights of init_from= are better" not in err
    assert (run / "checkpoints" / "best.ckpt").exists()
    for line in out[out.index("checkpoint: ") :].splitlines():
        assert "best.ckpt" not in line
    assert out.count(str(run / "checkpoints" / "last.ckpt")) == 2  # named, and given to encode


def test_a_deeper_network_begins_with_the_layers_that_there_were(
    old: Path, run_training: Train, capsys: pytest.CaptureFixture
) -> None:
    run, said = taken_by(run_training, capsys, *AVERAGES, "model.encoder.depth=2", f"init_from={last(old)}")
    before, after = tensors(old, "encoder"), tensors(run, "encoder")
    more = len(after) - len(before)
    assert said.startswith(f"took encoder ({len(before) + 2} of {len(after) + 2} tensors), quantizer (")
    assert said.endswith(f"; new: encoder ({more} tensors)")
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_an_adversarial_run_hands_its_discriminators_on(run_training: Train, capsys: pytest.CaptureFixture) -> None:
    begun = run_training(*TINY, "loss.adversary.begin_step=0", *SHORT)
    still = "optim.discriminator_optimizer.lr=0"
    run, said = taken_by(run_training, capsys, *TINY, still, "seed=3", f"init_from={last(begun)}")
    before, after = state_of(begun)["state_dict"], state_of(run)["state_dict"]
    judges = {name for name in before if name.startswith("loss.adversary.")}
    assert changed(before, after) == set()
    assert said.endswith(f", discriminators ({len(judges)} tensors)")
    _, said = taken_by(run_training, capsys, f"init_from={last(begun)}")
    assert said.endswith(f"; left discriminators ({len(judges)} tensors)")
    # Of other discriminators those that are the same.
    more = "loss.adversary.discriminators.periods.periods=[2,3]"
    _, said = taken_by(run_training, capsys, *TINY, more, f"init_from={last(begun)}")
    assert f"discriminators ({len(judges)} of " in said
    assert "; new: discriminators (" in said
