"""Finds recordings: in folders, whose headers are read once and kept in the user's cache, and in manifests."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import soundfile

from discrete_ae import __version__
from discrete_ae.data.files import (
    SUFFIXES,
    AudioFile,
    audio_only,
    files_of,
    prefix_of,
    probe,
    probe_all,
    stamps,
    unreadable,
    walk,
    warn_doubtful,
    warn_skipped,
)
from discrete_ae.data.manifest import pieces_as_json, pieces_of, read_manifest
from discrete_ae.errors import DataError
from discrete_ae.paths import Kind, Paths, kind_of, listed, real
from discrete_ae.writing import locked, write_whole

log = logging.getLogger("discrete_ae")

CACHE_VARIABLE = "DISCRETE_AE_CACHE"
"""Of the environment: the folder of the cache, in place of discrete-ae in the user's cache folder."""

Advance = Callable[[int], None]

_READERS: dict[str, Callable[[Path], list[AudioFile]]] = {".jsonl": read_manifest, ".jsonl.gz": read_manifest}
"""What reads a file that holds, or names, recordings, by its suffix."""
# Of what reads headers: another version may find something else.
_VERSIONS = [1, __version__, soundfile.__version__, soundfile.__libsndfile_version__]
_MANY = 1000
_Rows = dict[str, list[Any]]
"""By path relative to the root: the file's stamp, rate, channels, frames, and pieces and doubt where there are any."""


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
    """Find the audio files below a folder, by the cache where it knows them."""
    paths = list(audio_only(walk(root, onerror), root))
    if not paths:
        raise DataError(
            f"{root}: no audio files (.wav, .flac, .ogg, .opus, .mp3, …) in it or below; give another folder"
        )
    prefix, kept = prefix_of(root), _cache_of(root)
    keys = sorted(path.removeprefix(prefix) for path in paths)
    del paths
    now = dict(zip(keys, stamps([prefix + key for key in keys]), strict=True))
    rows = _read(kept)
    errors: dict[str, DataError] = {}
    if any(_is_stale(rows, key, stamp) for key, stamp in now.items()):
        with _alone(kept):
            rows = _read(kept)  # another process may have written it meanwhile
            stale = [key for key, stamp in now.items() if _is_stale(rows, key, stamp)]
            if len(stale) > _MANY:
                log.info("Reading the headers of %d files, of which the next start will read none", len(stale))
            fresh: _Rows = {}
            for key, found in zip(stale, probe_all([prefix + key for key in stale], advance), strict=True):
                if isinstance(found, DataError):
                    errors[prefix + key] = found
                else:
                    fresh[key] = _row(found, now[key] or (0, 0, 0))
            rows = {key: row for key in keys if (row := fresh.get(key) or rows.get(key)) and prefix + key not in errors}
            if fresh:
                _keep(kept, rows, root)
    return Found([_file(prefix + key, rows[key]) for key in keys if key in rows], errors)


def _is_stale(rows: _Rows, key: str, stamp: tuple[int, int, int] | None) -> bool:
    row = rows.get(key)
    return row is None or stamp is None or tuple(row[:3]) != stamp


def _row(file: AudioFile, stamp: tuple[int, int, int]) -> list[Any]:
    odd = [pieces_as_json(file.pieces), file.doubt] if file.pieces or file.doubt else []
    return [*stamp, file.sample_rate, file.channels, file.num_frames, *odd]


def _file(place: str, row: list[Any]) -> AudioFile:
    rate, channels, num_frames, *odd = row[3:]
    pieces, doubt = odd or ((), None)
    return AudioFile(place, rate, channels, num_frames, pieces_of(pieces), doubt)


def _cache_of(root: Path) -> Path | None:
    """Return the file that keeps what the headers below a folder say; None where there is no place for it."""
    given, of_user = os.environ.get(CACHE_VARIABLE), os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    base = Path(os.path.expanduser(given or f"{of_user}/discrete-ae"))  # noqa: PTH111  raises nothing
    name = hashlib.sha256(os.fsencode(real(root))).hexdigest()[:16]
    return base / "index" / f"{name}.json" if base.is_absolute() else None


def _read(kept: Path | None) -> _Rows:
    """Return what is kept; nothing where that is not there, damaged, or of another version."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(kept.read_bytes()) if kept else {}
        if content["versions"] == _VERSIONS:
            return dict(content["files"])
    return {}


def _keep(kept: Path | None, rows: Mapping[str, list[Any]], root: Path) -> None:
    if kept:
        try:
            content = {"root": str(root), "versions": _VERSIONS, "files": rows}
            write_whole(kept, json.dumps(content, separators=(",", ":")).encode())
        except OSError as error:
            log.info("What was found in %s cannot be kept: %s: %s", root, kept.parent, error.strerror)


@contextmanager
def _alone(kept: Path | None) -> Iterator[None]:
    """Let one process at a time read headers for the cache; where it cannot be written, each reads them for itself."""
    with ExitStack() as held:
        if kept:
            with suppress(OSError):
                held.enter_context(locked(kept.with_suffix(".lock")))
        yield
