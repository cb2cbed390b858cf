"""Names of parametrized tests."""

import re


def without_addresses(value: object) -> str:
    """The value as text, the same in every process: the workers of pytest-xdist must agree on the names of tests."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
