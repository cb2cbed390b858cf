"""What a user gives to a command as recordings or codes: files, folders of them, and patterns."""

import glob
import itertools
import os
from collections.abc import Collection
from pathlib import Path

from discrete_ae.data.files import unreadable, walk
from discrete_ae.errors import DataError
from discrete_ae.paths import Kind, kind_of


def files_of(
    path: Path, suffixes: Collection[str], problems: list[DataError], *, alone: bool
) -> list[tuple[Path, Path]]:
    """The files of an input, each with the folder that it keeps: where it lies in the tree of the input.

    A pattern with wildcards is expanded, if the shell has not done so, and keeps the tree below its first wildcard. A
    folder keeps its tree, and its own name where it is one of several inputs. A file keeps no folder.

    Args:
        path: a file, of any suffix, a folder, or a pattern such as corpus/**/*.wav.
        suffixes: lower-case, dot included; which files of a folder are taken.
        problems: what cannot be read of a folder is added to them.
        alone: whether it is the only input.

    Raises:
        DataError: it is not there, or holds no such file.
    """
    kind = kind_of(path)
    if kind is Kind.NOTHING:
        if glob.has_magic(str(path)):
            return _matches(path)
        raise DataError(f"{path}: no such file or folder; check the name")
    if kind is not Kind.FOLDER:
        return [(path, Path())]
    closed: list[OSError] = []
    files = sorted(file for file in walk(path, closed.append) if file.suffix.lower() in suffixes)
    problems += map(unreadable, closed)
    if not files and not closed:
        usual = [suffix for suffix in (".wav", ".flac", ".ogg", ".opus", ".mp3", ".npz") if suffix in suffixes]
        raise DataError(f"{path}: no {', '.join(usual)} files in it or below; give another folder")
    # abspath gives "." its name; resolve() would give the name that a link points to
    name = "" if alone else Path(os.path.abspath(path)).name  # noqa: PTH100
    return [(file, name / file.parent.relative_to(path)) for file in files]


def _matches(pattern: Path) -> list[tuple[Path, Path]]:
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts)
    root = Path(*fixed)
    found = (Path(name) for name in glob.glob(str(pattern), recursive=True))  # noqa: PTH207  Path.glob takes no absolute one
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise DataError(f"{pattern}: matches no file; check the pattern")
    return [(file, file.parent.relative_to(root)) for file in files]
