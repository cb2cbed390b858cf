"""Errors that a user can cause and fix.

The commands print such an error in one line and exit with its `exit_status`. Every other exception is a bug in this
package and keeps its traceback. A message gives what was expected, what was found, and what to do. An OSError that
names a file is a user error too: `from_system` converts it.
"""

import errno
import os
from pathlib import Path


class UserError(Exception):
    """Base class of errors shown without a traceback."""

    exit_status = 1


class UsageError(UserError):
    """An error in the command line or the configuration: an unknown or invalid value, or values that conflict."""

    exit_status = 2


class DataError(UserError):
    """An error in a file or folder: missing, unreadable, damaged, or not of the expected kind."""

    exit_status = 1


class ReadError(DataError):
    """A failure of a disk or network, not of the file; another attempt may succeed."""


def counted(count: int | str, noun: str) -> str:
    """Return a number with its noun, such as "1 file" or "2 files"."""
    return f"{count} {noun}" if str(count) == "1" else f"{count} {noun}s"


_ADVICE = {
    errno.EACCES: "check its permissions, or give another path",
    errno.EDQUOT: "free some space, or give another path",
    errno.EEXIST: "expected a folder there; give another path",
    errno.EFBIG: "check the limit on the size of files, or give another path",
    errno.EISDIR: "expected a file in its place; give another path",
    errno.EIO: "check the disk, or give another path",
    errno.ENOENT: "check the name",
    errno.ENOSPC: "free some space, or give another path",
    errno.ENOTDIR: "expected a folder in its place; give another path",
    errno.EROFS: "give another path",
}
_OF_DISKS = (errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS)
"""Errors of a file that is already open; such an error does not name the file."""


def from_system(error: OSError, place: Path | str | None = None) -> DataError:
    """Return a DataError for an OSError, with the file, the system's message, and advice.

    Args:
        error: the system's error.
        place: file to name if the error is one of a disk and names no file itself.

    Raises:
        OSError: the same error, if no file is known; this is a bug in this package.
    """
    where = error.filename or (place if error.errno in _OF_DISKS else None)
    if where is None:
        raise error
    reason = "no such file or folder" if error.errno == errno.ENOENT else error.strerror or error
    advice = _ADVICE.get(error.errno or 0, "check the path, or give another one")
    return DataError(f"{os.fsdecode(where)}: {reason}; {advice}")
