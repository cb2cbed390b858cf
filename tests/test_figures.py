"""Figures of README and docs/*.md: they stand in committed results, which name the release that was measured."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import discrete_ae
from tests.scripts import load_script

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([README, *(ROOT / "docs").glob("*.md")])
RESULTS = ROOT / "benchmarks" / "results"
DECIMAL = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.])")
remake = load_script("benchmarks/remake.py")


def linked(text: str, page: Path) -> list[Path]:
    """The Markdown files that a text links to, without their anchors."""
    targets = re.findall(r"\]\(([^)#\s:]+\.md)", text)
    return [(page.parent / target).resolve() for target in targets]


def tables(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each table's rows, with all text since the heading above it."""
    for section in re.split(r"^#+ ", page.read_text(), flags=re.MULTILINE):
        if rows := [line for line in section.splitlines() if line.startswith("|")]:
            yield section, rows[2:]


def minor(version: str) -> int:
    return int(version.split(".")[1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_results_are_at_most_one_release_old(page: Path) -> None:
    for target in linked(page.read_text(), page):
        if target.parent == RESULTS:
            release = remake.release(target.stem)
            assert release is not None, f"{target.name} does not say at which release it was measured"
            assert minor(discrete_ae.__version__) - minor(release) <= 1, f"{target.name} was measured at {release}"


def test_every_row_of_readme_stands_in_a_linked_result() -> None:
    for section, rows in tables(README):
        sources = [path.read_text() for path in linked(section, README) if path.parent == RESULTS]
        known = [set(DECIMAL.findall(line)) for source in sources for line in source.splitlines()]
        for row in rows:
            figures = set(DECIMAL.findall(row))
            assert any(figures <= line for line in known), row


def test_a_figure_in_a_link_stands_on_the_linked_page() -> None:
    for page in PAGES:
        for said, target in re.findall(r"\[([^][]*)\]\(([^)#\s:]+\.md)", page.read_text()):
            text = (page.parent / target).read_text()
            for figure in DECIMAL.findall(said):
                assert figure in DECIMAL.findall(text), f"{page.name}: {said}"


def test_every_result_can_be_made_again() -> None:
    assert {path.stem for path in RESULTS.glob("*.md")} <= {*remake.COMMANDS, *remake.TRAINED}
    for command in remake.COMMANDS.values():
        assert (ROOT / "benchmarks" / shlex.split(command)[1]).is_file(), command
