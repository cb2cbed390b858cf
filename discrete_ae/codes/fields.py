"""Fields out of JSON that need not be trusted: of a manifest, or of the index of shards. ValueError for all that is
wrong."""

import json
from collections.abc import Mapping
from typing import Any

MAX_INTEGER = 2**63 - 1


def parse_object(content: str | bytes) -> dict[str, Any]:
    """The JSON object in `content`."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError too
        raise ValueError("not JSON") from error
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    return found


def text(found: Mapping[str, Any], name: str) -> str:
    """A field that is text."""
    return str(_typed(found, name, str))


def integer(found: Mapping[str, Any], name: str) -> int:
    """A field that is an integer."""
    return int(_typed(found, name, int))


def number(found: Mapping[str, Any], name: str) -> float:
    """A field that is a number; infinity for an integer that is too large for one."""
    value = _typed(found, name, (int, float))
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def integers(found: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """A field that is a list of integers."""
    values = _typed(found, name, list)
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name}: expected integers, got {value!r:.60}")
    return tuple(values)


def texts(found: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A field that is a list of texts."""
    values = _typed(found, name, list)
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"{name}: expected texts, got {value!r:.60}")
    return tuple(values)


def check_sizes(codebook_sizes: tuple[int, ...]) -> None:
    """Check the entries of each codebook."""
    wrong = [size for size in codebook_sizes if not 2 <= size <= MAX_INTEGER]
    if wrong or not codebook_sizes:
        raise ValueError(
            f"codebook_sizes: expected at least 2 entries in each, and below 2^63, got {shown(wrong or codebook_sizes)}"
        )


def shown(value: object) -> str:
    """A value, or an error, in one line that is not long."""
    line = " ".join(str(value).split())
    return line if len(line) <= 80 else f"{line[:79]}…"


def _typed(found: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    if name not in found:
        raise ValueError(f"{name} missing")
    value = found[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name}: got {value!r:.60}")
    return value
