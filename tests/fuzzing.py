"""Damage to valid files, drawn by Hypothesis, and the one answer of a reader to it: a DataError of one line.

FUZZ_RUNS=100000 searches longer, and --hypothesis-seed=7 takes other inputs.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from discrete_ae.errors import DataError

fuzzed = settings(
    max_examples=int(os.environ.get("FUZZ_RUNS", "200")), deadline=None, suppress_health_check=list(HealthCheck)
)
HUGE = st.sampled_from([1, 2, 3, 20, 300, 2**16, 2**31, 2**40, 2**62, 2**63, 10**30])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | HUGE | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
# Values in JSON; the look-ahead also finds those within lists and objects.
VALUE = re.compile(rb'(?=("[^"]*"|-?\d[\d.e+-]*|true|false|null|\[[^][]*\]|\{[^{}]*\}))')


@st.composite
def damaged(draw: st.DrawFn, valid: Sequence[bytes]) -> bytes:
    """Draw one of several valid files with one to three places replaced: values in JSON by others, bytes by any."""
    content = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(1, 3))):
        values = [found.span(1) for found in VALUE.finditer(content)]
        if values and draw(st.booleans()):
            start, stop = draw(st.sampled_from(values))
            piece = json.dumps(draw(VALUES)).encode()
        else:
            start = draw(st.integers(0, len(content)))
            stop, piece = start + draw(st.integers(0, 8)), draw(st.binary(max_size=8))
        content = content[:start] + piece + content[stop:]
    return content


def read_or_refused(read: Callable[[], object], place: Path) -> object:
    """Return what a reader returns, or None after a DataError of one short line that begins with the place."""
    try:
        return read()
    except DataError as error:
        message = str(error)
    assert message.startswith(str(place)), message
    assert "\n" not in message, message
    assert len(message) < 2000, message
    return None
