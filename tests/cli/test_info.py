"""`discrete-ae info` from the command line to the table."""

import json
from pathlib import Path

import numpy as np
import pytest

from discrete_ae.build import load
from discrete_ae.cli import main
from discrete_ae.cli.info import model_of
from discrete_ae.codes import write_codes
from discrete_ae.errors import UsageError
from tests.codes.made import HASH, code_file, drawn, write_set


@pytest.fixture
def command(capfd):
    """Run `discrete-ae info`; its exit status, the rows of its tables as tuples of cells, the lines of its stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main.main(["info", *map(str, arguments)])
        out, err = capfd.readouterr()
        rows = [
            tuple(cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│"))
            for line in out.splitlines()
            if line.startswith(("│", "┃"))
        ]
        return ended.value.code or 0, rows, [line for line in err.splitlines() if not line.startswith("INFO:")]

    return run


def test_model_of_settings(command):
    settings = ["model=conv/tiny", "quantizer=rvq", "num_codebooks=5"]
    status, rows, err = command(*settings)
    assert (status, err) == (0, [])
    table = {row[0]: row[1:] for row in rows}
    assert table["frame rate"] == ("50 Hz",)
    assert table["codebooks"] == ("5 of 256 entries",)
    assert table["bits per frame"] == ("40",)  # 5 log2(256)
    assert table["nominal bitrate"] == ("2 kbps",)
    assert "model hash" not in table
    parameters = sum(parameter.numel() for parameter in model_of(settings).parameters())
    counts = [int(table[part][0].replace(",", "")) for part in ("encoder", "quantizer", "decoder", "total")]
    assert sum(counts[:3]) == counts[3] == parameters


def test_the_default_model_and_one_without_codes(command):
    assert ("bits per frame", "64") in command()[1]
    assert ("nominal bitrate", "no limit") in command("quantizer=identity")[1]


def test_checkpoint_and_bundle(command):
    golden = Path(__file__).parents[1] / "golden"
    of_folder, of_file = command(golden / "bundle_v1"), command(golden / "checkpoint_v1.ckpt")
    assert of_folder == of_file
    status, rows, err = of_folder
    assert (status, err) == (0, [])
    expected = json.loads((golden / "codes_v1.json").read_text())
    assert ("model hash", expected["model_hash"]) in rows
    assert ("entropy model", expected["entropy_model"]) in rows
    assert ("codebooks", "2 of 12 entries") in rows
    model = load(golden / "bundle_v1")
    field_ms = 1000 * model.receptive_field_samples / model.sample_rate
    assert ("receptive field", f"{field_ms:.1f} ms") in rows


def test_file_of_codes(command, tmp_path):
    file = code_file(np.zeros((2, 3, 50), int), (16, 16, 8), sample_rate=8000, num_samples=8000)
    write_codes(file, tmp_path / "quantizer=ste.npz", "npz")  # a name like a setting
    status, rows, err = command(tmp_path / "quantizer=ste.npz")
    assert (status, err) == (0, [])
    assert ("recording", "1.000 s, 8000 samples at 8000 Hz") in rows
    assert ("codebooks", "3 of 16, 16, 8 entries") in rows
    assert ("bits per frame", "22") in rows  # two streams of 4 + 4 + 3
    assert ("nominal bitrate", "1.1 kbps") in rows  # in 50 frames per second
    assert ("model hash", HASH) in rows


def test_daec_file(command, tmp_path):
    # 16 entries take 4 bits: 3 codebooks of 50 frames are 75 bytes in one second, 0.6 kbps.
    path = tmp_path / "x.daec"
    write_codes(code_file(drawn((16,) * 3, 1, 50), (16,) * 3), path, "daec")
    size = path.stat().st_size
    _, rows, _ = command(path)
    assert ("coding", f"packed, 75 bytes in a file of {size}") in rows
    assert ("measured bitrate", f"0.6 kbps, {8 * size / 1000:.3g} kbps with the file's header") in rows


def test_bare_codes(command, tmp_path):
    np.save(tmp_path / "x.npy", np.array([[[3, 1, 4], [1, 5, 9]]], np.uint8))
    _, rows, _ = command(tmp_path / "x.npy")
    assert rows[:3] == [("streams", "1"), ("codebooks", "2"), ("frames", "3")]
    assert ("range", "1 to 9, as uint8") in rows


def test_folder_of_codes(command, tmp_path):
    # 16 entries take 4 bits: half an hour of one stream, and a quarter of two, which are as many frames.
    files = {}
    for name, seconds, streams in (("a.daec", 1800, 1), ("b.daec", 900, 2)):
        said = {"sample_rate": 8000, "num_samples": 8000 * seconds}
        files[name] = code_file(drawn((16, 16), streams, seconds * 10), (16, 16), **said)
    size = sum(entry.bytes for entry in write_set(tmp_path, files))
    _, rows, _ = command(tmp_path)
    assert rows[:5] == [
        ("files of codes", "2"),
        ("recordings", "2,700.0 s"),
        ("streams", "1 or 2"),
        ("frames", "36,000 in all streams"),
        ("codebooks", "2 of 16 entries"),
    ]
    assert ("measured bitrate", f"{8 * size / 2700 / 1000:.3g} kbps with the files' headers") in rows
    (tmp_path / "manifest.jsonl").write_text("")
    (line,) = command(tmp_path)[2]
    assert "its manifest is empty" in line


def test_mistakes_are_one_line(command, tmp_path):
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, x=np.zeros(3))
    text = tmp_path / "text.ckpt"
    text.write_text("no checkpoint")
    for arguments, expected, words in (
        (["quantiser=ste"], 2, "quantiser"),
        (["quantizer=ste,gumbel"], 2, "--multirun"),
        (["model.encoder.channels=0"], 2, "channels"),
        (["conv/base"], 1, "conv/base: no such checkpoint"),
        ([text, "quantizer=ste"], 2, "expected one file"),
        ([text], 1, "not a checkpoint"),
        ([foreign], 1, "not a file of codes"),
        ([tmp_path / "none.daec"], 1, "none.daec"),
        ([tmp_path], 1, "is a folder without config.json"),
    ):
        status, rows, err = command(*arguments)
        assert len(err) == 1, err
        assert (status, rows) == (expected, []), err
        assert err[0].startswith("error: ")
        assert words in err[0]


def test_model_of_refuses_what_does_not_exist():
    with pytest.raises(UsageError, match="did you mean 'num_codebooks'"):
        model_of(["num_codebook=4"])
