"""Imports run one way (CONTRIBUTING.md), held by the syntax trees of all files; and proof that the check can fail."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "discrete_ae"

# The arrows of CONTRIBUTING.md. A unit is a package or a module right below discrete_ae; it may import what its arrows
# reach.
ARROWS: dict[str, set[str]] = {
    "checks": set(),
    "schedules": {"checks"},
    "rounding": {"schedules"},
    "ranks": set(),
    "quantizers": {"rounding", "ranks"},
    "codes": {"checks"},
    "model": {"quantizers"},
    "losses": {"checks", "ranks"},
    "metrics": set(),
    "data": {"checks"},
    "saving": {"model", "codes"},
    "inference": {"model"},
    "streaming": {"inference"},
    "training": {"build", "losses", "metrics"},
    "codec": {"streaming", "codes", "data"},
    "statistics": set(),
    "evaluation": {"build", "codec", "losses", "metrics", "statistics"},
    "compare": {"evaluation"},
    "export": {"model"},
    "build": {"saving", "data"},
    "cli": {"training", "compare", "export"},
    "arguments": set(),
    "durations": set(),
    "errors": set(),
    "records": set(),
    "writing": set(),
    "tar_shards": set(),
    "paths": set(),
    "signals": set(),
    "__init__": set(),  # the package root imports lazily
}
LEAVES = {
    "arguments",
    "durations",
    "errors",
    "records",
    "writing",
    "tar_shards",
    "paths",
    "signals",
    "__init__",
}  # everything may import them
ENTRY_POINT = {"train.py": {"cli"}}

# Which files may import an outside package; a trailing slash means everything below.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "hydra": ("training/parts.py", "cli/"),
    "omegaconf": ("training/parts.py", "training/run.py", "cli/"),
    "lightning": ("training/", "data/datamodule.py", "data/lightning_module.py"),
    "lightning_fabric": (),
    "pytorch_lightning": (),
    "matplotlib": ("compare/", "training/callbacks/"),
    "jinja2": ("compare/",),
    "transformers": ("evaluation/pretrained.py",),
}
WITH_TORCH = ("codes/dataset.py",)  # the other files of codes know no model


def reached(unit: str) -> set[str]:
    return {unit} | LEAVES | {far for near in ARROWS[unit] for far in reached(near)}


def imported(path: Path, package: list[str]) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, wherever in it, lazily or for type checking."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def unit_of(name: str) -> str:
    """The unit that a dotted name below discrete_ae belongs to."""
    parts = name.split(".")[1:]
    return parts[0] if parts and not parts[0].startswith("__") else "__init__"


def allowed_at(place: str, allowed: tuple[str, ...]) -> bool:
    return any(place == rule or (rule.endswith("/") and place.startswith(rule)) for rule in allowed)


def violations(root: Path) -> list[str]:
    found = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        place = path.relative_to(root / PACKAGE).as_posix()
        unit = place.split("/")[0].removesuffix(".py")
        if unit not in ARROWS:
            found.append(f"{place}: {unit} is not in the table of arrows")
            continue
        package = list(path.parent.relative_to(root).parts)
        for line, name in imported(path, package):
            top = name.split(".")[0]
            if top == PACKAGE and unit_of(name) not in reached(unit):
                found.append(f"{place}:{line}: {unit} imports {name}")
            elif top in ONLY_IN and not allowed_at(place, ONLY_IN[top]):
                found.append(f"{place}:{line}: {top} is not for this file")
            elif unit == "codes" and place not in WITH_TORCH and top in ("torch", "torchaudio"):
                found.append(f"{place}:{line}: {top} in the file format")
    for entry, allowed in ENTRY_POINT.items():
        for line, name in imported(root / entry, []):
            if name.split(".")[0] == PACKAGE and unit_of(name) not in allowed:
                found.append(f"{entry}:{line}: imports {name}")
    return found


def test_imports_run_one_way():
    assert violations(ROOT) == []


def test_the_table_has_every_unit_and_no_circle():
    units = {
        path.stem for path in (ROOT / PACKAGE).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert units <= set(ARROWS)
    for unit in ARROWS:
        assert not any(unit in reached(near) - {near} for near in ARROWS[unit])


ALLOWED = {
    "train.py": "from discrete_ae.cli.train import main",
    "discrete_ae/__init__.py": "from importlib import import_module\nimport_module(name)",
    "discrete_ae/errors.py": "import os",
    "discrete_ae/rounding/base.py": "import torch\nfrom discrete_ae.errors import UserError",
    "discrete_ae/quantizers/scalar.py": "from ..rounding import Rounding\nfrom .base import Quantizer",
    "discrete_ae/quantizers/base.py": "from discrete_ae import errors, __version__",
    "discrete_ae/model/conv.py": "from discrete_ae.quantizers import Quantizer\nimport discrete_ae.rounding",
    "discrete_ae/training/callbacks/clips.py": "import matplotlib.pyplot\nimport lightning.pytorch as pl",
    "discrete_ae/data/datamodule.py": "import lightning",
    "discrete_ae/codes/container.py": "import numpy",
    "discrete_ae/build.py": "from discrete_ae.model import Encoder",
    "discrete_ae/training/parts.py": "import hydra, omegaconf\nfrom discrete_ae.build import build_model",
    "discrete_ae/cli/train.py": "import discrete_ae\nfrom discrete_ae.build import load\nimport hydra",
}

FORBIDDEN = {
    "errors is a leaf": ("discrete_ae/errors.py", "import discrete_ae.model"),
    "upwards": ("discrete_ae/rounding/base.py", "from discrete_ae.quantizers import Quantizer"),
    "upwards, relative": ("discrete_ae/quantizers/scalar.py", "from ..model import DiscreteAutoencoder"),
    "upwards, by name from the root": ("discrete_ae/quantizers/base.py", "from discrete_ae import model"),
    "upwards, by name from the relative root": ("discrete_ae/quantizers/base.py", "from .. import model"),
    "upwards, by the lazy root": ("discrete_ae/model/conv.py", "from discrete_ae import load"),
    "upwards, in a function": ("discrete_ae/model/conv.py", "def f():\n    from discrete_ae.training import run"),
    "upwards, for types": (
        "discrete_ae/losses/terms.py",
        "if TYPE_CHECKING:\n    from discrete_ae.model import Encoder",
    ),
    "upwards, dynamically": (
        "discrete_ae/data/files.py",
        "import importlib\nimportlib.import_module('discrete_ae.build')",
    ),
    "sideways": ("discrete_ae/losses/terms.py", "import discrete_ae.metrics"),
    "the root not lazy": ("discrete_ae/__init__.py", "from discrete_ae.model import DiscreteAutoencoder"),
    "build knows no training": ("discrete_ae/build.py", "from discrete_ae.training import train"),
    "codec knows no build": ("discrete_ae/codec/codec.py", "from discrete_ae.build import load"),
    "hydra in a model": ("discrete_ae/model/conv.py", "import hydra"),
    "lightning in data": ("discrete_ae/data/crops.py", "import lightning.pytorch as pl"),
    "lightning's old name": ("discrete_ae/training/module.py", "import pytorch_lightning"),
    "matplotlib in rounding": ("discrete_ae/rounding/base.py", "def plot():\n    import matplotlib.pyplot as plt"),
    "torch in the format": ("discrete_ae/codes/container.py", "import torch.nn"),
    "a unit without a rule": ("discrete_ae/utils.py", "import os"),
    "the entry point past cli": ("train.py", "from discrete_ae.training import run"),
}


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source, encoding="utf-8")
    return root


def test_the_check_passes_what_is_allowed(tmp_path):
    assert violations(write_tree(tmp_path, ALLOWED)) == []


@pytest.mark.parametrize(("place", "source"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_the_check_fails_what_is_forbidden(tmp_path, place, source):
    (found,) = violations(write_tree(tmp_path, ALLOWED | {place: source}))
    assert found.startswith(place.removeprefix("discrete_ae/"))


HEAVY = ("hydra", "omegaconf", "lightning", "torchmetrics", "matplotlib", "tensorboard", "typer", "rich")
AUDIO = ("torchaudio", "soundfile", "soxr")
STANDALONE = {
    "import torch; from discrete_ae import DiscreteAutoencoder, rounding; rounding.Fourier()(torch.ones(3))": (),
    "from discrete_ae.codes import container, entropy": ("torch",),
    "import discrete_ae": ("torch", "numpy"),
}


def run_without(packages: tuple[str, ...], statement: str) -> subprocess.CompletedProcess:
    """Run a statement where packages are not installed: None in sys.modules makes an import fail as it would there."""
    code = f"import sys\nfor name in {packages!r}:\n    sys.modules[name] = None\n{statement}"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("statement", STANDALONE)
def test_standalone_parts_work_where_the_rest_is_not_installed(statement):
    done = run_without(HEAVY + AUDIO + STANDALONE[statement], statement)
    assert done.returncode == 0, done.stderr


def test_the_standalone_check_can_fail():
    done = run_without(("torch",), "from discrete_ae import rounding")
    assert done.returncode != 0
    assert "torch" in done.stderr
