"""Nothing lies at the top level of the repository by accident."""

import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import discrete_ae

ROOT = Path(__file__).parents[1]
ALLOWED = {
    *(".ci", ".github", ".gitignore", ".pre-commit-config.yaml", "Makefile", "constraints.txt", "pyproject.toml"),
    *(".dockerignore", "CITATION.cff", "Dockerfile", "mkdocs.yml"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md"),
    *("benchmarks", "conf", "data", "discrete_ae", "docs", "tests", "train.py"),
}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_only_what_belongs_there_is_at_the_top_level() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name.split("/")[0] for name in listed.split("\0") if name} - ALLOWED == set()


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert discrete_ae.__version__ == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
