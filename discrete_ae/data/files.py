"""Find audio files and read their headers."""

import functools
import glob
import itertools
import json
import logging
import os
import re
import shlex
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import soundfile

from discrete_ae import checks
from discrete_ae.data.containers import (
    Piece,
    PieceFile,
    falls_short,
    look_into,
)
from discrete_ae.data.remote import is_url, open_at, stamp_of
from discrete_ae.errors import DataError, ReadError, counted
from discrete_ae.paths import Kind, kind_of

log = logging.getLogger("discrete_ae")

Given = TypeVar("Given")
Found = TypeVar("Found")

Signs = tuple[int, int | str, int]
"""Size, version and change time of a file, by which a changed file is recognized."""

TRAIN, VALIDATION, TEST = "train", "validation", "test"
"""The sides of a split; test recordings are used neither for training nor for validation."""

# libsndfile also reads headerless (RAW) and MATLAB files, but nothing in them identifies audio.
_NOT_SELF_DESCRIBING = {"RAW", "MAT4", "MAT5"}
# Suffixes in common use that differ from libsndfile's name of the format.
_ALIASES = {"aif", "aifc", "oga", "opus", "wave", "snd", "sph", "mp2"}
SUFFIXES = frozenset(
    "." + name.lower() for name in (soundfile.available_formats().keys() - _NOT_SELF_DESCRIBING) | _ALIASES
)
"""Lower-case suffixes of audio files, dot included."""
_USUAL = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".npz", ".npy", ".daec")  # named in an error if no file is found
CONVERTIBLE = {
    *(".3gp", ".aac", ".ac3", ".amr", ".ape", ".avi", ".dsf", ".m4a", ".m4b", ".mka", ".mkv"),
    *(".mov", ".mp4", ".mpg", ".tta", ".webm", ".wma", ".wmv", ".wv"),
}
"""Lower-case suffixes of files with sound that ffmpeg reads and libsndfile does not."""

_NAMED = 10  # largest number of files with the same fault that messages name
# libsndfile reports at least this length if the header has no length, as in a FLAC written to a pipe.
UNKNOWN_FRAMES = 2**62
# The line of libsndfile's log on the chunk of samples: its length in the header, and its actual length.
_LENGTHS = re.compile(r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)


class Member(NamedTuple):
    """A file in a tar."""

    name: str
    """Name in POSIX form."""
    piece: Piece
    """Bytes of the file in the tar."""


@dataclass(frozen=True, slots=True)
class AudioFile:
    """A readable recording, known by its header or a manifest: a file, a member of a tar, or a stretch of a file."""

    place: str
    """Path or URL of the file or tar; a string takes a fraction of the memory of a `Path`."""
    sample_rate: int
    channels: int
    num_frames: int
    """Length in samples per channel at the file's own rate, at least 1."""
    pieces: tuple[Piece, ...] = field(default=(), repr=False)
    """Pieces of the file that are read one after the other; empty if the file is read unchanged."""
    doubt: str | None = None
    """Description of the mismatch between the length in the header or format and the contents; None if they agree."""
    first_frame: int | None = None
    """First frame of a stretch of `num_frames` in the file; None for the whole file."""
    weight: float = 1.0
    """Factor by which the probability of being drawn is multiplied."""
    split: str | None = None
    """`TRAIN`, `VALIDATION`, `TEST`, or None if it is not given."""
    further: str | None = None
    """Other fields of a manifest's line, as JSON."""
    member: str = ""
    """Name in the tar; empty for a separate file."""
    group: str | None = None
    """Name of a group, such as a speaker. The split by hash keeps a group on one side; None for no group."""

    @property
    def path(self) -> Path:
        """Path of the file; not defined for a URL."""
        return Path(self.place)

    @property
    def name(self) -> str:
        """Name in messages: the place, followed by the name in the tar."""
        return _name(self.place, self.member)

    @property
    def is_file(self) -> bool:
        """True for a local file or a stretch of one; False for a member of a tar or a URL."""
        return not self.member and not is_url(self.place)

    @property
    def known(self) -> dict[str, Any]:
        """Other fields of the manifest's line."""
        return json.loads(self.further) if self.further else {}

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_frames / self.sample_rate


def recordings_root() -> Path:
    """Return the folder of the project's own recordings: in the installed package, or `data/` in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "recordings"
    return installed if installed.is_dir() else package.parent / "data"


def probe(path: Path | str, member: Member | None = None) -> AudioFile:
    """Read the header of a file, or of a member of a tar.

    Args:
        path: path or URL of the file or tar.
        member: member of the tar.

    Raises:
        DataError: libsndfile cannot read the file, it has no samples, or its sample rate is out of range.
    """
    if not is_url(path) and kind_of(path) is Kind.OTHER:
        # Opening a pipe without a writer would block.
        raise DataError(
            f"{path}: expected a file, got a pipe or device; give - and pipe the recording to standard input"
        )
    name, part = (str(path), None) if member is None else (_name(path, member.name), member.piece)
    try:
        pieces, doubt = look_into(path, part)
        found = [_measured(path, piece) for piece in pieces or [None]]
    except (soundfile.SoundFileError, OSError) as error:
        raise unreadable_file(path, name, error) from error
    if len({(one.sample_rate, one.channels) for one in found}) > 1:
        raise DataError(f"{name}: {doubt}, with different rates or channels; merge them: {_conversion(name)}")
    first, num_frames = found[0], sum(one.num_frames for one in found)
    if num_frames < 1:
        raise DataError(f"{name}: no samples; leave this file out")
    try:
        checks.sample_rate("sample rate", first.sample_rate)
    except ValueError as error:
        raise DataError(f"{name}: {error}; resample or remove it") from error
    counted = tuple(piece._replace(num_frames=one.num_frames) for piece, one in zip(pieces, found, strict=False))
    in_tar = member.name if member else ""
    return AudioFile(
        os.fspath(path), first.sample_rate, first.channels, num_frames, counted, doubt or first.doubt, member=in_tar
    )


@contextmanager
def sound_of(path: Path | str, piece: Piece | None, member: str = "") -> Iterator[soundfile.SoundFile]:
    """Open a file, or a piece of one, in libsndfile, as a context manager.

    Args:
        path: path or URL of the file.
        piece: piece of the file; None for the whole file.
        member: name of the member to check, if the piece is a whole member of a tar.

    Raises:
        OSError: the file cannot be read; also raised at the end of the block.
        DataError: the URL cannot be read, or the member is no longer at this place in the tar.
        soundfile.SoundFileError: the file is not audio.
    """
    if piece is None and not is_url(path):
        with _Sound(os.fsencode(path)) as sound:
            yield sound
        return
    with PieceFile(path, piece or Piece(b"", 0, stamp_of(path).num_bytes), member) as file:
        try:
            with _Sound(file) as sound:
                yield sound
        finally:
            if file.error:
                raise file.error


def accept(file: AudioFile, *, strict: bool = False) -> None:
    """Warn, once per process, if a recording's length is doubtful; the recording is then read to its real end.

    Raises:
        DataError: the length is doubtful and `strict` is set.
    """
    if file.doubt and strict:
        raise DataError(f"{file.name}: {file.doubt}; save the file again, or run without strict")
    if file.doubt:
        _warn_once(f"{file.name}: {file.doubt}; reading all of it ({file.duration_s:.1f} s)")


def warn_doubtful(files: Sequence[AudioFile], root: Path, *, strict: bool) -> None:
    """Warn of recordings of doubtful length, naming the first ones.

    Raises:
        DataError: there is such a recording and `strict` is set.
    """
    doubtful = [file for file in files if file.doubt]
    for file in doubtful if strict else doubtful[:_NAMED]:
        accept(file, strict=strict)
    if len(doubtful) > _NAMED:
        log.warning("%s: %s more with a wrong length in the header", root, counted(len(doubtful) - _NAMED, "file"))


def warn_skipped(names: Sequence[str], root: Path, reason: str = "unreadable or empty") -> None:
    """Log one warning that names the first of the files skipped below `root`; do nothing if none are skipped."""
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        skipped = counted(len(names), "file")
        log.warning("%s: skipped %s, %s: %s%s", root, skipped, reason, ", ".join(names[:_NAMED]), more)


def name_of(file: AudioFile, *roots: Path) -> str:
    """Return the POSIX path of a recording relative to the nearest of `roots`; the whole path if it is below none."""
    return min((file.name.removeprefix(prefix_of(root)) for root in roots), key=len)


def key_of(file: AudioFile, *roots: Path) -> str:
    """Return the name of a recording in its corpus: its name in the tar, or `name_of`."""
    return file.member or name_of(file, *roots)


def prefix_of(root: Path) -> str:
    """Return the common prefix of the paths of files below a folder."""
    return os.path.join("" if root == Path() else root, "")  # noqa: PTH118  Path drops the slash at the end


def files_of(
    path: Path, suffixes: Collection[str], problems: list[DataError], *, alone: bool
) -> list[tuple[Path, Path]]:
    """Return the files of an input, each with the path of its folder relative to the input.

    For a pattern, the paths are relative to the part before the first wildcard. For a folder, they are relative to that
    folder, and begin with its name if there are several inputs. For a single file, the path is empty.

    Args:
        path: a file of any suffix, a folder, or a pattern such as corpus/**/*.wav.
        suffixes: lower-case suffixes, dot included, of the files to take from a folder.
        problems: receives the errors of unreadable subfolders.
        alone: True if this is the only input.

    Raises:
        DataError: the input does not exist, or has no such file.
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
        below = audio_only(below, path)
    files = sorted(file for file in map(Path, below) if file.suffix.lower() in suffixes)
    problems += map(unreadable, closed)
    if not files and not closed:
        usual = [suffix for suffix in _USUAL if suffix in suffixes]
        raise DataError(f"{path}: no {', '.join(usual)} files in it or below; give another folder")
    # abspath gives "." its name; resolve() would give the name of a link's target
    name = "" if alone else Path(os.path.abspath(path)).name  # noqa: PTH100
    return [(file, name / file.parent.relative_to(path)) for file in files]


def walk(root: Path, onerror: Callable[[OSError], None]) -> Iterator[str]:
    """Yield the paths of the files below a folder; follow folder links, and skip hidden names.

    A folder with several paths, by links, is visited once. `onerror` is called for each folder that cannot be read.
    """
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=onerror, followlinks=True):
        if (place := os.path.realpath(folder)) in seen:
            subfolders.clear()
            continue
        seen.add(place)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        prefix = prefix_of(Path(folder))
        yield from (prefix + name for name in names if not name.startswith("."))


def audio_only(paths: Iterable[str], root: Path) -> Iterator[str]:
    """Yield the paths with the suffix of an audio file; at the end, warn of skipped files that ffmpeg could convert."""
    convertible = []
    for path in paths:
        suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122  a tenth of the time of a Path
        if suffix in SUFFIXES:
            yield path
        elif suffix in CONVERTIBLE:
            convertible.append(path)
    if convertible:
        count = counted(len(convertible), "file")
        log.warning(
            "%s: skipped %s in unsupported formats; convert the files with sound, for example by %s",
            root,
            count,
            _conversion(min(convertible)),
        )


def unreadable(error: OSError) -> DataError:
    """Return the error of a folder that cannot be read."""
    return DataError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions")


NOT_AUDIO = "not readable as audio; give a recording, such as WAV or FLAC, or leave this file out"


def unreadable_file(
    path: Path | str, name: str, error: OSError | soundfile.SoundFileError, fault: str = NOT_AUDIO
) -> DataError:
    """Return the error of an unreadable file with its reason, which libsndfile does not report.

    Args:
        path: path or URL of the file or tar.
        name: name of the recording in messages.
        error: the error of the attempt to read it.
        fault: message if neither the disk nor the format is the reason.
    """
    is_empty = False
    try:
        if isinstance(error, OSError):
            raise error
        if not is_url(path):
            with open_at(path) as file:
                is_empty = not file.read(1)
    except OSError as reason:
        return ReadError(f"{name}: cannot be read ({reason.strerror or reason}); check the file or its disk")
    if is_empty:
        return DataError(f"{name}: empty file; leave it out")
    suffix = Path(name).suffix
    if suffix.lower() in CONVERTIBLE:
        return DataError(f"{name}: {suffix} is not supported; convert it: {_conversion(name)}")
    return DataError(f"{name}: {fault}")


class _Sound(soundfile.SoundFile):
    """A SoundFile that does not seek after reading.

    soundfile itself seeks to the current place after every read. In FLAC, this seek decodes a block again, and fails if
    the length is unknown. In MP3, it changes the last bits of the samples.
    """

    def seekable(self) -> bool:
        """Return False. Only soundfile's `read` checks this value; `seek` still works."""
        return False


@functools.cache
def _warn_once(message: str) -> None:
    log.warning("%s", message)


def _name(place: Path | str, member: str) -> str:
    return f"{place}/{member}" if member else str(place)


def _measured(path: Path | str, piece: Piece | None) -> AudioFile:
    """Describe a file, or a piece of one, by its header in libsndfile; count the frames if the header has no length."""
    with sound_of(path, piece) as sound:
        num_frames, doubt = sound.frames, None
        if num_frames >= UNKNOWN_FRAMES:
            block = np.empty((2**16, sound.channels), np.float32)
            num_frames = sum(iter(lambda: len(sound.read(out=block)), 0))
        for promised, found in _LENGTHS.findall(sound.extra_info):
            doubt = falls_short(int(promised), int(found)) or doubt
        return AudioFile(os.fspath(path), sound.samplerate, sound.channels, num_frames, doubt=doubt)


def _conversion(name: str) -> str:
    """Return a command that converts a file to FLAC beside it, or a URL to a file in the current folder."""
    target = Path(name).with_suffix(".flac")
    return shlex.join(["ffmpeg", "-i", name, "-vn", target.name if is_url(name) else str(target)])


def probe_all(
    places: Sequence[tuple[str, Member | None]], advance: Callable[[], None] | None = None
) -> list[AudioFile | DataError]:
    """Probe many files, or members of tars, in threads; return the description of each, or its error.

    Args:
        places: pairs of the path or URL of a file or tar, and the member of the tar; None if it is a file.
        advance: called after each file.
    """

    def probed(place: tuple[str, Member | None]) -> AudioFile | DataError:
        try:
            found: AudioFile | DataError = probe(*place)
        except DataError as error:
            found = error
        if advance:
            advance()
        return found

    return by_threads(probed, places)


def signs(places: Sequence[str]) -> dict[str, Signs | DataError | None]:
    """Return the signs of each file by its place: size, version and change time.

    The version of a file is its modification time; that of a URL comes from its server. The value is None if the file
    is missing, and the error if a URL cannot be read.
    """
    return dict(zip(places, by_threads(_signs, places), strict=True))


def by_threads(work: Callable[[Given], Found], items: Sequence[Given]) -> list[Found]:
    """Apply `work` to many items in threads; return the results in the order of the items.

    Opening a file mostly waits for the disk, so threads help, above all on a network file system.
    """
    each = min(len(items) // 64 + 1, 1000)  # a call in a thread may take longer than the work on an item
    parts = [items[start : start + each] for start in range(0, len(items), each)]
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(itertools.chain.from_iterable(pool.map(lambda part: [work(one) for one in part], parts)))


def _signs(path: str) -> Signs | DataError | None:
    if is_url(path):
        try:
            return (*stamp_of(path), 0)
        except DataError as error:
            return error
    try:
        found = os.stat(path)  # noqa: PTH116  a text
    except (OSError, ValueError):  # a null character
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns) if stat.S_ISREG(found.st_mode) else None


def _matches(pattern: Path) -> list[tuple[Path, Path]]:
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts)
    root = Path(*fixed)
    found = (Path(name) for name in glob.glob(str(pattern), recursive=True))  # noqa: PTH207  Path.glob takes no absolute one
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise DataError(f"{pattern}: matches no file; check the pattern")
    return [(file, file.parent.relative_to(root)) for file in files]
