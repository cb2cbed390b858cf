"""Nothing lies at the top level of the repository by accident."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    *(".ci", ".gitignore", ".pre-commit-config.yaml", "Makefile", "constraints.txt", "mkdocs.yml", "pyproject.toml"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md"),
    *("benchmarks", "conf", "data", "discrete_ae", "docs", "tests", "train.py"),
}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_only_what_belongs_there_is_at_the_top_level() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name.split("/")[0] for name in listed.split("\0") if name} - ALLOWED == set()
