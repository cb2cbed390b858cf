"""`discrete-ae info` from the command line to the table."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from discrete_ae.build import load
from discrete_ae.cli.info import model_of
from discrete_ae.codes import write_codes
from discrete_ae.errors import UsageError
from tests.codes.made import HASH, code_file, drawn, write_set

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def info(command):
    """Run `discrete-ae info`; the rows of its tables as tuples of cells."""

    def run(*arguments):
        status, out, err = command("info", *arguments)
        assert (status, err) == (0, [])
        lines = [line.replace("┃", "│") for line in out if line.startswith(("│", "┃"))]
        return [tuple(cell.strip() for cell in line.strip("│").split("│")) for line in lines]

    return run


def test_model_of_settings(info):
    settings = ["model=conv/tiny", "quantizer=rvq", "num_codebooks=5"]
    rows = info(*settings)
    parts, table = {row[0]: row[1] for row in reversed(rows) if len(row) == 2}, {row[0]: row[1:] for row in rows}
    assert table["frame rate"] == ("50 Hz",)
    assert table["codebooks"] == ("5 of 256 entries",)
    assert table["decodes from"] == ("the first 1 to 5",)
    assert table["bits per frame"] == ("40",)  # 5 log2(256)
    assert table["nominal bitrate"] == ("2 kbps",)
    assert "model hash" not in table
    assert parts["quantizer"].startswith("ResidualQuantizer(num_stages=5, ")
    assert parts["encoder"].startswith("ConvEncoder(")
    parameters = sum(parameter.numel() for parameter in model_of(settings).parameters())
    assert table["parameters"] == (f"{parameters:,}",)
    counts = [int(table[part][0].replace(",", "")) for part in ("encoder", "quantizer", "decoder", "total")]
    assert sum(counts[:3]) == counts[3] == parameters
    assert ("nominal bitrate", "no limit") in info("model=conv/tiny", "quantizer=identity")
    # Without dropout, both codebooks of a stage together.
    stages = info("quantizer=grouped_rvq", "quantizer.num_stages=3", "num_codebooks=6", "quantizer.dropout=0")
    assert ("decodes from", "the first 2, 4 or 6") in stages


def test_model_of_settings_of_ones_own(info, command, tmp_path):
    own = tmp_path / "my 'own' (conf)" / "quantizer" / "own.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("defaults: [ste]\nlevels: [5]\n")
    assert ("codebooks", "8 of 5 entries") in info("--config-dir", own.parents[1], "model=conv/tiny", "quantizer=own")
    status, _, (line,) = command("info", "--config-dir", tmp_path / "nowhere", "quantizer=own")
    assert status == 2
    assert "nowhere" in line


def test_checkpoint_and_bundle(info):
    rows = info(GOLDEN / "bundle_v1")
    assert rows == info(GOLDEN / "checkpoint_v1.ckpt")
    expected = json.loads((GOLDEN / "codes_v1.json").read_text())
    model = load(GOLDEN / "bundle_v1")
    field_ms = 1000 * model.receptive_field_samples / model.sample_rate
    assert {
        ("model hash", expected["model_hash"]),
        ("codes hash", model.codes_hash),
        ("entropy model", expected["entropy_model"]),
        ("codebooks", "2 of 12 entries"),
        ("decodes from", "all 2 together"),
        ("receptive field", f"{field_ms:.1f} ms"),
    } < set(rows)


def test_without_an_argument_it_is_the_model_that_encode_uses(info):
    assert info() == info("pretrained")


def test_checkpoint_of_a_run(info, ste_run):
    rows = dict(row for row in info(ste_run / "checkpoints/last.ckpt") if len(row) == 2)
    config = yaml.safe_load((ste_run / "config.yaml").read_text())
    assert rows["training steps"] == f"{config['trainer']['max_steps']:,}"
    assert (rows["quantizer of the run"], rows["model of the run"]) == ("ste", config["choices"]["model"])


def test_a_checkpoint_beside_a_config_of_another_program_is_described_alone(info, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    checkpoint = shutil.copy(GOLDEN / "checkpoint_v1.ckpt", tmp_path / "checkpoints/best.ckpt")
    config = {"model": {}, "data": {}, "trainer": {}, "choices": ["a"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert info(checkpoint) == info(GOLDEN / "checkpoint_v1.ckpt")


def test_file_of_codes(info, tmp_path):
    path = tmp_path / "quantizer=ste.npz"  # a name like a setting
    write_codes(code_file(np.zeros((2, 3, 50), int), (16, 16, 8), sample_rate=8000, num_samples=8000), path, "npz")
    assert {
        ("recording", "1.000 s, 8000 samples at 8000 Hz"),
        ("codebooks", "3 of 16, 16, 8 entries"),
        ("bits per frame, all streams", "22"),  # two streams of 4 + 4 + 3
        ("bitrate of the codes", "1.1 kbps"),  # in 50 frames per second
        ("codes hash", HASH),
    } < set(info(path))
    # 16 entries take 4 bits: 3 codebooks of 50 frames are 75 bytes in one second, 0.6 kbps.
    path = tmp_path / "x.daec"
    write_codes(code_file(drawn((16,) * 3, 1, 50), (16,) * 3), path, "daec")
    size = path.stat().st_size
    assert {
        ("coding", f"packed, 75 bytes in a file of {size}"),
        ("measured bitrate", f"0.6 kbps, {8 * size / 1000:.3g} kbps with the file's header"),
    } < set(info(path))


def test_bare_codes(info, tmp_path):
    np.save(tmp_path / "x.npy", np.array([[[3, 1, 4], [1, 5, 9]]], np.uint8))
    rows = info(tmp_path / "x.npy")
    assert rows[:3] == [("streams", "1"), ("codebooks", "2"), ("frames", "3")]
    assert ("range", "1 to 9, as uint8") in rows


def test_folder_of_codes(info, tmp_path):
    # 16 entries take 4 bits: half an hour of one stream, and a quarter of two, which are as many frames.
    files = {}
    for name, seconds, streams in (("a.daec", 1800, 1), ("b.daec", 900, 2)):
        said = {"sample_rate": 8000, "num_samples": 8000 * seconds}
        files[name] = code_file(drawn((16, 16), streams, seconds * 10), (16, 16), **said)
    size = sum(entry.bytes for entry in write_set(tmp_path, files))
    rows = info(tmp_path)
    assert rows[:5] == [
        ("files of codes", "2"),
        ("recordings", "2,700.0 s"),
        ("streams", "1 or 2"),
        ("frames", "36,000 in all streams"),
        ("codebooks", "2 of 16 entries"),
    ]
    assert ("measured bitrate", f"{8 * size / 2700 / 1000:.3g} kbps with the files' headers") in rows


def test_mistakes_are_one_line(command, tmp_path):
    Path(tmp_path, "text.ckpt").write_text("no checkpoint")
    Path(tmp_path, "text.daec").write_text("no codes")
    Path(tmp_path, "notes.md").write_text("no model")
    write_set(tmp_path / "empty", {})
    for arguments, expected, words in (
        (["quantiser=ste"], 2, "quantiser"),
        (["quantizer=ste,gumbel"], 2, "--multirun"),
        (["model.encoder.channels=0"], 2, "channels"),
        ([tmp_path / "text.ckpt", "quantizer=ste"], 2, "expected one file"),
        ([tmp_path / "text.ckpt"], 1, "not a checkpoint"),
        ([tmp_path / "none.daec"], 1, "none.daec"),
        (["conv/base"], 1, "such as model=conv/base"),
        ([tmp_path / "text.daec"], 1, "not a .daec file"),
        ([tmp_path / "empty"], 1, "its manifest is empty"),
        ([tmp_path], 1, "expected a checkpoint, a folder from discrete-ae export"),
        ([tmp_path / "notes.md"], 1, "a recording, or settings such as model=conv/base; got another file"),
    ):
        status, out, (line,) = command("info", *arguments)
        assert (status, out, line[:7]) == (expected, [], "error: ")
        assert words in line
    with pytest.raises(UsageError, match="did you mean 'num_codebooks'"):
        model_of(["num_codebook=4"])


def test_recording(command, tmp_path):
    path = tmp_path / "x  y.wav"  # messages keep both spaces
    soundfile.write(path, np.zeros((22050, 2)), 44100)
    path.write_bytes(path.read_bytes()[: 44 + 40_000])
    status, out, err = command("info", path)
    assert status == 0
    rows = dict(tuple(cell.strip() for cell in line.strip("│").split("│")) for line in out if line.startswith("│"))
    assert rows == {
        "recording": str(path), "sample rate": "44100 Hz", "channels": "2", "length": "0.227 s, 10000 samples"
    }  # fmt: skip
    said = f"warning: {path}: its header says 88200 bytes of samples, the file holds 40000; reading all of it"
    assert err == [f"{said} (0.2 s)"]
    path = tmp_path / "x.m4a"
    path.write_bytes(b"no matter what")
    status, _, err = command("info", path)
    assert (status, err[0].split(": ")[-1]) == (1, f"ffmpeg -i {path} -vn {path.with_suffix('.flac')}")
