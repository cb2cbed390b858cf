"""Cache of file headers in the user's cache folder. A header is read only if the file is new or has changed."""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import soundfile

from discrete_ae import __version__
from discrete_ae.data.containers import Piece
from discrete_ae.data.files import AudioFile, Signs, prefix_of, probe_all, signs
from discrete_ae.data.remote import is_url
from discrete_ae.data.tars import audio_members
from discrete_ae.errors import DataError, ReadError
from discrete_ae.paths import cache_folder, real
from discrete_ae.writing import write_whole

log = logging.getLogger("discrete_ae")

Advance = Callable[[], None]

# Versions of the code that reads headers; another version may give other results.
_VERSIONS = [1, __version__, soundfile.__version__, soundfile.__libsndfile_version__]
_MANY = 1000
_Rows = dict[str, list[Any]]
"""Rows by path, or by name in the tar: the signs, rate, channels and number of frames, then any pieces and doubt.

The row of an unreadable member of a tar holds only the error message.
"""


def probe_kept(paths: Sequence[str], source: Path, advance: Advance | None = None) -> list[AudioFile | DataError]:
    """Describe files like `probe_all`, with cached headers for unchanged files.

    One process at a time reads headers; the others wait for its results.

    Args:
        paths: paths of the files.
        source: the folder or manifest of the files, which has its own cache file.
        advance: called after each header that is read.
    """
    prefix, kept = prefix_of(source), _cache_of(source)
    places = {path.removeprefix(prefix): path for path in paths}
    stamps = signs(paths)
    now = {key: stamps[path] for key, path in places.items()}
    rows = _read(kept)
    errors: dict[str, DataError] = {}
    if any(_is_stale(rows, key, stamp) for key, stamp in now.items()):
        with _alone(kept):
            rows = _read(kept)  # another process may have updated the cache
            stale = [key for key, stamp in now.items() if _is_stale(rows, key, stamp)]
            if len(stale) > _MANY:
                log.info("Reading the headers of %d files; they are cached for the next start", len(stale))
            fresh: _Rows = {}
            for key, found in zip(stale, probe_all([(places[key], None) for key in stale], advance), strict=True):
                if isinstance(found, DataError):
                    errors[key] = found
                else:
                    fresh[key] = _row(found, _known(now[key]))
            rows = {key: row for key in now if key not in errors and (row := fresh.get(key) or rows.get(key))}
            if fresh:
                _keep(kept, rows, source)
    return [errors[key] if key in errors else _file(place, rows[key]) for key, place in places.items()]


def members_kept(tar: str, advance: Advance | None = None) -> dict[str, AudioFile | DataError]:
    """Describe the recordings in a tar by name, in sorted order; headers of an unchanged tar come from the cache.

    If a disk or network failed, nothing is cached.

    Args:
        tar: path or URL of the tar.
        advance: called after each header that is read.

    Raises:
        DataError: as in `audio_members`.
        OSError: the tar cannot be read.
    """
    kept, (stamp,) = _cache_of(tar), signs([tar]).values()
    versions = [*_VERSIONS, *_known(stamp)]
    rows = _read(kept, versions)
    if not rows:
        with _alone(kept):
            if not (rows := _read(kept, versions)):
                found = audio_members(tar)
                probed = probe_all([(tar, member) for member in found], advance)
                for member, one in zip(found, probed, strict=True):
                    rows[member.name] = [str(one)] if isinstance(one, DataError) else _row(one, _known(stamp))
                if not any(isinstance(one, ReadError) for one in probed):
                    _keep(kept, rows, tar, versions)
    return {name: _file(tar, row, name) if len(row) > 1 else DataError(row[0]) for name, row in rows.items()}


def _is_stale(rows: _Rows, key: str, stamp: Signs | DataError | None) -> bool:
    return key not in rows or tuple(rows[key][:3]) != stamp


def _known(stamp: Signs | DataError | None) -> Signs:
    return stamp if isinstance(stamp, tuple) else (0, 0, 0)


def pieces_as_json(pieces: Sequence[Piece]) -> list[list[Any]]:
    """Return pieces as plain data, with the bytes of their heads as Latin-1 characters."""
    return [[piece.head.decode("latin-1"), *piece[1:]] for piece in pieces]


def pieces_of(plain: Iterable[Sequence[Any]]) -> tuple[Piece, ...]:
    """Return the pieces from the plain data of `pieces_as_json`."""
    return tuple(Piece(head.encode("latin-1"), *rest) for head, *rest in plain)


def _row(file: AudioFile, stamp: Signs) -> list[Any]:
    odd = [pieces_as_json(file.pieces), file.doubt] if file.pieces or file.doubt else []
    return [*stamp, file.sample_rate, file.channels, file.num_frames, *odd]


def _file(place: str, row: list[Any], member: str = "") -> AudioFile:
    rate, channels, num_frames, *odd = row[3:]
    pieces, doubt = odd or ((), None)
    return AudioFile(place, rate, channels, num_frames, pieces_of(pieces), doubt, member=member)


def _cache_of(source: Path | str) -> Path | None:
    """Return the cache file of a folder, manifest or tar; None if there is no cache folder."""
    base, place = cache_folder(), source if is_url(source) else real(source)
    return base / "index" / f"{hashlib.sha256(os.fsencode(place)).hexdigest()[:16]}.json" if base else None


def _read(kept: Path | None, versions: Sequence[Any] = _VERSIONS) -> _Rows:
    """Return the cached rows; none if the cache file is missing, damaged, or of another version."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(kept.read_bytes()) if kept else {}
        if content["versions"] == versions:
            return dict(content["files"])
    return {}


def _keep(
    kept: Path | None, rows: Mapping[str, list[Any]], source: Path | str, versions: Sequence[Any] = _VERSIONS
) -> None:
    if kept:
        try:
            content = {"source": str(source), "versions": versions, "files": rows}
            write_whole(kept, json.dumps(content, separators=(",", ":")).encode())
        except OSError as error:
            log.info("The headers of %s cannot be cached: %s: %s", source, kept.parent, error.strerror)


@contextmanager
def _alone(kept: Path | None) -> Iterator[None]:
    """Let one process at a time read headers for the cache; without a writable cache, do not wait."""
    with ExitStack() as held:
        if kept:
            with suppress(OSError):
                kept.parent.mkdir(parents=True, exist_ok=True)
                fcntl.flock(held.enter_context(kept.with_suffix(".lock").open("ab")), fcntl.LOCK_EX)
        yield
