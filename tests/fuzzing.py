"""Common code of the coverage-guided harnesses (fuzz_*.py): inputs derived from valid files, and allowed errors."""

import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris


def check_line(error: Exception, place: Path) -> None:
    """Check that an error is one short line that starts with the place."""
    message = str(error)
    assert message.startswith(str(place)), message
    assert "\n" not in message, message
    assert len(message) < 2000, message


def fuzz(one_input: Callable[[bytes], None], valid: Iterable[bytes], most_bytes: int) -> None:
    """Fuzz from valid inputs, with the options of the command line."""
    corpus = Path(tempfile.mkdtemp(prefix="fuzz_valid_"))
    for i, content in enumerate(valid):
        (corpus / str(i)).write_bytes(content)
    atheris.Setup([*sys.argv, str(corpus), f"-max_len={most_bytes}", "-len_control=0"], one_input)
    atheris.Fuzz()
