"""Open a file, or a URL of fsspec such as https://, s3:// and gs://, for reading at any place.

Of a URL, blocks are read by ranges, and kept in a folder of bounded size that all processes of a user share. The caches
of fsspec that lie on a disk have no bound.
"""

import functools
import hashlib
import io
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from discrete_ae.errors import DataError, UsageError
from discrete_ae.paths import cache_folder
from discrete_ae.records import num_bytes

Found = TypeVar("Found")

CACHE_SIZE_VARIABLE = "DISCRETE_AE_CACHE_SIZE"
"""The environment variable that sets the size of the folder of blocks."""
CACHE_SIZE = "10GB"
BLOCK_BYTES = 2**20
# Blocks lie in so many folders, each with its share of the size, so that only one of them is looked through.
_FOLDERS = 256

TIME_LIMIT_S = 60.0
"""For one answer of a server by HTTP; s3fs and gcsfs have limits of their own."""
WAITS_S = (0.5, 2.0, 8.0)
"""Before the second, third and last attempt."""
_PASSING = {408, 425, 429}
"""Those of the statuses 4xx of HTTP after which another attempt may do."""
# What file systems call the version of a file, the first one that they give.
_VERSIONS = ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "created")


class Stamp(NamedTuple):
    """By which it is seen that a file has changed."""

    num_bytes: int
    version: str
    """When it was changed last, in nanoseconds, or what its server gives for that; empty where it gives nothing."""


def is_url(path: Path | str) -> bool:
    """Return whether a path is a URL, which is a text."""
    return isinstance(path, str) and "://" in path


def open_at(path: Path | str) -> BinaryIO:
    """Open a file, or a URL, for reading at any place.

    Raises:
        OSError: the file cannot be opened.
        DataError: the URL cannot be read; from reading, too.
        UsageError: fsspec does not know such URLs, or the package for them is missing.
    """
    if is_url(path):
        return io.BufferedReader(_RemoteFile(str(path)))
    return Path(path).open("rb")


def stamp_of(path: Path | str) -> Stamp:
    """Return the size and version of a file or URL; of a URL, those that it had when the process asked first.

    Raises:
        OSError: the file cannot be read.
        DataError: the URL cannot be read.
        UsageError: as `open_at`.
    """
    if is_url(path):
        return _remote_stamp(str(path))
    stat = Path(path).stat()
    return Stamp(stat.st_size, str(stat.st_mtime_ns))


class SeekableFile(io.RawIOBase):
    """A file of a known size that can be read and sought in; a subclass reads what follows at its place.

    Args:
        size: in bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, and return it."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at


class _RemoteFile(SeekableFile):
    """A URL as a file that can be read and sought in."""

    def __init__(self, url: str) -> None:
        super().__init__(_remote_stamp(url).num_bytes)
        self._url, self._number = url, -1
        self._block: io.RawIOBase | io.BytesIO = io.BytesIO()

    def close(self) -> None:
        """Close the block that it is at."""
        self._block.close()
        super().close()

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        """Read what follows, to the end of its block at most."""
        if self._at >= self._size:
            return 0
        number, place = divmod(self._at, BLOCK_BYTES)
        if number != self._number:
            self._block.close()
            self._block, self._number = _block(self._url, number), number
        self._block.seek(place)
        count = self._block.readinto(buffer) or 0
        self._at += count
        return count


def _block(url: str, number: int) -> io.RawIOBase | io.BytesIO:
    """Open a block of a URL: that of the folder of blocks, or a new one, which is put there."""
    stamp = _remote_stamp(url)
    start = number * BLOCK_BYTES
    stop = min(start + BLOCK_BYTES, stamp.num_bytes)
    digest = hashlib.sha256("\n".join(map(str, (url, *stamp, start, stop))).encode()).hexdigest()
    folder = cache_folder()
    path = folder / "blocks" / f"{int(digest[:4], 16) % _FOLDERS:02x}" / digest if folder else Path(os.devnull)
    with suppress(OSError):
        block = path.open("rb", buffering=0)
        if os.fstat(block.fileno()).st_size == stop - start:  # after a crash of the machine, it may be cut off
            os.utime(block.fileno())
            return block
        block.close()
    content = _tried(url, lambda system, name: _fetched(system, name, start, stop, stamp.num_bytes))
    with suppress(OSError):  # no place for it: nothing is kept
        if folder:
            _keep(path, content)
    return io.BytesIO(content)


def _fetched(system: Any, name: str, start: int, stop: int, size: int) -> bytes:
    # Not cat_file, which takes the whole of a file from a server without ranges.
    with system.open(name, "rb", block_size=BLOCK_BYTES, cache_type="none", size=size) as file:
        file.seek(start)
        content: bytes = file.read(stop - start)
    if len(content) != stop - start:
        raise ConnectionError(f"{len(content)} bytes came instead of {stop - start}")
    return content


def _keep(path: Path, content: bytes) -> None:
    """Write a block, whole or not at all, and remove those of its folder that were used least recently."""
    room = cache_size() // _FOLDERS
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(temporary).replace(path)
    found = []
    for entry in os.scandir(path.parent):
        with suppress(FileNotFoundError):  # another process was faster
            found.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
    for _, size, name in sorted(found, reverse=True):
        room -= size
        if room < 0:
            Path(name).unlink(missing_ok=True)


def cache_size() -> int:
    """Return the largest size of the folder of blocks, in bytes.

    Raises:
        UsageError: the environment variable says no such size.
    """
    least = _FOLDERS * BLOCK_BYTES
    try:
        size = num_bytes(os.environ.get(CACHE_SIZE_VARIABLE) or CACHE_SIZE)
    except ValueError as error:
        raise UsageError(f"{CACHE_SIZE_VARIABLE}: {error}") from error
    if size < least:
        raise UsageError(f"{CACHE_SIZE_VARIABLE}: expected at least {least} bytes, got {size}")
    return size


@functools.cache
def _remote_stamp(url: str) -> Stamp:
    cache_size()  # a wrong one is said before anything is fetched
    info = _tried(url, lambda system, name: system.info(name))
    if info.get("type") != "file" or info.get("size") is None:
        raise DataError(f"{url}: no file, or one whose length the server does not say; copy it to a disk")
    return Stamp(info["size"], next((str(info[name]) for name in _VERSIONS if info.get(name)), ""))


def _tried(url: str, attempt: Callable[[Any, str], Found]) -> Found:
    """Call with the file system of a URL, and the name in it, several times where the connection fails.

    Raises:
        DataError: it cannot be read.
        UsageError: no file system is known for it, or its package is missing.
    """
    for wait_s in (*WAITS_S, None):
        system, name = _system(url)
        try:
            return attempt(system, name)
        except Exception as error:  # of any kind: each file system has its own
            # By HTTP, whatever is wrong is a FileNotFoundError where the size is asked for.
            cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
            if reason := _final(cause):
                raise DataError(f"{url}: {reason}") from error
            if wait_s is None:
                said = f"{type(cause).__name__}: {cause}".removesuffix(": ")
                raise DataError(
                    f"{url}: cannot be read, tried {len(WAITS_S) + 1} times ({said}); see to the connection"
                ) from error
            time.sleep(wait_s)
    raise AssertionError


def _system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, that of this process and thread, and the name in it."""
    import fsspec.core  # takes a tenth of a second, and local files need none of it

    options = {}
    if url.startswith(("http://", "https://")):
        import aiohttp

        options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=TIME_LIMIT_S)}}
    try:
        system, name = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{url}: {error}; give another URL, or a file") from error
    return system, name


def _final(error: BaseException) -> str | None:
    """Return why another attempt is in vain; None where it may do."""
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return "no such file; check the name"
    if isinstance(error, PermissionError) or status in (401, 403):
        return "the server refuses it; see to its permissions, or to your credentials"
    if isinstance(status, int) and 400 <= status < 500 and status not in _PASSING:
        return f"the server refuses it (HTTP {status}); check the URL"
    if isinstance(error, ValueError) and "range requests" in str(error):
        return "the server gives whole files alone, no parts of them; copy it to a disk or to another server"
    return None
