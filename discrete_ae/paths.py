"""Paths that users give, and paths and commands as users would type them."""

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
"""Configuration in the folder of a run; a folder with this file is the folder of a run."""
CACHE_VARIABLE = "DISCRETE_AE_CACHE"
"""Environment variable with the cache folder; the default is discrete-ae in the user's cache folder."""
PRETRAINED = "pretrained"
"""Name of the trained model in this package, in place of a checkpoint; a file or folder of that name comes first."""
Paths = str | Path | Iterable[str | Path]
"""One or several paths."""


class Kind(Enum):
    """Kind of the file at a path."""

    NOTHING = auto()
    FILE = auto()
    FOLDER = auto()
    OTHER = auto()
    """A pipe, device or socket, which does not support random access."""


def listed(paths: Paths) -> list[Path]:
    """Return one path, or several, as a list."""
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]


def with_home(argument: str) -> str:
    """Expand the `~` in an argument; a shell expands it in `~/x`, but not in `--out=~/x`."""
    home = Path("~").expanduser()
    return re.sub(r"^(-\w|[^=~'\",]*=)?(['\"]?)~(?=/|$)", lambda found: f"{''.join(found.groups(''))}{home}", argument)


def kind_of(path: str | Path) -> Kind:
    """Return the kind of the file at a path, following links.

    For impossible names, `Path.exists` and similar methods raise errors in some versions of Python and hide them in
    others.

    Raises:
        DataError: the name is impossible, or its folder is not readable.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  may be a string
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
    """Return the path with links resolved; a loop of links raises no error, as it may in `Path.resolve`."""
    return Path(os.path.realpath(path))


def cache_folder() -> Path | None:
    """Return the cache folder: DISCRETE_AE_CACHE, or `discrete-ae` in the user's cache folder.

    Return None if the path is not absolute, or the user has no home.
    """
    given, of_user = os.environ.get(CACHE_VARIABLE), os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.path.expanduser(given or f"{of_user}/discrete-ae"))  # noqa: PTH111  raises nothing
    return folder if folder.is_absolute() else None


def in_utf8(name: str) -> str:
    """Return a file's name as valid Unicode for JSON or TensorBoard: bytes that are not UTF-8 become \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def shown(path: Path) -> Path:
    """Return the path as a user would type it in the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def command(name: str) -> str:
    """Return a command of this environment as a user would type it: its name if the shell finds it, else its path."""
    path = Path(sys.executable).with_name(name)
    return name if shutil.which(name) == str(path) else str(shown(path))
