"""Find audio files, read their headers, split them into training and validation."""

import functools
import glob
import hashlib
import itertools
import logging
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from discrete_ae import checks
from discrete_ae.data.containers import (
    TOLERANCE_BYTES,
    UNKNOWN_BYTES,
    Piece,
    PieceFile,
    lengths_differ,
    look_into,
)
from discrete_ae.data.remote import is_url, stamp_of
from discrete_ae.errors import DataError, counted
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
_USUAL = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".npz", ".npy", ".daec")  # named where nothing is found
CONVERTIBLE = {
    *(".3gp", ".aac", ".ac3", ".amr", ".ape", ".avi", ".dsf", ".m4a", ".m4b", ".mka", ".mkv"),
    *(".mov", ".mp4", ".mpg", ".tta", ".webm", ".wma", ".wmv", ".wv"),
}
"""The same of files with sound that libsndfile does not read, and ffmpeg does."""

_NAMED = 10  # files of a folder that have the same fault
# libsndfile's word for a length that is not in the header, as of a FLAC that was written to a pipe.
UNKNOWN_FRAMES = 2**62
# What libsndfile notes of the chunk of samples: its length by the header, and by the file.
_LENGTHS = re.compile(r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)


class Member(NamedTuple):
    """A file in a tar."""

    name: str
    """In POSIX form."""
    piece: Piece
    """The stretch of the tar that it is."""


@dataclass(frozen=True)
class AudioFile:
    """One readable recording, by its header."""

    path: Path | str
    """Of the file, or of the tar in which it lies; a text is a URL."""
    sample_rate: int
    channels: int
    num_frames: int
    """Length in samples per channel at the file's own rate, at least 1."""
    pieces: tuple[Piece, ...] = field(default=(), repr=False)
    """What it is read from, one after the other; none where the file is read as it is."""
    doubt: str | None = None
    """What its header or its format says of its length, and what is there instead; None where they agree."""
    member: str = ""
    """Its name in the tar; empty where it is a file by itself."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_frames / self.sample_rate

    @property
    def name(self) -> str:
        """What messages call it: its path, and behind that its name in the tar."""
        return _name(self.path, self.member)

    def below(self, root: Path) -> str:
        """Return its name below a folder, in POSIX form."""
        path = str(self.path) if is_url(self.path) else Path(self.path).relative_to(root).as_posix()
        return _name(path, self.member)


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


def probe(path: Path | str, member: Member | None = None) -> AudioFile:
    """Read the header of a file, or of a member of a tar.

    Args:
        path: of the file or tar; a text is a URL.
        member: of the tar.

    Raises:
        DataError: libsndfile cannot read the file, it holds no samples, or its sample rate is out of range.
    """
    if not is_url(path) and kind_of(path) is Kind.OTHER:
        # opening a pipe would wait, perhaps for ever, for somebody to write to it
        raise DataError(f"{path}: a pipe or device, expected a file; give -, and the recording as standard input")
    name, part = (str(path), None) if member is None else (_name(path, member.name), member.piece)
    try:
        pieces, doubt = look_into(path, part)
        found = [_measured(path, piece) for piece in pieces or [None]]
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable_as_audio(path, name) from error
    if len({(one.sample_rate, one.channels) for one in found}) > 1:
        raise DataError(f"{name}: {doubt}, of different rates or channels; make one of them: {_conversion(name)}")
    first, num_frames = found[0], sum(one.num_frames for one in found)
    if num_frames < 1:
        raise DataError(f"{name}: no samples; remove or replace it")
    try:
        checks.sample_rate("sample rate", first.sample_rate)
    except ValueError as error:
        raise DataError(f"{name}: {error}; resample or remove it") from error
    counted = tuple(piece._replace(num_frames=one.num_frames) for piece, one in zip(pieces, found, strict=False))
    in_tar = member.name if member else ""
    return AudioFile(path, first.sample_rate, first.channels, num_frames, counted, doubt or first.doubt, in_tar)


def probe_or_error(path: Path | str, member: Member | None = None) -> AudioFile | DataError:
    """Read the header of a file, or of a member of a tar; return the error that `probe` raises."""
    try:
        return probe(path, member)
    except DataError as error:
        return error


@contextmanager
def sound_of(path: Path | str, piece: Piece | None) -> Iterator[soundfile.SoundFile]:
    """Open a file, or a piece of one, in libsndfile.

    Raises:
        OSError: what lies behind libsndfile cannot be read; at the end of the block, too.
        DataError: the same of a URL.
        soundfile.SoundFileError: it is no sound.
    """
    if piece is None and not is_url(path):
        with _Sound(os.fsencode(path)) as sound:
            yield sound
        return
    with PieceFile(path, piece or Piece(b"", 0, stamp_of(path).num_bytes)) as file:
        try:
            with _Sound(file) as sound:
                yield sound
        finally:
            if file.error:  # whatever came of it
                raise file.error


def accept(file: AudioFile, *, strict: bool = False) -> None:
    """Say once in a process that a recording is read to its real end, which is not the one that it names.

    Raises:
        DataError: with `strict`.
    """
    if file.doubt and strict:
        raise DataError(f"{file.name}: {file.doubt}; save it anew, or go on without strict")
    if file.doubt:
        _warn_once(f"{file.name}: {file.doubt}; all that is there is read ({file.duration_s:.1f} s)")


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
    paths = sorted(_audio(walk(root, onerror), root), key=lambda path: _key(path, root))
    if not paths:
        raise DataError(
            f"{root}: no audio files (.wav, .flac, .ogg, .opus, .mp3, …) in it or below; give another folder"
        )

    # Opening a file waits for the disk, not for Python: on a network file system threads are worth a factor.
    with ThreadPoolExecutor(max_workers=16) as pool:
        found = list(pool.map(probe_or_error, paths))
    files = [each for each in found if isinstance(each, AudioFile)]
    errors = {_key(path, root): each for path, each in zip(paths, found, strict=True) if isinstance(each, DataError)}
    if errors and strict:
        raise next(iter(errors.values()))
    skipped = list(errors)
    if not files:
        raise DataError(f"{root}: none of its {len(paths)} audio files can be read, e.g. {skipped[0]}; check the files")
    warn_skipped(skipped, root)
    doubtful = [file for file in files if file.doubt]
    for file in doubtful if strict else doubtful[:_NAMED]:
        accept(file, strict=strict)
    if len(doubtful) > _NAMED:
        log.warning("%s: %s more whose header says another length", root, counted(len(doubtful) - _NAMED, "file"))
    return Scan(files, skipped)


def warn_skipped(names: Sequence[str], root: Path | str, reason: str = "unreadable or empty") -> None:
    """Say once which files below `root` are left out; the first ones by name. Nothing is said of none."""
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        skipped = counted(len(names), "file")
        log.warning("%s: skipped %s, %s: %s%s", root, skipped, reason, ", ".join(names[:_NAMED]), more)


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
    places = [_place(file.below(root)) for file in files]
    order = sorted(places)
    threshold = min(max(validation_fraction, order[0]), order[-2])
    validates = [place <= threshold for place in places]
    return Split(
        train=[file for file, held_out in zip(files, validates, strict=True) if not held_out],
        validation=[file for file, held_out in zip(files, validates, strict=True) if held_out],
    )


def files_of(
    path: Path, suffixes: Collection[str], problems: list[DataError], *, alone: bool
) -> list[tuple[Path, Path]]:
    """List the files of an input, each with the folder that it keeps: where it lies in the tree of the input.

    A pattern with wildcards is expanded, if the shell has not done so, and keeps the tree below its first wildcard. A
    folder keeps its tree, and its own name where it is one of several inputs. A file keeps no folder.

    Args:
        path: a file, of any suffix, a folder, or a pattern such as corpus/**/*.wav.
        suffixes: lower-case, dot included; which files of a folder are taken.
        problems: what cannot be read of a folder is added to them.
        alone: whether it is the only input.

    Raises:
        DataError: it is not there, or holds no such file.
    """
    kind = kind_of(path)
    if kind is Kind.NOTHING:
        if glob.has_magic(str(path)):
            return _matches(path)
        raise DataError(f"{path}: no such file or folder; check the name")
    if kind is not Kind.FOLDER:
        return [(path, Path())]
    closed: list[OSError] = []
    below = walk(path, closed.append)
    if suffixes is SUFFIXES:
        below = _audio(below, path)
    files = sorted(file for file in below if file.suffix.lower() in suffixes)
    problems += map(unreadable, closed)
    if not files and not closed:
        usual = [suffix for suffix in _USUAL if suffix in suffixes]
        raise DataError(f"{path}: no {', '.join(usual)} files in it or below; give another folder")
    # abspath gives "." its name; resolve() would give the name that a link points to
    name = "" if alone else Path(os.path.abspath(path)).name  # noqa: PTH100
    return [(file, name / file.parent.relative_to(path)) for file in files]


def _place(key: str) -> float:
    """Map a path to [0, 1), evenly."""
    return int.from_bytes(hashlib.sha256(os.fsencode(key)).digest()[:6]) / 2**48


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


def _audio(paths: Iterable[Path], root: Path) -> Iterator[Path]:
    """Yield those that have the suffix of an audio file; say at the end what was passed over."""
    convertible = []
    for path in paths:
        if path.suffix.lower() in SUFFIXES:
            yield path
        elif path.suffix.lower() in CONVERTIBLE:
            convertible.append(path)
    if convertible:
        count = counted(len(convertible), "file")
        log.warning(
            "%s: %s skipped, which cannot be read as they are; convert those with sound: %s",
            root,
            count,
            _conversion(min(convertible)),
        )


def unreadable(error: OSError) -> DataError:
    """Return the error of a folder that cannot be read."""
    return DataError(f"{error.filename}: cannot be read ({error.strerror}); see to its permissions")


class _Sound(soundfile.SoundFile):
    """Leaves the place in the file to libsndfile, which moves it on while reading.

    soundfile itself seeks to it after every read: in FLAC that decodes a block once more, and fails where the length is
    not known, in MP3 it changes the last bits.
    """

    def seekable(self) -> bool:
        """Answer for soundfile's `read` alone; `seek` does not ask."""
        return False


@functools.cache
def _warn_once(message: str) -> None:
    log.warning("%s", message)


def _name(path: Path | str, member: str) -> str:
    return f"{path}/{member}" if member else str(path)


def _measured(path: Path | str, piece: Piece | None) -> AudioFile:
    """Describe a file, or a piece of one, by what libsndfile makes of its header; without one, by reading it."""
    with sound_of(path, piece) as sound:
        num_frames, doubt = sound.frames, None
        if num_frames >= UNKNOWN_FRAMES:
            block = np.empty((2**16, sound.channels), np.float32)
            num_frames = sum(iter(lambda: len(sound.read(out=block)), 0))
        for promised, found in _LENGTHS.findall(sound.extra_info):
            if int(found) + TOLERANCE_BYTES < int(promised) < UNKNOWN_BYTES:
                doubt = lengths_differ(promised, found)
        return AudioFile(path, sound.samplerate, sound.channels, num_frames, doubt=doubt)


def _unreadable_as_audio(path: Path | str, name: str) -> DataError:
    if not is_url(path) and kind_of(path) is Kind.FILE and Path(path).stat().st_size == 0:
        return DataError(f"{name}: empty file; remove or replace it")
    suffix = Path(name).suffix
    if suffix.lower() in CONVERTIBLE:
        return DataError(f"{name}: {suffix} is not read here; convert it: {_conversion(name)}")
    return DataError(f"{name}: not readable as audio; remove or replace it")


def _conversion(name: Path | str) -> str:
    return shlex.join(["ffmpeg", "-i", str(name), "-vn", str(Path(name).with_suffix(".flac"))])


def _matches(pattern: Path) -> list[tuple[Path, Path]]:
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts)
    root = Path(*fixed)
    found = (Path(name) for name in glob.glob(str(pattern), recursive=True))  # noqa: PTH207  Path.glob takes no absolute one
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise DataError(f"{pattern}: matches no file; check the pattern")
    return [(file, file.parent.relative_to(root)) for file in files]
