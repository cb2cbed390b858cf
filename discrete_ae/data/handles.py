"""Files kept open for the next part of them, so that a crop from a long recording costs a seek and no new opening."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import soundfile

MAX_OPEN = 64
"""So many files are kept open in each process; the one unused for the longest is closed first."""

# In these, samples do not depend on where reading stood before the seek. In MP3 and Vorbis they do: the decoder goes on
# from its last state, and a crop would no longer be a function of its number alone.
_EXACT = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"})

_Version = tuple[int, int, int, int]

# A file is taken out while it is read from: no two threads share one, and one that fails is not put back.
_idle: dict[Path, tuple[_Version, soundfile.SoundFile]] = {}

# A handle that came through a fork would share its place in the file with the parent's.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)


class _File(soundfile.SoundFile):
    """Leaves the place in the file to libsndfile, which moves it on while reading.

    soundfile itself seeks to it after every read, and in FLAC that decodes a block once more.
    """

    def seekable(self) -> bool:
        """Answer for soundfile's `read` alone; `seek` does not ask."""
        return False


@contextmanager
def opened(path: Path, *, keep: bool) -> Iterator[soundfile.SoundFile]:
    """Open a file, or take one that was kept and has not been changed or replaced since; its place is anywhere.

    Args:
        path: of the file.
        keep: whether it stays open afterwards, where its format allows that and reading did not fail.

    Raises:
        OSError, soundfile.SoundFileError: it is not there, or not audio.
    """
    kept_version, file = _idle.pop(path, (None, None))
    version = _version(path)
    if file is None or kept_version != version:
        file = _File(os.fsencode(path))
        keep = keep and file.subtype in _EXACT
    try:
        yield file
    except BaseException:
        file.close()
        raise
    if not keep:
        file.close()
        return
    _idle[path] = version, file
    while len(_idle) > MAX_OPEN:
        _idle.pop(next(iter(_idle)))[1].close()


def _version(path: Path) -> _Version:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
