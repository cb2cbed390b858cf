"""Examples in docstrings run."""

import doctest
import importlib

import pytest

EXAMPLES = ("discrete_ae.evaluation.evaluate", "discrete_ae.compare.report")


@pytest.fixture
def names(ste_run, recordings, tmp_path):
    """What examples take as given."""
    (tmp_path / "two").mkdir()
    for name in ("clip_0.wav", "clip_1.wav"):
        (tmp_path / "two" / name).write_bytes((recordings / name).read_bytes())
    given = {"run": ste_run, "checkpoint": ste_run / "checkpoints/best.ckpt", "recordings": tmp_path / "two"}
    return given | {"out": tmp_path / "out"}


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_run(module, names):
    found = doctest.testmod(importlib.import_module(module), extraglobs=names)
    assert found.attempted
    assert found.failed == 0
