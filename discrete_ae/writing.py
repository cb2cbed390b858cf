"""Files that are there whole or not at all."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # not on Windows, where two processes that write one file go unnoticed
    fcntl = None  # type: ignore[assignment]

from discrete_ae.errors import DataError


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a name beside `target` to write under, which becomes `target` at the end of the block.

    If the block fails, what it wrote is removed. A process that is killed leaves `target` as it was; what it leaves
    under the other name, which follows from the target's, is written over by the next one.

    Raises:
        DataError: if the file cannot be written, the disk is full, or another process is writing it.
    """
    name = hashlib.sha256(target.name.encode(errors="surrogateescape")).hexdigest()[:16]
    temporary = target.with_name(f".{name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(temporary, target):
            try:
                yield temporary
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise unwritable(target, error.strerror) from error


def _locked(temporary: Path, target: Path) -> BinaryIO:
    """The file, empty and ours alone until it is closed."""
    while True:
        file = temporary.open("ab")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise DataError(f"{target}: another process is writing it; let it end, or give another output") from error
        except OSError:  # a file system without locks
            pass
        # Between opening and locking it may have become another's target.
        if temporary.exists() and os.path.samestat(os.fstat(file.fileno()), temporary.stat()):
            file.truncate(0)
            return file
        file.close()


def unwritable(path: Path, reason: str | None) -> DataError:
    """The error of an output that cannot be written."""
    return DataError(f"{path}: cannot be written ({reason}); give another output with -o")


def write_whole(target: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        DataError: if it cannot be written.
    """
    with written_whole(target) as temporary:
        temporary.write_bytes(content)
