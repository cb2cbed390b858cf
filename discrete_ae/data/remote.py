"""Open a file, or a URL such as https://, s3:// and gs://, for random access.

A URL is read in blocks by range requests. Blocks are cached in a folder of bounded size, shared by all processes of a
user. fsspec's own caches on disk have no bound.
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

from discrete_ae.errors import DataError, ReadError, UsageError
from discrete_ae.paths import cache_folder
from discrete_ae.records import num_bytes

Found = TypeVar("Found")

PROTOCOLS = ("http", "https", "s3", "gs", "az", "hf")
"""Protocols of URLs that may be read; fsspec has others, which open files of this machine or log in to others."""
CACHE_SIZE_VARIABLE = "DISCRETE_AE_CACHE_SIZE"
"""Environment variable with the size of the block cache."""
CACHE_SIZE = "10GB"
BLOCK_BYTES = 2**20
# Number of folders among which the size of the cache is divided; eviction scans only one folder.
_FOLDERS = 256

TIME_LIMIT_S = 60.0
"""Timeout of an HTTP response; s3fs and gcsfs have their own."""
WAITS_S = (0.5, 2.0, 8.0)
"""Delays before the second, third and last attempt."""
_PASSING = {408, 425, 429}
"""HTTP statuses 4xx after which another attempt may succeed."""
# Names by which file systems report the version of a file; the first name present is used.
_VERSIONS = ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "created")


class Stamp(NamedTuple):
    """Size and version of a file, by which a changed file is recognized."""

    num_bytes: int
    version: str
    """Modification time in nanoseconds, or the version from the server; "" if the server gives none."""


def is_url(path: Path | str) -> bool:
    """Return whether a path is a URL, which is always a string."""
    return isinstance(path, str) and "://" in path


def open_at(path: Path | str) -> BinaryIO:
    """Open a file or URL for random access.

    Raises:
        OSError: the file cannot be opened.
        DataError: the URL cannot be read; also raised by the file's methods for reading.
        UsageError: the protocol is not one of `PROTOCOLS`, or the package for it is missing.
    """
    if is_url(path):
        return io.BufferedReader(_RemoteFile(str(path)))
    return Path(path).open("rb")


def stamp_of(path: Path | str) -> Stamp:
    """Return the size and version of a file or URL; those of a URL are read once per process.

    Raises:
        OSError: the file cannot be read.
        DataError: the URL cannot be read.
        UsageError: as in `open_at`.
    """
    if is_url(path):
        return _remote_stamp(str(path))
    stat = Path(path).stat()
    return Stamp(stat.st_size, str(stat.st_mtime_ns))


class SeekableFile(io.RawIOBase):
    """A seekable file of known size; a subclass implements `readinto` at the position `_at`.

    Args:
        size: size in bytes.
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
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, and return it."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at


class _RemoteFile(SeekableFile):
    """A URL as a seekable file."""

    def __init__(self, url: str) -> None:
        super().__init__(_remote_stamp(url).num_bytes)
        self._url, self._number = url, -1
        self._block: io.RawIOBase | io.BytesIO = io.BytesIO()

    def close(self) -> None:
        """Close the current block."""
        self._block.close()
        super().close()

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        """Read into `buffer`, at most to the end of the current block, and return the number of bytes."""
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
    """Open a block of a URL from the cache, or fetch and cache it."""
    stamp = _remote_stamp(url)
    start = number * BLOCK_BYTES
    stop = min(start + BLOCK_BYTES, stamp.num_bytes)
    digest = hashlib.sha256("\n".join(map(str, (url, *stamp, start, stop))).encode()).hexdigest()
    folder = cache_folder()
    path = folder / "blocks" / f"{int(digest[:4], 16) % _FOLDERS:02x}" / digest if folder else Path(os.devnull)
    with suppress(OSError):
        block = path.open("rb", buffering=0)
        if os.fstat(block.fileno()).st_size == stop - start:  # a crash of the machine may have truncated the block
            os.utime(block.fileno())
            return block
        block.close()
    content = _tried(url, lambda system, name: _fetched(system, name, start, stop, stamp.num_bytes))
    with suppress(OSError):  # without space for the block, it is not cached
        if folder:
            _keep(path, content)
    return io.BytesIO(content)


def _fetched(system: Any, name: str, start: int, stop: int, size: int) -> bytes:
    # cat_file would fetch the whole file from a server without range requests.
    with system.open(name, "rb", block_size=BLOCK_BYTES, cache_type="none", size=size) as file:
        file.seek(start)
        content: bytes = file.read(stop - start)
    if len(content) != stop - start:
        raise ConnectionError(f"expected {stop - start} bytes, got {len(content)}")
    return content


def _keep(path: Path, content: bytes) -> None:
    """Write a block, whole or not at all, and evict the least recently used blocks of its folder."""
    room = cache_size() // _FOLDERS
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink()
        raise
    found = []
    for entry in os.scandir(path.parent):
        with suppress(FileNotFoundError):  # evicted by another process
            found.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
    for _, size, name in sorted(found, reverse=True):
        room -= size
        if room < 0:
            Path(name).unlink(missing_ok=True)


def cache_size() -> int:
    """Return the maximum size of the block cache in bytes.

    Raises:
        UsageError: the environment variable is not a size, or the size is too small.
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
    cache_size()  # reports an invalid size before anything is fetched
    info = _tried(url, lambda system, name: system.info(name))
    if info.get("type") != "file" or info.get("size") is None:
        raise DataError(f"{url}: not a file, or the server does not give its length; copy it to a disk")
    return Stamp(info["size"], next((str(info[name]) for name in _VERSIONS if info.get(name)), ""))


def _tried(url: str, attempt: Callable[[Any, str], Found]) -> Found:
    """Call `attempt` with a URL's file system and the name of the file there; retry if the connection fails.

    Raises:
        ReadError: the URL cannot be read.
        UsageError: the protocol is not one of `PROTOCOLS`, or the package for it is missing.
    """
    for wait_s in (*WAITS_S, None):
        system, name = _system(url)
        try:
            return attempt(system, name)
        except Exception as error:  # each file system has its own kinds of errors
            # HTTPFileSystem.info raises any error as a FileNotFoundError.
            cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
            if reason := _final(cause):
                raise ReadError(f"{url}: {reason}") from error
            if wait_s is None:
                said = f"{type(cause).__name__}: {cause}".removesuffix(": ")
                raise ReadError(
                    f"{url}: cannot be read, tried {len(WAITS_S) + 1} times ({said}); check the connection"
                ) from error
            time.sleep(wait_s)
    raise AssertionError


def _system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL for this process and thread, and the name of the file in it.

    Raises:
        UsageError: the protocol is not one of `PROTOCOLS`, or the package for it is missing.
    """
    if url.partition("://")[0] not in PROTOCOLS or "::" in url:
        allowed = f"{', '.join(PROTOCOLS[:-1])} or {PROTOCOLS[-1]}"
        raise UsageError(f"{url}: expected a URL of {allowed} without ::; give such a URL, or a file")
    import fsspec.core  # the import takes a tenth of a second, and local files do not need it

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
    """Return the reason why a retry is pointless; None if a retry may succeed."""
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return "no such file; check the name"
    if isinstance(error, PermissionError) or status in (401, 403):
        return "access denied by the server; check its permissions or your credentials"
    if isinstance(status, int) and 400 <= status < 500 and status not in _PASSING:
        return f"rejected by the server (HTTP {status}); check the URL"
    if isinstance(error, ValueError) and "range requests" in str(error):
        return "the server does not support range requests; copy the file to a disk or to another server"
    return None
