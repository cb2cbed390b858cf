"""`discrete-ae export` from the command line to the folder, and what else takes the folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import discrete_ae
from discrete_ae.codes import read_codes
from discrete_ae.saving.saved import model_hash
from discrete_ae.schedules import scheduled_numbers
from tests.models import RESIDUAL, save_checkpoint
from tests.recordings import write_noise
from tests.scripts import python_in


@pytest.fixture
def run(command, tmp_path, monkeypatch):
    """Run `discrete-ae` in a folder with a checkpoint."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Path("best.ckpt"))
    return command


def names():
    return sorted(path.name for path in Path("model").iterdir())


def test_exported_folder_does_what_the_checkpoint_does(run):
    said = ("--license", "mit", "--trained-on", "two words | of Ann")
    assert run("export", "best.ckpt", "-o", "model", *said) == (0, ["model: " + ", ".join(names())], [])
    assert names() == ["README.md", "config.json", "model.safetensors"]
    assert json.loads(Path("model/config.json").read_text())["licence"] == "mit"
    assert "| training data | two words \\| of Ann |" in Path("model/README.md").read_text()
    write_noise("x.wav")
    for model in ("best.ckpt", "model"):
        assert run("encode", "x.wav", "-o", f"{model}.npz", "-c", model, "--device", "cpu")[0] == 0
    assert Path("best.ckpt.npz").read_bytes() == Path("model.npz").read_bytes()
    before = discrete_ae.load("best.ckpt").model_hash
    assert run("export", "model", "-o", "model", "--force", "--licence", "new")[0] == 0  # onto itself
    assert discrete_ae.load("model").model_hash == before


def test_half_precision_takes_half_of_the_space_and_is_a_model_of_its_own(run):
    assert run("export", "best.ckpt", "-o", "whole")[::2] == (0, [])
    assert run("export", "best.ckpt", "-o", "model", "--half")[::2] == (0, [])
    whole, half = (safetensors.torch.load_file(Path(name, "model.safetensors")) for name in ("whole", "model"))
    assert {tensor.dtype for tensor in half.values()} == {torch.float16}
    assert "| weights | float16 |" in Path("model/README.md").read_text()
    assert "| weights | float32 |" in Path("whole/README.md").read_text()
    assert all(torch.equal(half[name], whole[name].to(torch.float16)) for name in whole)
    assert discrete_ae.load("model").model_hash != discrete_ae.load("whole").model_hash
    assert all(parameter.dtype == torch.float32 for parameter in discrete_ae.load("model").parameters())
    checkpoint = torch.load("best.ckpt")
    name = next(name for name in checkpoint["state_dict"] if name.endswith("bias"))
    checkpoint["state_dict"][name][0] = 70000.0  # float16 ends at 65504
    model = {name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items()}
    checkpoint["discrete_ae"]["model_hash"] = model_hash(model, checkpoint["discrete_ae"]["model"])
    torch.save(checkpoint, "large.ckpt")
    status, _, (line,) = run("export", "large.ckpt", "-o", "large", "--half")
    assert (status, "above 65504" in line) == (1, True), line
    assert not Path("large").exists()


@pytest.mark.slow
def test_programs_are_written_and_described(run):
    pytest.importorskip("onnxruntime")
    status, out, err = run("export", "best.ckpt", "-o", "model", "--onnx", "--torch-export")
    assert (status, err) == (0, [])
    programs = ["decoder.onnx", "decoder.pt2", "encoder.onnx", "encoder.pt2"]
    assert names() == ["README.md", "config.json", *programs, "model.safetensors"]
    assert [line.split(":")[0] for line in out] == ["model", "ONNX", "torch.export"]
    assert all("on 12 random signals: " in line for line in out[1:])
    card = Path("model/README.md").read_text()
    assert all(name in card for name in programs)
    # They are part of a bundle, and so are replaced with it.
    assert run("export", "best.ckpt", "-o", "model", "--force")[0] == 0
    assert names() == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.slow
def test_steps_of_a_causal_model_are_written_and_described(run):
    pytest.importorskip("onnxruntime")
    save_checkpoint(Path("best.ckpt"), causal=True)
    status, out, err = run("export", "best.ckpt", "-o", "model", "--onnx")
    assert (status, err) == (0, [])
    programs = ["decoder.onnx", "decoder_step.onnx", "encoder.onnx", "encoder_step.onnx"]
    assert names() == ["README.md", "config.json", *programs, "model.safetensors"]
    assert all("on 12 random signals: " in line for line in out[1:])
    assert len(out) == 3
    card = Path("model/README.md").read_text()
    assert all(name in card for name in programs)
    (example,) = (code for code in python_in("docs/streaming.md") if "onnxruntime" in code)
    found = {}
    exec(example, found)
    whole = discrete_ae.Codec(discrete_ae.load("best.ckpt")).encode(torch.zeros(1, 1, 50 * 320)).numpy()
    assert np.array_equal(found["codes"], whole[..., -1:])
    assert run("export", "best.ckpt", "-o", "model", "--force")[0] == 0
    assert names() == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["none.ckpt", "-o", "model"], 1, "no such checkpoint"),
        (["best.ckpt", "-o", ".", "--force"], 1, "holds best.ckpt"),
        (["rvq.ckpt", "-o", "model", "--onnx"], 2, "expected a scalar quantizer"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(run, arguments, expected, words):
    save_checkpoint(Path("rvq.ckpt"), quantizer=RESIDUAL)
    status, out, (line,) = run("export", *arguments)
    assert (status, out) == (expected, [])
    assert words in line
    assert sorted(path.name for path in Path().rglob("*")) == ["best.ckpt", "rvq.ckpt"]


SIXTEEN = {
    "_target_": "discrete_ae.quantizers.ScalarQuantizer",
    "levels": [16, 16],
    "num_codebooks": 8,
    "rotation": True,  # a tensor of the quantizer's own
    "rounding": {
        "_target_": "discrete_ae.rounding.Sigmoid",
        "sharpness": {"_target_": "discrete_ae.schedules.Schedule", "shape": "linear", "first": 4, "last": 8},
    },
}


def test_split_model_decodes_to_the_same_audio_and_from_half_of_its_codebooks_too(run):
    whole = save_checkpoint(Path("whole.ckpt"), quantizer=SIXTEEN)
    write_noise("x.wav", 9000)
    assert run("export", whole, "-o", "model", "--split", "4,4")[::2] == (0, [])
    before, after = discrete_ae.load(whole), discrete_ae.load("model")
    assert after.model_hash != before.model_hash
    assert (after.quantizer.codebook_sizes, after.bitrate_bps) == ((16,) * 16, before.bitrate_bps)
    assert scheduled_numbers(after) == {"quantizer.quantizer.rounding.sharpness": 4.0}
    for model in (whole, "model"):
        assert run("encode", "x.wav", "-o", f"{model}.npz", "-c", model)[::2] == (0, [])
        assert run("decode", f"{model}.npz", "-o", f"{model}.wav", "-c", model)[::2] == (0, [])
    assert Path("model.wav").read_bytes() == Path("whole.ckpt.wav").read_bytes()

    # The first 8 hold the upper two of the four bits of each integer.
    assert run("encode", "x.wav", "-o", "half.npz", "-c", "model", "--codebooks", 8)[::2] == (0, [])
    half, codes = read_codes("half.npz").codes.astype(int), read_codes("whole.ckpt.npz").codes.astype(int)
    assert np.array_equal(half, codes % 16 // 4 + 4 * (codes // 16 // 4))
    assert run("decode", "half.npz", "-o", "half.wav", "-c", "model")[::2] == (0, [])
    assert Path("half.wav").read_bytes() != Path("model.wav").read_bytes()
    status, _, (line,) = run("encode", "x.wav", "-o", "four.npz", "-c", "model", "--codebooks", 4)
    assert status == 2
    assert "--codebooks: expected the first 8 or 16, got 4; leave it out for all" in line


def test_split_model_has_no_entropy_model_and_its_codes_are_small_all_the_same(run, ste_run):
    checkpoint = ste_run / "checkpoints/last.ckpt"  # which has one
    assert discrete_ae.load(checkpoint).entropy_model
    status, (files, line), err = run("export", checkpoint, "-o", "model", "--split", "2,2")
    assert (status, err) == (0, [])
    assert "entropy.safetensors" not in files
    assert "entropy model is left out" in line
    write_noise("x.wav", 9000)
    assert run("encode", "x.wav", "-o", "x.daec", "-c", "model")[::2] == (0, [])
    assert run("decode", "x.daec", "-o", "y.wav", "-c", "model")[::2] == (0, [])


@pytest.mark.parametrize(
    ("checkpoint", "levels", "words"),
    [
        (
            "best.ckpt",
            "3,2",
            "--split: levels: expected the levels of each stream, whose product is the 4 levels of a channel",
        ),
        ("best.ckpt", "2,x", "--split 2,x: expected whole numbers"),
        ("rvq.ckpt", "2,2", "expected a ScalarQuantizer of equal levels in each channel, got a ResidualQuantizer"),
        ("unequal.ckpt", "2,2", "equal levels in each channel, got a ScalarQuantizer of levels [4, 3]"),
    ],
)
def test_what_cannot_be_split_is_one_line(run, checkpoint, levels, words):
    save_checkpoint(Path("rvq.ckpt"), quantizer=RESIDUAL)
    save_checkpoint(Path("unequal.ckpt"), quantizer=SIXTEEN | {"levels": [4, 3]})
    status, out, (line,) = run("export", checkpoint, "-o", "model", "--split", levels)
    assert (status, out) == (2, [])
    assert words in line
    assert not Path("model").exists()
