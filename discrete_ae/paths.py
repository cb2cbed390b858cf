"""Paths as users give them, and paths and commands as users type them."""

import errno
import os
import shutil
import stat
import sys
from enum import Enum, auto
from pathlib import Path

from discrete_ae.errors import DataError


class Kind(Enum):
    """What there is."""

    NOTHING = auto()
    FILE = auto()
    FOLDER = auto()
    OTHER = auto()
    """A pipe, a device, a socket: what cannot be read from any place."""


def kind_of(path: str | Path) -> Kind:
    """Return what a path names, links followed.

    `Path.exists` and its like let the errors of impossible names through, or hide them, by the version of Python.

    Raises:
        DataError: the name is impossible, or its folder must not be read.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  a text too
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return Kind.NOTHING
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    except ValueError:  # a null character
        return Kind.NOTHING
    if stat.S_ISREG(mode):
        return Kind.FILE
    return Kind.FOLDER if stat.S_ISDIR(mode) else Kind.OTHER


def shown(path: Path) -> Path:
    """Return the path as it is typed here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def command(name: str) -> str:
    """Return how a command of this environment is typed: by name where the shell finds it, else by its path."""
    path = Path(sys.executable).with_name(name)
    return name if shutil.which(name) == str(path) else str(shown(path))
