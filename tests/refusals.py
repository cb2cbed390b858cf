"""Check that wrong arguments are rejected by name."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest


def assert_refused(make: Callable[..., object], wrong: Mapping[str, Iterable[Any]], **right: Any) -> None:
    """Call `make` with one wrong value at a time; the error must name the argument and what is expected."""
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"^{name}: expected .*got"):
                make(**right | {name: value})
