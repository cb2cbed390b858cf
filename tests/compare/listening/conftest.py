"""A report as `discrete-ae compare` leaves it, and a session on it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from discrete_ae.compare.listening.material import Material, read_material
from discrete_ae.compare.listening.session import Session
from tests.compare.listening.reports import write_report


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("listening") / "report")


@pytest.fixture(scope="session")
def material(report: Path) -> Material:
    return read_material(report)


@pytest.fixture
def begin(material: Material, tmp_path: Path) -> Callable[..., Session]:
    """Begin a session on the report; its ratings lie in tmp_path."""

    def session(name: str = "first", listener: str = "", methods: list[str] | None = None, seed: int = 3) -> Session:
        chosen = material.chosen(methods)
        return Session(material, list(material.clips), chosen, tmp_path / "ratings.csv", seed, name, listener)

    return session
