"""Which recordings are there: find audio files, read their headers, split them into training and validation."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import soundfile

from discrete_ae import checks
from discrete_ae.errors import DataError
from discrete_ae.paths import Kind, kind_of

log = logging.getLogger("discrete_ae")

# Headerless (RAW) and MATLAB files are libsndfile formats too, but nothing in them says that they are audio.
_NOT_SELF_DESCRIBING = {"RAW", "MAT4", "MAT5"}
# Suffixes in common use that differ from libsndfile's name of the format.
_ALIASES = {"aif", "aifc", "oga", "opus", "wave", "snd", "sph", "mp2"}
SUFFIXES = frozenset(
    "." + name.lower() for name in (soundfile.available_formats().keys() - _NOT_SELF_DESCRIBING) | _ALIASES
)
"""The lower-case suffixes, dot included, by which audio files are found."""


@dataclass(frozen=True)
class AudioFile:
    """One readable recording, by its header."""

    path: Path
    sample_rate: int
    channels: int
    num_frames: int
    """Length in samples per channel at the file's own rate, at least 1."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_frames / self.sample_rate


class Scan(NamedTuple):
    """What a folder holds."""

    files: list[AudioFile]
    """Sorted by relative POSIX path."""
    skipped: list[str]
    """The relative POSIX paths of the files that have an audio suffix and cannot be used."""


class Split(NamedTuple):
    """Two disjoint lists of files that keep the order of their origin."""

    train: list[AudioFile]
    validation: list[AudioFile]


def recordings_root() -> Path:
    """Return the folder of the project's own recordings: inside the installed package, or `data/` of the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "recordings"
    return installed if installed.is_dir() else package.parent / "data"


def probe(path: Path) -> AudioFile:
    """Read the header of `path`.

    Raises:
        DataError: libsndfile cannot read the file, it holds no samples, or its sample rate is out of range.
    """
    if kind_of(path) is Kind.OTHER:  # opening a pipe would wait, perhaps for ever, for somebody to write to it
        raise DataError(f"{path}: a pipe or device, expected a file; give -, and the recording as standard input")
    try:
        info = soundfile.info(os.fsencode(path))
    except (soundfile.SoundFileError, OSError) as error:
        reason = "empty file" if kind_of(path) is Kind.FILE and path.stat().st_size == 0 else "not readable as audio"
        raise DataError(f"{path}: {reason}; remove or replace it") from error
    if info.frames < 1:
        raise DataError(f"{path}: no samples; remove or replace it")
    try:
        checks.sample_rate("sample rate", info.samplerate)
    except ValueError as error:
        raise DataError(f"{path}: {error}; resample or remove it") from error
    return AudioFile(path, info.samplerate, info.channels, info.frames)


def find_audio(root: str | Path, *, strict: bool = False) -> Scan:
    """Find the audio files below `root` by suffix, folder links followed, hidden names left out.

    Files that cannot be read are left out and named in one warning, folders in one each.

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
    paths = sorted((p for p in walk(root, onerror) if p.suffix.lower() in SUFFIXES), key=lambda p: _key(p, root))
    if not paths:
        raise DataError(
            f"{root}: no audio files (.wav, .flac, .ogg, .opus, .mp3, …) in it or below; give another folder"
        )

    files: list[AudioFile] = []
    skipped: list[str] = []
    # Opening a file waits for the disk, not for Python: on a network file system threads are worth a factor.
    with ThreadPoolExecutor(max_workers=16) as pool:
        for path, found in zip(paths, pool.map(_probe_or_error, paths), strict=True):
            if isinstance(found, AudioFile):
                files.append(found)
            elif strict:
                pool.shutdown(cancel_futures=True)
                raise found
            else:
                skipped.append(_key(path, root))
    if not files:
        raise DataError(f"{root}: none of its {len(paths)} audio files can be read, e.g. {skipped[0]}; check the files")
    warn_skipped(skipped, root)
    return Scan(files, skipped)


def warn_skipped(names: Sequence[str], root: Path, reason: str = "unreadable or empty") -> None:
    """Say once which files below `root` are left out; the first ten by name. Nothing is said of none."""
    if names:
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        log.warning("%s: skipped %d file(s), %s: %s%s", root, len(names), reason, ", ".join(names[:10]), more)


def split_by_hash(files: Sequence[AudioFile], root: str | Path, validation_fraction: float) -> Split:
    """Split by the SHA-256 of the path relative to `root`: a file's side does not depend on the other files.

    The one exception keeps both sides filled: if no hash falls below the fraction, the smallest one validates; if all
    do, the largest one trains.

    Raises:
        DataError: fewer than two files.
    """
    root = Path(root).expanduser()
    if len(files) < 2:
        raise DataError(
            f"{root}: only {len(files)} audio file, and the split into training and validation is by file; "
            "add recordings, or give others with data.validation_root"
        )
    places = [_place(_key(file.path, root)) for file in files]
    order = sorted(places)
    threshold = min(max(validation_fraction, order[0]), order[-2])
    validates = [place <= threshold for place in places]
    return Split(
        train=[file for file, held_out in zip(files, validates, strict=True) if not held_out],
        validation=[file for file, held_out in zip(files, validates, strict=True) if held_out],
    )


def _place(key: str) -> float:
    """Map a path to [0, 1), evenly."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) / 2**48


def _key(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def walk(root: Path, onerror: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield the files below a folder, folder links followed, hidden names left out.

    `onerror` is told of each folder that cannot be read.
    """
    seen: set[str] = set()  # a folder link may point to one of its own parents
    for folder, subfolders, names in os.walk(root, onerror=onerror, followlinks=True):
        seen.add(os.path.realpath(folder))
        subfolders[:] = [
            name for name in subfolders if not name.startswith(".") and os.path.realpath(Path(folder, name)) not in seen
        ]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def unreadable(error: OSError) -> DataError:
    """The error of a folder that cannot be read."""
    return DataError(f"{error.filename}: cannot be read ({error.strerror}); see to its permissions")


def _probe_or_error(path: Path) -> AudioFile | DataError:
    try:
        return probe(path)
    except DataError as error:
        return error
