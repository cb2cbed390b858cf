"""Compare the length in a container's header with the contents, and correct the header for libsndfile.

libsndfile trusts the length in a WAV header or in an MP3's first frame, even if it is wrong. If a file holds several
concatenated streams, libsndfile reads only the first. In both cases, it silently returns only part of the samples.

Sources: the Microsoft RIFF specification; RFC 3533 (Ogg), sections 4 and 6; ISO 11172-3, section 2.4 (MP3 frames).
"""

import functools
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from discrete_ae.data.remote import SeekableFile, open_at, stamp_of
from discrete_ae.errors import DataError

# A program that writes to a pipe does not know the length, and writes the largest possible value, or nearly that.
UNKNOWN_BYTES = 0x7FF00000
# Some programs include the header in the length, or append a tag.
TOLERANCE_BYTES = 1024
_MAX_RIFF_BYTES = 2**32

_OGG_PAGE, _OGG_LONGEST_PAGE, _OGG_HEADER = b"OggS", 65307, 27
_OGG_FIRST_PAGE, _OGG_LAST = b"OggS\0\x02", 0x04
_PAGE_BYTES = 2**14

_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MP3_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_VBRI_AT = 36
_LONGEST_FRONT = 52  # from the start of an MP3 frame to the end of a tag's lengths
# The number of frames in a tag may include the tag itself, or a few frames that hold only the encoder's delay.
_MP3_TOLERANCE_FRAMES = 4


class Piece(NamedTuple):
    """A part of a file that libsndfile reads as a whole file: `head`, then the file's bytes from `start` to `stop`."""

    head: bytes
    start: int
    stop: int
    num_frames: int = 0
    """Samples per channel; 0 until they are counted."""


class Container(NamedTuple):
    """The way to read the samples of a file."""

    pieces: tuple[Piece, ...] = ()
    """Pieces to read one after the other; empty if the file is read unchanged."""
    doubt: str | None = None
    """Description of the mismatch between the header or format and the contents; None if they agree."""


class Stretch:
    """The bytes of a file from `start` to `stop`, read on access, a page at a time."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file, self._start, self._size = file, start, stop - start
        self._page, self._first, self._last = b"", 0, 0  # the page, and its start and end

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: slice) -> bytes:
        start, stop = place.start or 0, self._size if place.stop is None else place.stop
        if not self._first <= start <= stop <= self._last:
            self._file.seek(self._start + start)
            page = self._file.read(max(min(max(stop - start, _PAGE_BYTES), self._size - start), 0))
            self._page, self._first, self._last = page, start, start + len(page)
        return self._page[start - self._first : stop - self._first]

    def find(self, wanted: bytes, start: int) -> int:
        """Return the place of the first occurrence of `wanted` at or after `start`; -1 if there is no such place."""
        while start < self._size:
            if (found := self[start : start + _PAGE_BYTES].find(wanted)) >= 0:
                return start + found
            start += _PAGE_BYTES - len(wanted) + 1
        return -1


def look_into(path: Path | str, piece: Piece | None = None) -> Container:
    """Compare the stated length of a WAV, Ogg or MP3 file with its contents; other formats are read unchanged.

    Args:
        path: path or URL of the file.
        piece: part of the file to treat as a whole file, such as a member of a tar; None for the whole file.

    Returns:
        The way to read the samples. If `piece` is given, the result has at least one piece.

    Raises:
        OSError: the file cannot be read.
        DataError: the URL cannot be read.
    """
    with open_at(path) as file:
        start, stop = (piece.start, piece.stop) if piece else (0, stamp_of(path).num_bytes)
        data = Stretch(file, start, stop)
        front = data[:12]
        if front[:4] in (b"RIFF", b"RIFX") and front[8:] == b"WAVE":
            found = _wav(data)
        elif front[:4] == _OGG_PAGE:
            found = _ogg(data)
        else:
            found = _mp3(data)
    if piece is None:
        return found
    pieces = tuple(one._replace(start=start + one.start, stop=start + one.stop) for one in found.pieces)
    return Container(pieces or (piece,), found.doubt)


def lengths_differ(promised: int, found: int, unit: str = "bytes of samples") -> str:
    """Return the description of a wrong length in a header."""
    return f"its header says {promised} {unit}, the file holds {found}"


def falls_short(promised: int, found: int) -> str | None:
    """Return the description of a WAV that has fewer bytes of samples than its header promises.

    Return None if the header has no length, or the lengths are about equal.
    """
    return lengths_differ(promised, found) if found + TOLERANCE_BYTES < promised < UNKNOWN_BYTES else None


class PieceFile(SeekableFile):
    """A piece as a seekable file.

    libsndfile, which reads this file, cannot handle exceptions. An error is therefore stored in `error`, and the file
    appears to end there.

    Args:
        path: path or URL of the file.
        piece: the piece of the file.
        member: name of the recording in the tar, if the piece is a whole member of a tar.

    Raises:
        OSError: the file cannot be opened.
        DataError: the URL cannot be opened, or the member is no longer at this place in the tar.
    """

    def __init__(self, path: Path | str, piece: Piece, member: str = "") -> None:
        self.error: OSError | DataError | None = None
        self._file = open_at(path)
        if member and not _begins_at(self._file, piece, member):
            self._file.close()
            raise DataError(
                f"{path}/{member}: is no longer at its place in the tar, which was rewritten or truncated; index the "
                "tar again"
            )
        self._piece = piece
        self._head_size = len(piece.head)
        self._place = 0  # position in the file
        super().__init__(self._head_size + piece.stop - piece.start)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        """Read some of the bytes that follow into `buffer`, and return their number."""
        head, start, stop, _ = self._piece
        if self._at < self._head_size:
            part = head[self._at : self._at + len(buffer)]
        else:
            place = self._at - self._head_size + start
            if place >= stop:
                return 0
            try:
                if place != self._place:  # mpg123 reads in sequence, a few bytes at a time
                    self._file.seek(place)
                part = self._file.read(min(len(buffer), stop - place))
            except (OSError, DataError) as error:
                self.error = error
                return 0
            self._place = place + len(part)
        count = len(part)
        buffer[:count] = part
        self._at += count
        return count


def _begins_at(file: BinaryIO, piece: Piece, member: str) -> bool:
    """Return whether the piece follows a tar header with its size and the last part of the member's name."""
    file.seek(piece.start - tarfile.BLOCKSIZE)
    try:
        found = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    is_short = member.isascii() and len(member) <= tarfile.LENGTH_NAME  # a longer name is stored elsewhere
    same_name = PurePosixPath(found.name).name == PurePosixPath(member).name
    return found.size == piece.stop - piece.start and (same_name or not is_short)


def _wav(data: Stretch) -> Container:
    """Treat all bytes after the promised end as samples too, unless they are other chunks."""
    number, size = struct.Struct("<I" if data[:4] == b"RIFF" else ">I"), len(data)

    def after(at: int) -> int:
        (length,) = number.unpack(data[at + 4 : at + 8])
        return int(at + 8 + length + length % 2)

    at = 12
    while data[at : at + 4] != b"data":
        if at + 8 > size:
            return Container()
        at = after(at)
    if at + 8 > size:
        return Container()
    (promised,), begin = number.unpack(data[at + 4 : at + 8]), at + 8
    riff_end = 8 + number.unpack(data[4:8])[0]

    def chunks_from(at: int) -> bool:
        """Return whether whole chunks, or none, fill the file from `at` to its end, or to the end in the header."""
        while at < riff_end - 1 and at + 8 <= size:
            at = after(at)
        return abs(at - riff_end) <= 1 or abs(at - size) <= 1

    rest = size - begin - promised
    is_closed = any(map(chunks_from, (begin + promised, begin + promised + promised % 2)))
    believed = size < _MAX_RIFF_BYTES and is_closed and (promised > 0 or riff_end >= size - 1)
    if rest <= (TOLERANCE_BYTES if promised else 0) or believed:
        return Container()
    # From these lengths, libsndfile concludes that the file was never closed, and reads to the end.
    head = data[:4] + number.pack(8) + data[8 : at + 4] + number.pack(0)
    return Container((Piece(head, begin, size),), lengths_differ(promised, size - begin))


def _ogg(data: Stretch) -> Container:
    last = max(len(data) - _OGG_LONGEST_PAGE, 0)
    last += max(data[last:].rfind(_OGG_PAGE), 0)
    header = data[last : last + _OGG_HEADER]
    is_whole = len(header) == _OGG_HEADER and _ogg_page_end(data, last) <= len(data)
    doubt = None
    if not is_whole or not header[5] & _OGG_LAST:
        doubt = "its last page is missing or lacks the end mark, as in a truncated recording"
    if header[14:18] == data[14:18]:
        return Container(doubt=doubt)
    starts: list[int] = []
    at, header_end = 0, -1
    while at >= 0:
        if at != header_end:  # the first pages of multiplexed streams follow one another
            starts.append(at)
        header_end = _ogg_page_end(data, at) if at + _OGG_HEADER <= len(data) else len(data)
        at = data.find(_OGG_FIRST_PAGE, at + 1)
    if len(starts) == 1:
        return Container(doubt=doubt)
    pieces = tuple(Piece(b"", start, stop) for start, stop in zip(starts, [*starts[1:], len(data)], strict=True))
    return Container(pieces, _several(len(pieces)))


def _ogg_page_end(data: Stretch, at: int) -> int:
    (count,) = data[at + 26 : at + 27]
    lengths = data[at + _OGG_HEADER : at + _OGG_HEADER + count]
    return at + _OGG_HEADER + count + sum(lengths)


class _Frame(NamedTuple):
    """The contents of the four bytes at the beginning of an MP3 frame."""

    length: int
    """Length in bytes."""
    tag_at: int
    """Offset in the frame at which a tag would begin, after the space for side information."""
    kind: tuple[int, int]
    """Version and sample rate, which all frames of a stream share."""


class _Tag(NamedTuple):
    """A tag: the first frame of a stream, if the frame holds no samples."""

    lengths_at: int = 0
    """Place of the two lengths, 4 bytes each; 0 if the tag lacks one of them or is a VBRI tag."""
    num_frames: int = 0
    """Number of frames that follow the tag."""
    num_bytes: int = 0
    """Size of the stream, tag included."""


class _Run(NamedTuple):
    """Consecutive MP3 frames."""

    start: int
    stop: int
    num_frames: int


def _mp3(data: Stretch) -> Container:
    start = _id3_end(data, 0)
    if not (frame := _mp3_frame(data, start)) or not _mp3_frame(data, start + frame.length):
        return Container()
    tag = _mp3_tag(data, start, frame) or _Tag()
    if tag.num_frames and abs(len(data) - start - tag.num_bytes) <= TOLERANCE_BYTES:
        return Container()
    runs = list(_mp3_runs(data, start, frame.kind))
    doubt = None
    if len(runs) > 1:
        doubt = _several(len(runs))
    elif tag.num_frames and abs(tag.num_frames - runs[0].num_frames) > _MP3_TOLERANCE_FRAMES:
        doubt = lengths_differ(tag.num_frames, runs[0].num_frames - 1, "MP3 frames")
    return Container(tuple(_mp3_piece(data, run) for run in runs), doubt)


def _mp3_runs(data: Stretch, at: int, kind: tuple[int, int]) -> Iterator[_Run]:
    """Yield the runs of frames of the same kind. Other bytes between frames, or another stream's tag, end a run."""
    while at < len(data):
        start, count = at, 0
        while (frame := _mp3_frame(data, at)) and frame.kind == kind and at + frame.length <= len(data):
            if count and _mp3_tag(data, at, frame):
                break
            at, count = at + frame.length, count + 1
        if count:
            yield _Run(start, at, count)
        else:
            at += 1
        at = max(at, _id3_end(data, at))
        if _mp3_frame(data, at) is None:
            at = _next_mp3_frame(data, at, kind)


def _next_mp3_frame(data: Stretch, at: int, kind: tuple[int, int]) -> int:
    """Return the next place where two frames of this kind follow one another, or the end."""
    while (at := data.find(b"\xff", at)) >= 0:
        frame = _mp3_frame(data, at)
        following = frame and frame.kind == kind and _mp3_frame(data, at + frame.length)
        if following and following.kind == kind:
            return at
        at += 1
    return len(data)


def _mp3_tag(data: Stretch, start: int, frame: _Frame) -> _Tag | None:
    """Return the tag if this frame is one; None if it holds samples."""
    at = frame.tag_at
    front = data[start : start + _LONGEST_FRONT]
    if front[at : at + 4] in (b"Xing", b"Info") and len(front) >= at + 16:
        flags, frames, num_bytes = struct.unpack(">3I", front[at + 4 : at + 16])
        return _Tag(start + at + 8, frames, num_bytes) if flags & 3 == 3 else _Tag()
    return _Tag() if front[_VBRI_AT : _VBRI_AT + 4] == b"VBRI" else None


def _mp3_piece(data: Stretch, run: _Run) -> Piece:
    """Return the piece of a run of frames, which begins with a tag that gives their number.

    If the run has a tag with lengths, this tag is used with corrected lengths.
    """
    frame = _mp3_frame(data, run.start)
    assert frame is not None
    num_bytes = run.stop - run.start
    tag = _mp3_tag(data, run.start, frame)
    if tag and tag.lengths_at:
        said = struct.pack(">2I", run.num_frames - 1, num_bytes)
        return Piece(data[run.start : tag.lengths_at] + said, tag.lengths_at + len(said), run.stop)
    # Without a tag, libsndfile would guess the length from the size of the first frame.
    header = int.from_bytes(data[run.start : run.start + 4])
    for kbps in range(1, 15):  # the first bitrate whose frame is large enough
        first = (header & ~0xF200 | kbps << 12 | 1 << 16).to_bytes(4)
        new = _mp3_frame(first, 0)
        if new and new.length >= new.tag_at + 16:
            said = struct.pack(">3I", 3, run.num_frames - bool(tag), num_bytes + new.length)
            head = first + bytes(new.tag_at - 4) + b"Xing" + said
            skipped = run.start + (frame.length if tag else 0)
            return Piece(head + bytes(new.length - len(head)), skipped, run.stop)
    raise AssertionError("no MP3 frame has room for a tag")


def _mp3_frame(data: Stretch | bytes, at: int) -> _Frame | None:
    header = data[at : at + 4]
    return _parsed_mp3(header) if header[:1] == b"\xff" and len(header) == 4 else None


@functools.lru_cache(maxsize=4096)
def _parsed_mp3(header: bytes) -> _Frame | None:
    bits = int.from_bytes(header)
    version, layer, kbps, rate = bits >> 19 & 3, bits >> 17 & 3, bits >> 12 & 15, bits >> 10 & 3
    if bits >> 21 != 0x7FF or version == 1 or layer != 1 or kbps in (0, 15) or rate == 3:
        return None
    is_first, is_mono = version == 3, bits >> 6 & 3 == 3
    bytes_per_kbps = (144 if is_first else 72) * 1000
    length = bytes_per_kbps * _MP3_KBPS[is_first][kbps] // _MP3_RATES[version][rate] + (bits >> 9 & 1)
    side = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    return _Frame(length, 4 + side, (version, rate))


def _id3_end(data: Stretch, at: int) -> int:
    """Return the end of the ID3 tags that begin at `at`; `at` itself if there are none."""
    while data[at : at + 3] == b"ID3":
        size = data[at + 6 : at + 10]
        at += 10 + sum((byte & 127) << 7 * (len(size) - 1 - place) for place, byte in enumerate(size))
    return at


def _several(count: int) -> str:
    return f"holds {count} streams one after the other, as in concatenated files"
