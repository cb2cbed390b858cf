"""A folder that is written whole: under another name first, then renamed, so that nobody ever sees half of it."""

import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from discrete_ae.errors import DataError


@contextmanager
def whole_folder(target: Path, own: Collection[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty folder beside `target` that takes its place at the end; after an error nothing is left of it.

    Args:
        target: the folder to be.
        own: the names of all files that such a folder can have. One that has others is never replaced.
        overwrite: whether a folder of them may be replaced.

    Raises:
        DataError: if `target` exists and may not be replaced, or cannot be written.
    """
    given = target
    try:
        target = given.resolve()  # of a link, what it points to is replaced
        _check_free(given, own, overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh, old = (target.with_name(f".{uuid.uuid4().hex}.tmp") for _ in range(2))
        fresh.mkdir()
        try:
            yield fresh
            _check_free(given, own, overwrite)
            if target.exists():
                target.rename(old)
                try:
                    fresh.rename(target)
                except OSError:
                    old.rename(target)
                    raise
                _remove(old, own)
            else:
                fresh.rename(target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{given}: cannot be written ({error.strerror}); give another folder with -o") from error


def _check_free(target: Path, own: Collection[str], overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise DataError(f"{target}: is a file, expected a folder that does not exist yet; give another one with -o")
    if not overwrite:
        raise DataError(f"{target}: exists already; use --force to replace it, or give another folder with -o")
    foreign = sorted(path.name for path in target.iterdir() if path.name not in own or not path.is_file())
    if foreign:
        raise DataError(f"{target}: holds {foreign[0]}, which is no part of a bundle; give another folder with -o")


def _remove(folder: Path, own: Collection[str]) -> None:
    """A replaced folder; one into which a foreign file came in the last moment stays, under its temporary name."""
    for name in own:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
