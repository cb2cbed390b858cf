"""Find recordings in folders, tars and manifests, or as single files."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from discrete_ae.data.files import (
    SUFFIXES,
    AudioFile,
    audio_only,
    files_of,
    prefix_of,
    probe,
    unreadable,
    walk,
    warn_doubtful,
    warn_skipped,
)
from discrete_ae.data.headers import Advance, members_kept, probe_kept
from discrete_ae.data.manifest import read_manifest
from discrete_ae.data.remote import is_url
from discrete_ae.data.tars import is_tar
from discrete_ae.errors import DataError, counted
from discrete_ae.paths import Kind, Paths, kind_of

log = logging.getLogger("discrete_ae")


class Scan(NamedTuple):
    """Contents of a folder."""

    files: list[AudioFile]
    """Recordings, sorted by relative POSIX path."""
    skipped: list[str]
    """Relative POSIX paths of unusable files with the suffix of audio or of a tar."""


class Found(NamedTuple):
    """Recordings and errors."""

    files: list[AudioFile]
    errors: dict[str, DataError]
    """Errors by path, of unusable files and unreadable folders."""


def find_audio(root: str | Path, *, strict: bool = False) -> Scan:
    """Find the audio files below `root` by suffix; follow folder links, and skip hidden names.

    If there are no audio files, the recordings in the tars below `root` are found. Tars beside audio files are ignored,
    since the audio files were often unpacked from these tars.

    Unreadable files are skipped with a single warning; each unreadable folder or tar gets a warning of its own. Headers
    are cached in the user's cache folder: only new or changed files are read.

    Raises:
        DataError: `root` is missing, is not a folder, or has no readable audio. With `strict`, also if any file or
            folder cannot be read.
    """
    root = Path(root).expanduser()
    kind = kind_of(root)
    if kind is Kind.NOTHING:
        raise DataError(f"{root}: no such folder; give the folder that holds the recordings")
    if kind is not Kind.FOLDER:
        raise DataError(f"{root}: expected a folder, got a file; give the folder that holds the recordings")

    def onerror(error: OSError) -> None:
        if strict:
            raise unreadable(error)
        log.warning("Skipped: %s", unreadable(error))

    log.info("Looking for audio in %s", root)
    files, errors = _scan(root, onerror)
    if errors and strict:
        raise next(iter(errors.values()))
    prefix = prefix_of(root)
    skipped = [place.removeprefix(prefix) for place in errors]
    if not files:
        if all(map(is_tar, errors)):
            raise next(iter(errors.values()))
        raise DataError(
            f"{root}: none of its {len(errors)} audio files can be read, e.g. {skipped[0]}; check the files"
        )
    for error in (error for place, error in errors.items() if is_tar(place)):  # each may hold many recordings
        log.warning("Skipped: %s", error)
    warn_skipped([name for name in skipped if not is_tar(name)], root)
    warn_doubtful(files, root, strict=strict)
    return Scan(files, skipped)


def index(inputs: Paths, advance: Advance | None = None) -> Found:
    """Find the recordings of folders, files, tars and manifests.

    Recordings are in the order of the inputs, and sorted within a folder or tar.

    Args:
        inputs: one or several inputs; files and tars may be URLs.
        advance: called after each header that is read.

    Raises:
        DataError: the only input is missing, has no audio, or is an invalid manifest. With several inputs, such errors
            are part of the result instead.
    """
    files: list[AudioFile] = []
    errors: dict[str, DataError] = {}
    several = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    for given in several:
        try:
            found = _of_input(given if is_url(given) else Path(given).expanduser(), advance)
        except DataError as error:
            if len(several) == 1:
                raise
            errors[str(given)] = error
        else:
            files += found.files
            errors |= found.errors
    return Found(files, errors)


def _of_input(path: Path | str, advance: Advance | None) -> Found:
    if is_tar(path) and (isinstance(path, str) or kind_of(path) is Kind.FILE):
        return _in_tar(str(path), advance)
    if isinstance(path, str):
        return Found([probe(path)], {})
    kind = kind_of(path)
    if kind is Kind.NOTHING:
        return index([file for file, _ in files_of(path, SUFFIXES, [], alone=True)], advance)
    if kind is Kind.FOLDER:
        closed: list[OSError] = []
        files, errors = _scan(path, closed.append, advance)
        return Found(files, {str(error.filename): unreadable(error) for error in closed} | errors)
    if path.name.lower().endswith((".jsonl", ".jsonl.gz")):
        return Found(read_manifest(path), {})
    return Found([probe(path)], {})


def _scan(root: Path, onerror: Callable[[OSError], None], advance: Advance | None = None) -> Found:
    """Find the audio files below a folder; if there are none, the recordings in its tars."""
    closed: list[OSError] = []
    below = sorted(walk(root, closed.append))  # all begin with `root`, so relative paths are sorted too
    for error in closed:
        onerror(error)
    paths, tars = list(audio_only(below, root)), list(filter(is_tar, below))
    if not paths and not tars:
        if closed:
            raise unreadable(closed[0])
        raise DataError(
            f"{root}: no audio files (.wav, .flac, .ogg, .opus, .mp3, …) or tars in it or below; give another folder"
        )
    if not paths:
        scans = [_in_folder(tar, advance) for tar in tars]
        errors = {name: error for scan in scans for name, error in scan.errors.items()}
        return Found([file for scan in scans for file in scan.files], errors)
    if tars:
        log.info("%s: ignored %s beside the recordings, e.g. %s", root, counted(len(tars), "tar"), tars[0])
    found = probe_kept(paths, root, advance)
    errors = {path: one for path, one in zip(paths, found, strict=True) if isinstance(one, DataError)}
    return Found([one for one in found if not isinstance(one, DataError)], errors)


def _in_folder(tar: str, advance: Advance | None) -> Found:
    try:
        return _in_tar(tar, advance)
    except DataError as error:
        return Found([], {tar: error})


def _in_tar(tar: str, advance: Advance | None) -> Found:
    try:
        found = members_kept(tar, advance)
    except OSError as error:
        raise unreadable(error) from error
    errors = {f"{tar}/{name}": one for name, one in found.items() if isinstance(one, DataError)}
    return Found([one for one in found.values() if not isinstance(one, DataError)], errors)
