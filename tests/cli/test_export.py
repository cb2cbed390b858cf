"""`discrete-ae export` from the command line to the folder, and what else takes the folder."""

import json
from pathlib import Path

import pytest

import discrete_ae
from discrete_ae.cli import main
from tests.cli.test_encode_decode import write
from tests.models import RESIDUAL, save_checkpoint


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Run `discrete-ae` in an empty folder with a checkpoint; its exit status, lines of stdout and of stderr."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Path("best.ckpt"))

    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            main.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return ended.value.code or 0, out.splitlines(), err.splitlines()

    return command


def names():
    return sorted(path.name for path in Path("model").iterdir())


def test_exported_folder_does_what_the_checkpoint_does(run):
    said = ("--licence", "mit", "--trained-on", "two words | of Ann")
    assert run("export", "best.ckpt", "-o", "model", *said) == (0, ["model: " + ", ".join(names())], [])
    assert names() == ["README.md", "config.json", "model.safetensors"]
    assert json.loads(Path("model/config.json").read_text())["licence"] == "mit"
    assert "| training data | two words \\| of Ann |" in Path("model/README.md").read_text()

    write(Path("x.wav"))
    for model in ("best.ckpt", "model"):
        assert run("encode", "x.wav", "-o", f"{model}.npz", "-c", model, "--device", "cpu")[0] == 0
    assert Path("best.ckpt.npz").read_bytes() == Path("model.npz").read_bytes()
    assert run("info", "model") == run("info", "best.ckpt")
    before = discrete_ae.load("best.ckpt").model_hash
    assert run("export", "model", "-o", "again")[0] == 0
    assert run("export", "model", "-o", "model", "--force", "--licence", "new")[0] == 0  # onto itself
    assert discrete_ae.load("again").model_hash == discrete_ae.load("model").model_hash == before


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


def test_mistakes_are_one_line_and_leave_nothing(run):
    save_checkpoint(Path("rvq.ckpt"), quantizer=RESIDUAL)
    Path("notes").mkdir()
    Path("notes/x.txt").write_text("mine")
    before = sorted(Path().rglob("*"))
    for arguments, expected, words in (
        (["none.ckpt", "-o", "model"], 1, "no such checkpoint"),
        (["best.ckpt", "-o", "notes"], 1, "exists already"),
        (["best.ckpt", "-o", "notes", "--force"], 1, "holds x.txt"),
        (["rvq.ckpt", "-o", "model", "--onnx"], 2, "only scalar quantizers can"),
    ):
        status, out, err = run("export", *arguments)
        assert (status, out) == (expected, []), err
        assert len(err) == 1
        assert words in err[0]
    assert sorted(Path().rglob("*")) == before
