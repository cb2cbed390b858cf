"""Errors that a user can cause and fix.

The commands print such an error as one line and exit with its `exit_status`; every other exception is a bug
of ours and keeps its traceback. The message says what was expected, what was found, and what to do. An OSError that
names a file is one too: `from_system` turns it into such a message.
"""

import errno
import os
from pathlib import Path


class UserError(Exception):
    """Base of the errors shown without a traceback."""

    exit_status = 1


class UsageError(UserError):
    """The command line or the configuration asks for something that does not exist or does not fit."""

    exit_status = 2


class DataError(UserError):
    """A file or folder is missing, unreadable, damaged, or not what it should be."""

    exit_status = 1


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: "1 file", "2 files"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


_ADVICE = {
    errno.EACCES: "see to its permissions, or give another place",
    errno.EDQUOT: "make room, or give another place",
    errno.EEXIST: "expected a folder there; give another place",
    errno.EFBIG: "see to the limit of the size of files, or give another place",
    errno.EISDIR: "expected a file in its place; give one",
    errno.EIO: "see to the disk, or give another place",
    errno.ENOENT: "check the name",
    errno.ENOSPC: "make room, or give another place",
    errno.ENOTDIR: "expected a folder in its place; give another",
    errno.EROFS: "give another place",
}
_OF_DISKS = (errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS)
"""What can happen to a file that is open already, of which the error does not say the name."""


def from_system(error: OSError, place: Path | str | None = None) -> DataError:
    """Return a DataError for an OSError: the file, what the system said, what to do.

    Args:
        error: of the system.
        place: where it may have happened, if it is an error of a disk that names no file.

    Raises:
        OSError: the same error, if it names no file otherwise: a bug of ours.
    """
    where = error.filename or (place if error.errno in _OF_DISKS else None)
    if where is None:
        raise error
    advice = _ADVICE.get(error.errno or 0, "check the name, or give another")
    return DataError(f"{os.fsdecode(where)}: {error.strerror or error}; {advice}")
