"""Finds recordings: in folders, in manifests, or as files."""

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
from discrete_ae.data.headers import Advance, probe_kept
from discrete_ae.data.manifest import read_manifest
from discrete_ae.errors import DataError
from discrete_ae.paths import Kind, Paths, kind_of, listed

log = logging.getLogger("discrete_ae")

_READERS: dict[str, Callable[[Path], list[AudioFile]]] = {".jsonl": read_manifest, ".jsonl.gz": read_manifest}
"""What reads a file that holds, or names, recordings, by its suffix."""


class Scan(NamedTuple):
    """What a folder holds."""

    files: list[AudioFile]
    """Sorted by relative POSIX path."""
    skipped: list[str]
    """The relative POSIX paths of the files that have an audio suffix and cannot be used."""


class Found(NamedTuple):
    """What was found, and what cannot be used."""

    files: list[AudioFile]
    errors: dict[str, DataError]
    """By path: of files, and of folders that cannot be read."""


def find_audio(root: str | Path, *, strict: bool = False) -> Scan:
    """Find the audio files below `root` by suffix, folder links followed, hidden names left out.

    Files that cannot be read are left out and named in one warning, folders in one each. What headers say is kept in
    the user's cache: only those of files that are new or have changed are read.

    Raises:
        DataError: `root` is missing, is no folder or holds no readable audio; with `strict`, also at the first file or
            folder that cannot be read.
    """
    root = Path(root).expanduser()
    kind = kind_of(root)
    if kind is Kind.NOTHING:
        raise DataError(f"{root}: no such folder; give the folder that holds the recordings")
    if kind is not Kind.FOLDER:
        raise DataError(f"{root}: is a file, expected a folder; give the folder that holds the recordings")

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
        raise DataError(
            f"{root}: none of its {len(errors)} audio files can be read, e.g. {skipped[0]}; check the files"
        )
    warn_skipped(skipped, root)
    warn_doubtful(files, root, strict=strict)
    return Scan(files, skipped)


def index(inputs: Paths, advance: Advance | None = None) -> Found:
    """Find the recordings of folders, files and manifests, in their order; those of a folder are sorted.

    Args:
        inputs: one, or several.
        advance: is told of every few headers that were read how many they were.

    Raises:
        DataError: an input is not there, holds no audio, or is a manifest with a fault.
    """
    files: list[AudioFile] = []
    errors: dict[str, DataError] = {}
    for path in listed(inputs):
        found = _of_input(path.expanduser(), advance)
        files += found.files
        errors |= found.errors
    return Found(files, errors)


def _of_input(path: Path, advance: Advance | None) -> Found:
    kind = kind_of(path)
    if kind is Kind.NOTHING:
        return index([file for file, _ in files_of(path, SUFFIXES, [], alone=True)], advance)
    if kind is Kind.FOLDER:
        closed: dict[str, DataError] = {}

        def onerror(error: OSError) -> None:
            closed[str(error.filename)] = unreadable(error)

        files, errors = _scan(path, onerror, advance)
        return Found(files, closed | errors)
    for suffix, read in _READERS.items():
        if path.name.lower().endswith(suffix):
            return Found(read(path), {})
    return Found([probe(path)], {})


def _scan(root: Path, onerror: Callable[[OSError], None], advance: Advance | None = None) -> Found:
    """Find the audio files below a folder."""
    paths = sorted(audio_only(walk(root, onerror), root))  # all begin with the same folder
    if not paths:
        raise DataError(
            f"{root}: no audio files (.wav, .flac, .ogg, .opus, .mp3, …) in it or below; give another folder"
        )
    found = probe_kept(paths, root, advance)
    errors = {path: one for path, one in zip(paths, found, strict=True) if isinstance(one, DataError)}
    return Found([one for one in found if not isinstance(one, DataError)], errors)
