"""docs/tutorials/language_model.py: the model sees no future, goes on from what it is given, and the script runs."""

import sys

import numpy as np
import pytest
import soundfile
import torch

from discrete_ae.codec.patterns import PATTERNS, Delay
from tests.scripts import ROOT, load_script

script = load_script("docs/tutorials/language_model.py")


def tiny(pattern: Delay) -> torch.nn.Module:
    torch.manual_seed(0)
    return script.Transformer(pattern, length=30, dim=32, depth=2).eval()


def test_the_model_sees_no_future():
    pattern = Delay([5, 9])
    model, tokens = tiny(pattern), torch.randint(0, 5, (3, 2, 12))
    before = model(tokens)
    assert before.shape == (3, pattern.vocabulary_size, 2, 12)
    tokens[:, 1, 7] += 1
    changed = (model(tokens) - before).abs().amax(dim=(0, 1, 2)) > 1e-4
    assert changed.tolist() == [False] * 7 + [True] * 5


def test_what_it_writes_begins_with_what_it_was_given():
    pattern = Delay([5, 9, 4])
    given = np.array([[1, 2, 3], [8, 7, 6], [0, 1, 2]])
    codes = script.write(tiny(pattern), pattern, given, 20)
    assert codes.shape == (3, 20)
    # The delay pattern cut at three positions holds three frames of the first codebook, two of the second, one of the
    # third; the rest is the model's.
    assert [codes[k, : 3 - k].tolist() for k in range(3)] == [given[k, : 3 - k].tolist() for k in range(3)]
    assert (codes < np.array([[5], [9], [4]])).all()


@pytest.mark.slow
def test_the_script_runs(tmp_path, recordings, monkeypatch, capsys):
    for part, name in (("train", "clip_0.wav"), ("validation", "clip_5.wav")):
        (tmp_path / part).mkdir()
        (tmp_path / part / name).write_bytes((recordings / name).read_bytes())
    options = ["--data", str(tmp_path), "--minutes", "0.02", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["language_model.py", *options])
    script.main()
    said = capsys.readouterr().out
    assert "50 frames" in said  # of a second
    assert "bits per code" in said
    audio, rate = soundfile.read(tmp_path / "out/written.wav")
    assert (len(audio), rate) == (script.FRAMES_WRITTEN * 320, 16000)
    assert np.isfinite(audio).all()


def test_the_page_names_every_pattern():
    page = (ROOT / "docs/language_models.md").read_text()
    assert all(f'"{name}"' in page and f"`{kind.__name__}`" in page for name, kind in PATTERNS.items())
