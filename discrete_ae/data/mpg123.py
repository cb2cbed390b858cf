"""Suppress the messages of libmpg123, which libsndfile uses to read MP3."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2
_COMPLAINT = b"[src/libmpg123/"
_one_at_a_time = threading.Lock()


@contextmanager
def without_complaints() -> Iterator[None]:
    """Drop the errors that libmpg123 prints during the block; other output to stderr appears at the end of the block.

    A frame of an MP3 may need bits of earlier frames. The first frames after a seek lack them and are decoded wrongly.
    We do not use these frames, but libmpg123 prints a line for each, and libsndfile has no setting to prevent it.
    """
    with _one_at_a_time, tempfile.TemporaryFile() as printed:
        terminal = os.dup(_STDERR)
        os.dup2(printed.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(terminal, _STDERR)
            os.close(terminal)
            printed.seek(0)
            for line in printed:
                if not line.startswith(_COMPLAINT):
                    os.write(_STDERR, line)
