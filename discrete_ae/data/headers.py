"""What the headers of many files say, kept in the user's cache: each is read when it is new or its file has changed."""

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
from discrete_ae.data.files import AudioFile, prefix_of, probe_all, stamps
from discrete_ae.errors import DataError
from discrete_ae.paths import real
from discrete_ae.writing import locked, write_whole

log = logging.getLogger("discrete_ae")

CACHE_VARIABLE = "DISCRETE_AE_CACHE"
"""Of the environment: the folder of the cache, in place of discrete-ae in the user's cache folder."""

Advance = Callable[[int], None]

# Of what reads headers: another version may find something else.
_VERSIONS = [1, __version__, soundfile.__version__, soundfile.__libsndfile_version__]
_MANY = 1000
_Rows = dict[str, list[Any]]
"""By path: the file's stamp, rate, channels, frames, and pieces and doubt where there are any."""


def probe_kept(paths: Sequence[str], source: Path, advance: Advance | None = None) -> list[AudioFile | DataError]:
    """Describe files as `probe_all`; of those that are known, the header is not read.

    One process at a time reads headers, and the others then know them.

    Args:
        paths: of the files.
        source: the folder or the manifest that they were found in; the cache has a file for each.
        advance: is told of every few headers that were read how many they were.
    """
    prefix, kept = prefix_of(source), _cache_of(source)
    places = {path.removeprefix(prefix): path for path in paths}
    now = dict(zip(places, stamps(paths), strict=True))
    rows = _read(kept)
    errors: dict[str, DataError] = {}
    if any(_is_stale(rows, key, stamp) for key, stamp in now.items()):
        with _alone(kept):
            rows = _read(kept)  # another process may have written it meanwhile
            stale = [key for key, stamp in now.items() if _is_stale(rows, key, stamp)]
            if len(stale) > _MANY:
                log.info("Reading the headers of %d files; the next start will know them", len(stale))
            fresh: _Rows = {}
            for key, found in zip(stale, probe_all([places[key] for key in stale], advance), strict=True):
                if isinstance(found, DataError):
                    errors[key] = found
                else:
                    fresh[key] = _row(found, now[key] or (0, 0, 0))
            rows = {key: row for key in now if key not in errors and (row := fresh.get(key) or rows.get(key))}
            if fresh:
                _keep(kept, rows, source)
    return [errors[key] if key in errors else _file(place, rows[key]) for key, place in places.items()]


def _is_stale(rows: _Rows, key: str, stamp: tuple[int, int, int] | None) -> bool:
    row = rows.get(key)
    return row is None or stamp is None or tuple(row[:3]) != stamp


def pieces_as_json(pieces: Sequence[Piece]) -> list[list[Any]]:
    """Return pieces as plain data; the bytes of their heads as characters of Latin-1."""
    return [[piece.head.decode("latin-1"), *piece[1:]] for piece in pieces]


def pieces_of(plain: Iterable[Sequence[Any]]) -> tuple[Piece, ...]:
    """Return the pieces that `pieces_as_json` made plain data of."""
    return tuple(Piece(head.encode("latin-1"), *rest) for head, *rest in plain)


def _row(file: AudioFile, stamp: tuple[int, int, int]) -> list[Any]:
    odd = [pieces_as_json(file.pieces), file.doubt] if file.pieces or file.doubt else []
    return [*stamp, file.sample_rate, file.channels, file.num_frames, *odd]


def _file(place: str, row: list[Any]) -> AudioFile:
    rate, channels, num_frames, *odd = row[3:]
    pieces, doubt = odd or ((), None)
    return AudioFile(place, rate, channels, num_frames, pieces_of(pieces), doubt)


def _cache_of(source: Path) -> Path | None:
    """Return the file that keeps what headers say; None where there is no place for it."""
    given, of_user = os.environ.get(CACHE_VARIABLE), os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    base = Path(os.path.expanduser(given or f"{of_user}/discrete-ae"))  # noqa: PTH111  raises nothing
    name = hashlib.sha256(os.fsencode(real(source))).hexdigest()[:16]
    return base / "index" / f"{name}.json" if base.is_absolute() else None


def _read(kept: Path | None) -> _Rows:
    """Return what is kept; nothing where that is not there, damaged, or of another version."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(kept.read_bytes()) if kept else {}
        if content["versions"] == _VERSIONS:
            return dict(content["files"])
    return {}


def _keep(kept: Path | None, rows: Mapping[str, list[Any]], source: Path) -> None:
    if kept:
        try:
            content = {"source": str(source), "versions": _VERSIONS, "files": rows}
            write_whole(kept, json.dumps(content, separators=(",", ":")).encode())
        except OSError as error:
            log.info("What was found in %s cannot be kept: %s: %s", source, kept.parent, error.strerror)


@contextmanager
def _alone(kept: Path | None) -> Iterator[None]:
    """Let one process at a time read headers for the cache; where it cannot be written, each reads them for itself."""
    with ExitStack() as held:
        if kept:
            with suppress(OSError):
                held.enter_context(locked(kept.with_suffix(".lock")))
        yield
