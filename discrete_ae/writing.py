"""Files and folders that are there whole or not at all: written under a temporary name, then renamed.

What is temporary lies in a folder that its process has locked, so that what a killed one left is known, and removed.
"""

import fcntl
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from discrete_ae.errors import DataError

_LOCK = "lock"


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a name to write under, in a folder beside `target`, which becomes `target` at the end of the block.

    If the block fails, what it wrote is removed. A process that is killed leaves `target` as it was, and beside it a
    hidden folder whose name ends in .partial; the next one that writes `target` removes it.

    Raises:
        OSError: it cannot be written; its file name is that of `target`.
    """
    with _beside(target) as place:
        yield place / "new"
        (place / "new").replace(target)


@contextmanager
def whole_folder(target: Path, own: Collection[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty folder beside `target` to write into, which becomes `target` at the end of the block.

    Args:
        target: the folder to be; of a link, what it points to.
        own: names or patterns of the files that such a folder can have. A folder that has others is never replaced.
        overwrite: whether a folder that has only these is replaced.

    Raises:
        DataError: `target` exists and may not be replaced.
        OSError: it cannot be written.
    """
    given, target = target, target.resolve()
    _check_replaceable(given, own, overwrite)
    with _beside(target, given) as place:
        fresh, old = place / "new", place / "old"
        fresh.mkdir()
        yield fresh
        _check_replaceable(given, own, overwrite)
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise


def write_whole(target: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with written_whole(target) as temporary:
        temporary.write_bytes(content)


def check_writable(target: Path) -> None:
    """Find out that `target` can be written, before the work for it is done, and make its folder.

    Raises:
        OSError: it cannot.
    """
    with _beside(target):
        pass


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made, to the end of the block; wait while another process holds it.

    A file system without locks has none to wait for.

    Raises:
        OSError: the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Give a folder for temporary files, whose name begins with a prefix; those of killed processes are removed.

    Raises:
        OSError: there is no place for it.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*/{_LOCK}"):
        with suppress(OSError), ExitStack() as held:
            if _lock(left, held):
                shutil.rmtree(left.parent)
    with ExitStack() as held, tempfile.TemporaryDirectory(prefix=prefix) as folder:
        fresh = Path(folder, f"{_LOCK}.new")
        _lock(fresh, held)
        fresh.rename(Path(folder, _LOCK))  # whoever finds it, finds it locked
        yield Path(folder)


@contextmanager
def _beside(target: Path, given: Path | None = None) -> Iterator[Path]:
    """Give an empty folder beside `target`: the same one again for the same target, unless a living process has it.

    Errors that name no file, or one in this folder, name the target, as it was given.
    """
    # Short, since the target's own name may be as long as a name can be.
    name = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]}"
    with ExitStack() as held:
        try:
            place = next(
                place
                for number in itertools.count(1)
                if _taken(place := target.with_name(f"{name}-{number}.partial"), held)
            )
            yield place
        except OSError as error:
            if error.filename is None or str(error.filename).startswith(str(target.with_name(name))):
                error.filename, error.filename2 = str(given or target), None
            raise


def _taken(place: Path, held: ExitStack) -> bool:
    """Make a folder, empty, for this process alone, until the end of the block; return False where it is another's."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir(exist_ok=True)
    try:
        if not _lock(place / _LOCK, held):
            return False
    except OSError:
        with suppress(OSError):
            place.rmdir()
        raise
    held.callback(shutil.rmtree, place, ignore_errors=True)
    for left in set(place.iterdir()) - {place / _LOCK}:
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return True


def _lock(path: Path, held: ExitStack) -> bool:
    """Lock a file until the end of the block, or of the process; return False where another one has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    held.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, on which no two processes should write the same
        return True
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), path.stat())  # not one that its process has removed meanwhile
    return False


def _check_replaceable(target: Path, own: Collection[str], overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise DataError(f"{target}: is a file, expected a folder that does not exist yet; give another one with -o")
    if not overwrite:
        raise DataError(f"{target}: exists already; use --force to replace it, or give another folder with -o")
    for path in sorted(target.iterdir()):
        if not path.is_file() or not any(path.match(pattern) for pattern in own):
            raise DataError(
                f"{target}: holds {path.name}, which is no part of what replaces it; give another folder with -o"
            )
