"""Write files and folders whole or not at all: under a temporary name, then renamed.

Temporary files are in a folder locked by their process, so that leftovers of a killed process are recognized and
removed.
"""

import fcntl
import hashlib
import itertools
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from discrete_ae.errors import DataError

_LOCK = "lock"
_OLD = "old"
"""Name of a folder in the temporary folder, while it is being replaced."""


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yield a path in a temporary folder beside `target`; at the end of the block, rename the file there to `target`.

    If the block fails, its file is removed. A killed process leaves `target` unchanged, and beside it a hidden folder
    whose name ends in .partial; the next process that writes `target` removes this folder.

    Raises:
        OSError: the file cannot be written; the error names `target`.
    """
    with _beside(target) as place:
        yield place / "new"
        (place / "new").replace(target)


@contextmanager
def whole_folder(target: Path, own: Collection[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `target`; at the end of the block, rename it to `target`.

    Args:
        target: the new folder; links are followed.
        own: names or patterns of the files that such a folder may have. A folder with other files is never replaced.
        overwrite: True to replace an existing folder that has only these files.

    Raises:
        DataError: `target` exists and may not be replaced.
        OSError: the folder cannot be written.
    """
    given, target = target, target.resolve()
    with _beside(target, given) as place:
        check_replaceable(given, own, overwrite=overwrite)
        fresh = place / "new"
        fresh.mkdir()
        yield fresh
        check_replaceable(given, own, overwrite=overwrite)
        if target.exists():
            target.rename(place / _OLD)
        fresh.rename(target)


def write_whole(target: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    with written_whole(target) as temporary:
        temporary.write_bytes(content)


def check_writable(target: Path) -> None:
    """Check that `target` can be written, before its content is computed, and create its folder.

    Raises:
        OSError: `target` cannot be written.
    """
    with _beside(target):
        pass


def check_replaceable(target: Path, own: Collection[str], *, overwrite: bool) -> None:
    """Check that `whole_folder` could write a folder; the arguments are those of `whole_folder`.

    Raises:
        DataError: `target` exists and may not be replaced.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise DataError(f"{target}: expected a new folder, got a file; give another path with -o")
    if not overwrite:
        raise DataError(f"{target}: already exists; use --force to replace it, or give another folder with -o")
    for path in sorted(target.iterdir()):
        if not path.is_file() or not any(path.match(pattern) for pattern in own):
            raise DataError(f"{target}: holds {path.name}, which would be deleted; give another folder with -o")


@contextmanager
def _beside(target: Path, given: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder beside `target`. Its name is the same each time, unless another process uses that folder.

    If the block moved `target` to `_OLD` there without replacing it, `target` is moved back. If the process was
    killed, the next use of the folder moves it back. An error that names no file, or a file in this folder, is changed
    to name the target as given.
    """
    # A hash, since the target's own name may have the maximum length.
    name = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]}"
    with ExitStack() as held:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            places = (target.with_name(f"{name}-{number}.partial") for number in itertools.count(1))
            place = next(place for place in places if _is_taken(place, held))
            held.callback(shutil.rmtree, place, ignore_errors=True)
            held.callback(_restore, place, target)
            _restore(place, target)
            for left in set(place.iterdir()) - {place / _LOCK}:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield place
        except OSError as error:
            if error.filename is None or str(error.filename).startswith(str(target.with_name(name))):
                error.filename, error.filename2 = str(given or target), None
            raise


def _restore(place: Path, target: Path) -> None:
    """Move the old folder back if nothing has replaced it."""
    if (place / _OLD).exists() and not target.exists():
        (place / _OLD).rename(target)


def _is_taken(place: Path, held: ExitStack) -> bool:
    """Create a folder and lock it until the end of the block or process; return False if another process locks it."""
    place.mkdir(exist_ok=True)
    file = held.enter_context((place / _LOCK).open("ab"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks; there, two processes must not write the same target
        return True
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), (place / _LOCK).stat())  # False if it was just removed
    return False
