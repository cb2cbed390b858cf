"""Find audio files, read their headers."""

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
from discrete_ae.data.remote import is_url, stamp_of
from discrete_ae.errors import DataError, counted
from discrete_ae.paths import Kind, kind_of

log = logging.getLogger("discrete_ae")

Given = TypeVar("Given")
Found = TypeVar("Found")

Signs = tuple[int, int | str, int]
"""What of a file changes with it."""

TRAIN, VALIDATION, TEST = "train", "validation", "test"
"""The sides of a split; what is of the last one is neither trained nor validated on."""

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


@dataclass(frozen=True, slots=True)
class AudioFile:
    """One readable recording, by its header or a manifest: a file, a member of a tar, or a stretch of one."""

    place: str
    """The path or the URL of the file, or of the tar; a text takes a fraction of the memory of a `Path`."""
    sample_rate: int
    channels: int
    num_frames: int
    """Length in samples per channel at the file's own rate, at least 1."""
    pieces: tuple[Piece, ...] = field(default=(), repr=False)
    """What it is read from, one after the other; none where the file is read as it is."""
    doubt: str | None = None
    """What its header or its format says of its length, and what is there instead; None where they agree."""
    first_frame: int | None = None
    """Where in the file a stretch begins, whose length `num_frames` is; None where it is the whole file."""
    weight: float = 1.0
    """Multiplies the probability of being drawn."""
    split: str | None = None
    """`TRAIN`, `VALIDATION`, `TEST`, or None where nobody says."""
    further: str | None = None
    """What else a manifest says of it, as JSON."""
    member: str = ""
    """Its name in the tar; empty where it is a file by itself."""
    group: str | None = None
    """Recordings of one, such as those of a speaker, are on one side of the split by hash; None where it is alone."""

    @property
    def path(self) -> Path:
        """The path of the file; of a URL there is none."""
        return Path(self.place)

    @property
    def name(self) -> str:
        """What messages call it: its place, and behind that its name in the tar."""
        return _name(self.place, self.member)

    @property
    def is_file(self) -> bool:
        """Whether it is a file of this machine, or a stretch of one: neither in a tar nor of a URL."""
        return not self.member and not is_url(self.place)

    @property
    def known(self) -> dict[str, Any]:
        """The further fields of a manifest's line."""
        return json.loads(self.further) if self.further else {}

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_frames / self.sample_rate


def recordings_root() -> Path:
    """Return the folder of the project's own recordings: inside the installed package, or `data/` of the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "recordings"
    return installed if installed.is_dir() else package.parent / "data"


def probe(path: Path | str, member: Member | None = None) -> AudioFile:
    """Read the header of a file, or of a member of a tar.

    Args:
        path: of the file or tar, or its URL.
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
    return AudioFile(
        os.fspath(path), first.sample_rate, first.channels, num_frames, counted, doubt or first.doubt, member=in_tar
    )


@contextmanager
def sound_of(path: Path | str, piece: Piece | None, member: str = "") -> Iterator[soundfile.SoundFile]:
    """Open a file, or a piece of one, in libsndfile; of a piece that is all of a member of a tar, its name is checked.

    Raises:
        OSError: what lies behind libsndfile cannot be read; at the end of the block, too.
        DataError: the same of a URL; another recording lies there now.
        soundfile.SoundFileError: it is no sound.
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
            if file.error:  # whatever came of it
                raise file.error


def accept(file: AudioFile, *, strict: bool = False) -> None:
    """Say once in a process that a recording is read to its real end, which is not the one that it names.

    Raises:
        DataError: with `strict`.
    """
    if file.doubt and strict:
        raise DataError(f"{file.path}: {file.doubt}; save it anew, or go on without strict")
    if file.doubt:
        _warn_once(f"{file.path}: {file.doubt}; all that is there is read ({file.duration_s:.1f} s)")


def warn_doubtful(files: Sequence[AudioFile], root: Path, *, strict: bool) -> None:
    """Say which recordings are not as long as they say, the first ones by name; with `strict`, refuse the first.

    Raises:
        DataError: with `strict`.
    """
    doubtful = [file for file in files if file.doubt]
    for file in doubtful if strict else doubtful[:_NAMED]:
        accept(file, strict=strict)
    if len(doubtful) > _NAMED:
        log.warning("%s: %s more whose header says another length", root, counted(len(doubtful) - _NAMED, "file"))


def warn_skipped(names: Sequence[str], root: Path, reason: str = "unreadable or empty") -> None:
    """Say once which files below `root` are left out; the first ones by name. Nothing is said of none."""
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        skipped = counted(len(names), "file")
        log.warning("%s: skipped %s, %s: %s%s", root, skipped, reason, ", ".join(names[:_NAMED]), more)


def name_of(file: AudioFile, *roots: Path) -> str:
    """Return the POSIX path of a recording below the nearest of some folders; its whole path where there is none."""
    return min((file.name.removeprefix(prefix_of(root)) for root in roots), key=len)


def key_of(file: AudioFile, *roots: Path) -> str:
    """Return what a recording is called in its corpus: `name_of`, or its name in the tar, in whichever that lies."""
    return file.member or name_of(file, *roots)


def prefix_of(root: Path) -> str:
    """Return what the paths of the files below a folder begin with."""
    return os.path.join("" if root == Path() else root, "")  # noqa: PTH118  Path drops the slash at the end


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
        below = audio_only(below, path)
    files = sorted(file for file in map(Path, below) if file.suffix.lower() in suffixes)
    problems += map(unreadable, closed)
    if not files and not closed:
        usual = [suffix for suffix in _USUAL if suffix in suffixes]
        raise DataError(f"{path}: no {', '.join(usual)} files in it or below; give another folder")
    # abspath gives "." its name; resolve() would give the name that a link points to
    name = "" if alone else Path(os.path.abspath(path)).name  # noqa: PTH100
    return [(file, name / file.parent.relative_to(path)) for file in files]


def walk(root: Path, onerror: Callable[[OSError], None]) -> Iterator[str]:
    """Yield the paths of the files below a folder, folder links followed, hidden names left out.

    `onerror` is told of each folder that cannot be read.
    """
    seen: set[str] = set()  # a folder link may point to one of its own parents
    for folder, subfolders, names in os.walk(root, onerror=onerror, followlinks=True):
        seen.add(os.path.realpath(folder))
        subfolders[:] = [
            name for name in subfolders if not name.startswith(".") and os.path.realpath(Path(folder, name)) not in seen
        ]
        prefix = prefix_of(Path(folder))
        yield from (prefix + name for name in names if not name.startswith("."))


def audio_only(paths: Iterable[str], root: Path) -> Iterator[str]:
    """Yield those that have the suffix of an audio file; say at the end what was passed over."""
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
            "%s: %s skipped, which cannot be read as they are; convert those with sound: %s",
            root,
            count,
            _conversion(Path(min(convertible))),
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


def _name(place: Path | str, member: str) -> str:
    return f"{place}/{member}" if member else str(place)


def _measured(path: Path | str, piece: Piece | None) -> AudioFile:
    """Describe a file, or a piece of one, by what libsndfile makes of its header; without one, by reading it."""
    with sound_of(path, piece) as sound:
        num_frames, doubt = sound.frames, None
        if num_frames >= UNKNOWN_FRAMES:
            block = np.empty((2**16, sound.channels), np.float32)
            num_frames = sum(iter(lambda: len(sound.read(out=block)), 0))
        for promised, found in _LENGTHS.findall(sound.extra_info):
            doubt = falls_short(int(promised), int(found)) or doubt
        return AudioFile(os.fspath(path), sound.samplerate, sound.channels, num_frames, doubt=doubt)


def _unreadable_as_audio(path: Path | str, name: str) -> DataError:
    if not is_url(path) and kind_of(path) is Kind.FILE and Path(path).stat().st_size == 0:
        return DataError(f"{name}: empty file; remove or replace it")
    suffix = Path(name).suffix
    if suffix.lower() in CONVERTIBLE:
        return DataError(f"{name}: {suffix} is not read here; convert it: {_conversion(name)}")
    return DataError(f"{name}: not readable as audio; remove or replace it")


def _conversion(name: Path | str) -> str:
    return shlex.join(["ffmpeg", "-i", str(name), "-vn", str(Path(name).with_suffix(".flac"))])


def probe_all(
    places: Sequence[tuple[str, Member | None]], advance: Callable[[int], None] | None = None
) -> list[AudioFile | DataError]:
    """Probe many files, or members of tars, by threads: each is described, or has its error.

    Args:
        places: of the files or tars, with the members.
        advance: is told of every few files how many they were.
    """

    def probed(some: Sequence[tuple[str, Member | None]]) -> list[AudioFile | DataError]:
        found = [_probe_or_error(*one) for one in some]
        if advance:
            advance(len(some))
        return found

    return by_threads(probed, places, 32)


def signs(places: Sequence[str]) -> dict[str, Signs | DataError | None]:
    """Return what of each file changes with it; None where there is none, of a URL the error.

    It begins with the size and the version: of a file, when it was changed last, of a URL, as its server says.
    """
    found = by_threads(lambda some: [_signs(place) for place in some], places, 1 if any(map(is_url, places)) else 1000)
    return dict(zip(places, found, strict=True))


def by_threads(work: Callable[[Sequence[Given]], Sequence[Found]], items: Sequence[Given], each: int) -> list[Found]:
    """Do something to many files, `each` of them at a time, by threads; the results are in the order of the files.

    Opening a file waits for the disk, not for Python: on a network file system threads are worth a factor.
    """
    parts = [items[start : start + each] for start in range(0, len(items), each)]
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(itertools.chain.from_iterable(pool.map(work, parts)))


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


def _probe_or_error(place: str, member: Member | None) -> AudioFile | DataError:
    try:
        return probe(place, member)
    except DataError as error:
        return error


def _matches(pattern: Path) -> list[tuple[Path, Path]]:
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts)
    root = Path(*fixed)
    found = (Path(name) for name in glob.glob(str(pattern), recursive=True))  # noqa: PTH207  Path.glob takes no absolute one
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise DataError(f"{pattern}: matches no file; check the pattern")
    return [(file, file.parent.relative_to(root)) for file in files]
