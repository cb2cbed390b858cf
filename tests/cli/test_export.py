"""`discrete-ae export` from the command line to the folder, and what else takes the folder."""

import json
from pathlib import Path

import pytest

import discrete_ae
from tests.models import RESIDUAL, save_checkpoint
from tests.recordings import write_noise


@pytest.fixture
def run(command, tmp_path, monkeypatch):
    """Run `discrete-ae` in a folder with a checkpoint."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Path("best.ckpt"))
    return command


def names():
    return sorted(path.name for path in Path("model").iterdir())


def test_exported_folder_does_what_the_checkpoint_does(run):
    said = ("--licence", "mit", "--trained-on", "two words | of Ann")
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


@pytest.mark.slow
def test_programs_are_written_and_described(run):
    pytest.importorskip("onnxruntime")
    status, out, err = run("export", "best.ckpt", "-o", "model", "--onnx", "--torch-export")
    assert (status, err) == (0, [])
    programs = ["decoder.onnx", "decoder.pt2", "encoder.onnx", "encoder.pt2"]
    assert names() == ["README.md", "config.json", *programs, "model.safetensors"]
    assert [line.split(":")[0] for line in out] == ["model", "ONNX", "torch.export"]
    assert all("codes of 12 lengths, " in line for line in out[1:])
    card = Path("model/README.md").read_text()
    assert all(name in card for name in programs)
    # They are part of a bundle, and so are replaced with it.
    assert run("export", "best.ckpt", "-o", "model", "--force")[0] == 0
    assert names() == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["none.ckpt", "-o", "model"], 1, "no such checkpoint"),
        (["best.ckpt", "-o", ".", "--force"], 1, "holds best.ckpt"),
        (["rvq.ckpt", "-o", "model", "--onnx"], 2, "only scalar quantizers can"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(run, arguments, expected, words):
    save_checkpoint(Path("rvq.ckpt"), quantizer=RESIDUAL)
    status, out, (line,) = run("export", *arguments)
    assert (status, out) == (expected, [])
    assert words in line
    assert sorted(path.name for path in Path().rglob("*")) == ["best.ckpt", "rvq.ckpt"]
