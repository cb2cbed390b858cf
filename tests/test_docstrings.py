"""Docstrings begin with a verb or a noun, and their examples run."""

import ast
import doctest
import importlib
from collections.abc import Iterator
from itertools import pairwise
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


POINTERS = {"What", "Which", "How", "Of", "Whether", "Where", "That", "Those", "As", "Its", "Their", "Says"}
"""First words that make a reader look for what they point at."""


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and functions, and the texts below its constants and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if text := ast.get_docstring(node):
                yield text
            for before, after in pairwise(node.body):
                match before, after:
                    case ast.Assign() | ast.AnnAssign(), ast.Expr(ast.Constant(str(text))):
                        yield text


@pytest.mark.parametrize("folder", ["discrete_ae", "benchmarks", "tests", "docs"])
def test_docstrings_begin_with_a_verb_or_a_noun(folder: str) -> None:
    found = [
        f"{path.name}: {text.splitlines()[0]}"
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        for text in docstrings(ast.parse(path.read_text()))
        if text.split()[0].strip(",.:;") in POINTERS
    ]
    assert not found
