"""Files and folders that are there whole or not at all: written under a temporary name, then renamed."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from discrete_ae.errors import DataError


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a name beside `target` to write under, which becomes `target` at the end of the block.

    If the block fails, what it wrote is removed. A process that is killed leaves `target` as it was, and beside it a
    hidden file whose name ends in .partial.

    Raises:
        OSError: it cannot be written; its file name is that of `target`.
    """
    temporary = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(target)
    except OSError as error:
        _name(target, temporary, error)
        raise
    finally:
        with suppress(OSError):  # of a folder that could not be made
            temporary.unlink()


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
    fresh, old = _beside(target), _beside(target, ".old")
    try:
        fresh.mkdir(parents=True)
        yield fresh
        _check_replaceable(given, own, overwrite)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if old.exists() and not target.exists():
            old.rename(target)
        _name(given, fresh, error)
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def write_whole(target: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with written_whole(target) as temporary:
        temporary.write_bytes(content)


def unwritable(path: Path, reason: str | None) -> DataError:
    """Return the error of an output that cannot be written, for a reason that is no OSError."""
    return DataError(f"{path}: cannot be written ({reason}); give another output with -o")


def _beside(target: Path, suffix: str = ".partial") -> Path:
    # Short, since the target's own name may be as long as a name can be.
    return target.with_name(f".{os.getpid()}-{os.urandom(4).hex()}{suffix}")


def _name(target: Path, temporary: Path, error: OSError) -> None:
    """Let an error that names no file, or a temporary one, name the target."""
    if error.filename is None or str(error.filename).startswith(str(temporary)):
        error.filename, error.filename2 = str(target), None


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
