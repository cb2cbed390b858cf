"""Files that are there whole or not at all."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from discrete_ae.errors import DataError


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a name beside `target` to write under, which becomes `target` at the end of the block.

    If the block fails, what it wrote is removed. A process that is killed leaves `target` as it was; what it leaves
    under the other name, which follows from the target's, is written over by the next one.

    Raises:
        DataError: if the file cannot be written, or the disk is full.
    """
    temporary = target.with_name(
        f".{hashlib.sha256(target.name.encode(errors='surrogateescape')).hexdigest()[:16]}.partial"
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(target, error.strerror) from error


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
