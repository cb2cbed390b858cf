"""Paths as users give them, and paths and commands as users type them."""

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable
from enum import Enum, auto
from pathlib import Path

from discrete_ae.errors import DataError

CONFIG_NAME = "config.yaml"
"""In the folder of a run: its configuration. A folder with it is one of a run."""
CACHE_VARIABLE = "DISCRETE_AE_CACHE"
"""Of the environment: the folder of caches, in place of discrete-ae in the user's cache folder."""
Paths = str | Path | Iterable[str | Path]
"""One, or several."""


class Kind(Enum):
    """The kinds of things that a path may name."""

    NOTHING = auto()
    FILE = auto()
    FOLDER = auto()
    OTHER = auto()
    """A pipe, a device or a socket, which cannot be read from any position."""


def listed(paths: Paths) -> list[Path]:
    """Return one path, or several, as a list."""
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]


def with_home(argument: str) -> str:
    """Return an argument with the home folder for its `~`: a shell puts it in for `~/x`, but not for `--out=~/x`."""
    home = Path("~").expanduser()
    return re.sub(r"^(-\w|[^=~'\",]*=)?(['\"]?)~(?=/|$)", lambda found: f"{''.join(found.groups(''))}{home}", argument)


def kind_of(path: str | Path) -> Kind:
    """Return the kind of thing that a path names, following links.

    For impossible names, `Path.exists` and the like raise errors in some versions of Python and hide them in others.

    Raises:
        DataError: the name is impossible, or its folder is not readable.
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


def real(path: str | Path) -> Path:
    """Return the path without links; those of a loop are left as they are, where `Path.resolve` may raise."""
    return Path(os.path.realpath(path))


def cache_folder() -> Path | None:
    """Return the folder for what can be made again: DISCRETE_AE_CACHE, or `discrete-ae` in the user's cache folder.

    There is none where that is no absolute path, or the user has no home.
    """
    given, of_user = os.environ.get(CACHE_VARIABLE), os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.path.expanduser(given or f"{of_user}/discrete-ae"))  # noqa: PTH111  raises nothing
    return folder if folder.is_absolute() else None


def in_utf8(name: str) -> str:
    """Return a file's name as text that JSON or TensorBoard can hold: bytes that are not UTF-8 become \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def shown(path: Path) -> Path:
    """Return the path as it is typed here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def command(name: str) -> str:
    """Return how a command of this environment is typed: by name where the shell finds it, else by its path."""
    path = Path(sys.executable).with_name(name)
    return name if shutil.which(name) == str(path) else str(shown(path))
