"""README.md and docs/*.md: links lead somewhere, commands parse, Python examples run."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import discrete_ae
from tests.commands import check, simple_commands
from tests.models import save_checkpoint

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
CHECKED_ELSEWHERE = {
    "class Tones": "tests/cli/test_train.py",
    "class Streamed": "tests/cli/test_train.py",
    "import onnxruntime": "tests/cli/test_export.py",
    'soundfile.blocks("speech.wav"': "tests/test_streaming.py",
    "discrete_ae.compare_runs(": "tests/compare",
    "webdataset.WebDataset(": "tests/codes/test_shards.py",
    "datasets.load_dataset(": "tests/codes/test_shards.py",
    'discrete_ae.load("hf:user/model")\n': "tests/saving/test_hub.py",
    "run = train(config)": "tests/training",
}
"""Python examples that are not run here, by a text in them, and where their subject is tested."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def for_pages(pages: list[Path] = PAGES) -> Any:
    return pytest.mark.parametrize("page", pages, ids=name_of)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """The text of a page without its code."""
    return re.sub(r"`[^`\n]+`", "", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs both make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"https?:", target):
            yield target


@for_pages()
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs/index.md"
    assert {page.name for page in PAGES if page.parent == index.parent} - {"index.md"} <= set(links(index))


def test_the_site_has_every_page() -> None:
    navigation = re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    docs = ROOT / "docs"
    assert sorted(navigation) == sorted(page.relative_to(docs).as_posix() for page in docs.rglob("*.md"))


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "<math" in (tmp_path / "site/rounding.html").read_text()
    assert (tmp_path / "site/repository/benchmarks/results/comparison.html").is_file()


def test_every_function_of_the_package_is_in_the_reference() -> None:
    reference = "".join(page.read_text() for page in (ROOT / "docs/api").glob("*.md"))
    modules = re.findall(r"^::: (\S+)$", reference, re.MULTILINE)
    for name in discrete_ae.__all__:
        place = f"{getattr(discrete_ae, name).__module__}.{name}"
        assert any(f"{place}.".startswith(f"{module}.") for module in modules), place


def test_what_is_checked_elsewhere_is_in_the_pages() -> None:
    examples = [code for page in PAGES for code in blocks(page, "python")]
    for text, place in CHECKED_ELSEWHERE.items():
        assert sum(text in code for code in examples) == 1, text
        assert (ROOT / place).exists()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.fixture(scope="module")
def own_configurations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The my_conf of the pages."""
    folder = tmp_path_factory.mktemp("my_conf")
    for name in ("quantizer/own", "data/tones", "data/streamed"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text("_target_: my_package.Own\n")
    return folder


@for_pages([page for page in PAGES if blocks(page, "sh")])
def test_commands_parse(page: Path, own_configurations: Path) -> None:
    for block in blocks(page, "sh"):
        for command in simple_commands(block):
            check(command, own_configurations)


@pytest.mark.parametrize(
    "wrong",
    [
        "python train.py quantiser=ste",
        "python train.py -m quantizer=ste,strange",
        "discrete-ae train quantizer=ste -x",
        "discrete-ae encode a -o b -c c --codebook-count 2",
        "cat a | discrete-ae decode -",
        "python benchmarks/absent.py",
        "python benchmarks/gpu.py --out a --only everything",
        "python benchmarks/gpu.py --out a --train absent=1",
        "make trains",
        "pip install 'discrete-ae[absent]'",
        "rm -r /",
    ],
)
def test_wrong_commands_do_not(wrong: str) -> None:
    command = list(simple_commands(wrong))[-1]
    with pytest.raises((Exception, SystemExit)):
        check(command)


EXAMPLES = [(page, number) for page in PAGES for number, _ in enumerate(blocks(page, "python"))]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A folder with the files that examples name, as the working directory; and the values that they take for given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RUN/checkpoints").mkdir(parents=True)
    (tmp_path / "discrete_ae").symlink_to(ROOT / "discrete_ae")
    model = discrete_ae.load(save_checkpoint(tmp_path / "RUN/checkpoints/best.ckpt"))
    noise = 0.1 * np.random.default_rng(0).standard_normal(5 * 16000)
    (tmp_path / "recordings").mkdir()
    for name in ("song.mp3", "recordings/a.wav"):
        soundfile.write(tmp_path / name, noise, 16000)
    discrete_ae.encode_corpus(model, ["recordings"], "corpus", shards="mmap")
    return {"__name__": "example", "model": model, "audio": torch.from_numpy(noise[None, None, :16000]).float()}


@pytest.mark.parametrize(("page", "number"), EXAMPLES, ids=[f"{name_of(page)}-{number}" for page, number in EXAMPLES])
def test_python_examples_run(page: Path, number: int, place: dict[str, Any]) -> None:
    code = blocks(page, "python")[number]
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("discrete_ae"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "discrete_ae":
            assert hasattr(discrete_ae, node.attr), node.attr
    if not any(text in code for text in CHECKED_ELSEWHERE):  # those that need minutes, the network or other files
        exec(compile(code, f"{name_of(page)}, example {number}", "exec"), place)
