"""Examples in docstrings run."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import discrete_ae
from discrete_ae import rounding
from discrete_ae.build import build_model
from tests.models import config
from tests.runs import REPOSITORY

FILES = [path for path in sorted((REPOSITORY / "discrete_ae").rglob("*.py")) if ">>> " in path.read_text()]


@pytest.fixture
def names(ste_run, recordings, tmp_path):
    """The names that examples take as given."""
    checkpoint, two = ste_run / "checkpoints/best.ckpt", tmp_path / "two"
    two.mkdir()
    for name in ("clip_0.wav", "clip_1.wav"):
        (two / name).write_bytes((recordings / name).read_bytes())
    discrete_ae.encode_corpus(discrete_ae.load(checkpoint), [two], tmp_path / "codes")
    paths = {"run": ste_run, "checkpoint": checkpoint, "recordings": two, "recording": two / "clip_0.wav"}
    paths["causal_model"] = build_model(config(causal=True))
    paths |= {"codes": tmp_path / "codes", "out": tmp_path / "out"}
    return paths | {"discrete_ae": discrete_ae, "torch": torch, "rounding": rounding}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_examples_run(file: Path, names) -> None:
    module = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts)
    found = doctest.testmod(importlib.import_module(module), extraglobs=names)
    assert found.attempted
    assert found.failed == 0
