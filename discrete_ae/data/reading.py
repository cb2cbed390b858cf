"""Samples from audio files, any part of them at any sample rate, and to audio files.

Legend: C channels, N samples per channel.
"""

import errno
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from discrete_ae.data.containers import Piece
from discrete_ae.data.files import UNKNOWN_FRAMES, AudioFile, probe, sound_of
from discrete_ae.data.mpg123 import without_complaints
from discrete_ae.data.remote import open_at
from discrete_ae.data.resampling import (
    BLOCK_FRAMES,
    Audio,
    Resampler,
    block_frames,
    filter_frames,
    margin_frames,
)
from discrete_ae.errors import DataError
from discrete_ae.writing import written_whole

Item = TypeVar("Item")

_END = object()
_MORE_BYTES = 2**20

# The header of an MP3 may promise a few of its frames, 1152 samples each, more than there are; more is missing only
# where a file was cut off.
_LENGTH_ERROR = 4 * 1152
# A frame may hold bits of frames before it; without them it is decoded as silence, or wrongly.
_MP3_LEAD = 32 * 1152


def read_audio(
    source: AudioFile | str | Path,
    sample_rate: int,
    channels: int | None = None,
    start_s: float = 0.0,
    duration_s: float | None = None,
    *,
    speed: float = 1.0,
) -> Audio:
    """Read a part of a recording, by seeking, and resample it to `sample_rate` in Hz.

    A part equals the same samples of the whole recording resampled: the filter sees what lies around it. At another
    speed it does so too, but for a shift by up to half a sample.

    Args:
        source: the file or its URL, or its header where that is known already.
        sample_rate: of the result, in Hz.
        channels: of the result, as in `match_channels`; None keeps the file's.
        start_s: where the part begins in the recording, rounded to a sample of the file.
        duration_s: length of the result; None reads to the end.
        speed: as of a tape: at 2, all frequencies are doubled, those above half the sample rate are left out, and the
            result is half as long as what is read. Resampling is fastest at a speed in hundredths.

    Returns:
        (C, N) with `round(duration_s * sample_rate)` samples, fewer where the recording ends before.

    Raises:
        DataError: the file cannot be read, is damaged, holds NaN or infinity, has the wrong number of channels, or is
            no longer the one of the header.
    """
    file = source if isinstance(source, AudioFile) else probe(source)
    start = min(round(start_s * file.sample_rate), file.num_frames)
    rate = round(file.sample_rate * speed, 6)  # binary fractions would make it no simple ratio
    length = math.ceil((file.num_frames - start) * sample_rate / rate)
    if duration_s is not None:
        length = min(length, round(duration_s * sample_rate))
    if rate == sample_rate:
        return match_channels(_read_frames(file, start, start + length), channels, file.name)

    # At another speed the ratio is so odd that the exact margin would be long, for nothing but half a sample.
    margin = margin_frames(file.sample_rate, sample_rate) if speed == 1 else filter_frames(rate, sample_rate)
    stop = start + math.ceil(length * rate / sample_rate)
    frames = match_channels(_read_frames(file, start - margin, stop + margin), channels, file.name)
    resampled = soxr.resample(np.ascontiguousarray(frames.T), rate, sample_rate, quality="HQ").T
    first = round(margin * sample_rate / rate)
    return np.ascontiguousarray(resampled[:, first : first + length])


def stream_audio(file: AudioFile, sample_rate: int, channels: int | None = None) -> Iterator[Audio]:
    """Read a whole recording from its beginning to its end in blocks, and resample it to `sample_rate` in Hz.

    The blocks, put together, are `read_audio(file, sample_rate, channels)`, to the last bit.

    Args:
        file: by its header.
        sample_rate: of the result, in Hz.
        channels: of the result, as in `match_channels`; None keeps the file's.

    Returns:
        Blocks (C, n) of `block_frames` of the file each, usually `BLOCK_FRAMES`.

    Raises:
        DataError: as `read_audio`, when the block is reached.
    """
    length = math.ceil(file.num_frames * sample_rate / file.sample_rate)
    block = block_frames(file.sample_rate, sample_rate, max(file.channels, channels or 0))
    try:
        resampler = Resampler(file.sample_rate, sample_rate, channels or file.channels, length)
    except DataError as error:
        raise DataError(f"{file.name}: {error}") from error
    for piece, first, stop, length, _ in _parts(file, 0, file.num_frames):
        with _opened(file, piece) as source:
            _go_to(first, source)
            for start in range(first, stop, block):
                frames = np.zeros((min(block, stop - start), file.channels), np.float32)
                _read_into(frames, source, file, start, length)
                yield resampler.push(match_channels(np.ascontiguousarray(frames.T), channels, file.name))
    yield resampler.finish()


def match_channels(audio: Audio, channels: int | None, name: str | None = None) -> Audio:
    """Mix (C, N) down to mono by the mean, or copy mono into each of `channels`; None and C itself change nothing.

    Raises:
        DataError: between two different numbers of channels, neither of them 1; it says `name`.
    """
    if channels is None or len(audio) == channels:
        return audio
    if channels == 1:
        return audio.mean(axis=0, keepdims=True)
    if len(audio) == 1:
        return audio.repeat(channels, axis=0)
    raise DataError(
        f"{name or 'audio'}: has {len(audio)} channels, expected 1 or {channels}; mix it down, or use a mono model"
    )


class Prefetched(Generic[Item]):
    """Iterates once over items that a thread makes up to `ahead` in advance; an error is raised in the item's place.

    Close it where it is left before its end: the thread stops after the item that it is at.
    """

    def __init__(self, items: Iterable[Item], ahead: int) -> None:
        self._items = iter(items)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._waiting = deque(self._pool.submit(next, self._items, _END) for _ in range(ahead))

    def __iter__(self) -> Iterator[Item]:
        with closing(self):
            while (item := self._waiting.popleft().result()) is not _END:
                self._waiting.append(self._pool.submit(next, self._items, _END))
                yield item  # type: ignore[misc]

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def recorded_whole(
    target: Path, sample_rate: int, channels: int, audio_format: str = "WAV"
) -> Iterator[Callable[[Audio], None]]:
    """Give what writes blocks (C, n), in 16 bits, to a file that is there at the end of the block, or not at all.

    What lies beyond full scale is clipped.

    Args:
        target: the file.
        sample_rate: in Hz.
        channels: C.
        audio_format: a name of libsndfile's.

    Raises:
        DataError: the format cannot hold so many channels or such a sample rate.
        OSError: it cannot be written.
    """
    with written_whole(target) as temporary:
        try:
            file = soundfile.SoundFile(temporary, "w", sample_rate, channels, format=audio_format, subtype="PCM_16")
        except soundfile.LibsndfileError as error:
            _ask_disk(temporary)
            name = audio_format.lower()
            raise DataError(
                f"{channels} channels at {sample_rate} Hz cannot be written as {name}; use another --format"
            ) from error
        count = 0

        def write(block: Audio) -> None:
            nonlocal count
            file.write(block.T.clip(-1, 1))
            count += block.shape[1]

        try:
            with file:
                yield write
            complete = soundfile.info(temporary).frames == count
        except soundfile.LibsndfileError:
            complete = False
        if not complete:
            _ask_disk(temporary)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))


def _ask_disk(path: Path) -> None:
    """Write more to a file that libsndfile failed to write, since it does not say why.

    Raises:
        OSError: what the system says, if it is the disk.
    """
    with path.open("ab") as file:
        file.write(bytes(_MORE_BYTES))


class _Part(NamedTuple):
    """Frames of a file, or of a piece of one, which follow one another."""

    piece: Piece | None
    first: int
    """Of the piece."""
    stop: int
    """Of the piece."""
    length: int
    """Frames that the piece has, or has at least."""
    at: int
    """Which frame of the recording the first one is."""


def _read_frames(file: AudioFile, start: int, stop: int) -> Audio:
    """Return frames [start, stop) of the recording as (C, N), zeros where they lie outside of it."""
    frames = np.zeros((stop - start, file.channels), dtype=np.float32)
    for piece, first, end, length, at in _parts(file, start, stop):
        with _opened(file, piece) as source:
            _go_to(first, source)
            _read_into(frames[at - start :][: end - first], source, file, first, length)
    return np.ascontiguousarray(frames.T)


def _parts(file: AudioFile, start: int, stop: int) -> Iterator[_Part]:
    """What to read for the frames [start, stop) of a recording, one after the other."""
    offset, begin = file.first_frame or 0, 0
    low, high = offset + max(start, 0), offset + min(stop, file.num_frames)
    for piece in file.pieces or [None]:
        length = piece.num_frames if piece else offset + file.num_frames
        first, last = max(low - begin, 0), min(high - begin, length)
        if first < last:
            yield _Part(piece, first, last, length, begin + first - offset)
        begin += length


@contextmanager
def _opened(file: AudioFile, piece: Piece | None) -> Iterator[soundfile.SoundFile]:
    """Give a file, or a piece of one, to read from; what goes wrong meanwhile is a DataError."""
    try:
        is_all = len(file.pieces) == 1 and not file.pieces[0].head
        with sound_of(file.place, piece, file.member if is_all else "") as source:
            if piece or file.first_frame is None:
                is_as_long = source.frames == (piece.num_frames if piece else file.num_frames)
            else:  # a manifest's durations are rounded, and it need not know how long the file is
                is_as_long = source.frames >= file.first_frame + file.num_frames - _LENGTH_ERROR
            is_as_long = is_as_long or source.frames >= UNKNOWN_FRAMES
            if not is_as_long or (source.samplerate, source.channels) != (file.sample_rate, file.channels):
                raise DataError(
                    f"{file.name}: was replaced by another recording meanwhile, or its manifest gives another length; "
                    "index it again"
                )
            yield source
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(file) from error


def _go_to(frame: int, source: soundfile.SoundFile) -> None:
    """Seek; read on from the beginning where the format, such as GSM, cannot be sought in."""
    if not frame:
        return
    if not soundfile.SoundFile.seekable(source):
        _read_past(frame, source)
    elif source.format == "MP3":
        lead = min(frame, _MP3_LEAD)
        with without_complaints():
            if frame > lead:
                source.seek(frame - lead)
            _read_past(lead, source)
    else:
        source.seek(frame)


def _read_past(frames: int, source: soundfile.SoundFile) -> None:
    block = np.empty((min(frames, BLOCK_FRAMES), source.channels), np.float32)
    while frames and (found := source.buffer_read_into(block[:frames], "float32")):
        frames -= found


def _read_into(
    window: npt.NDArray[np.float32], source: soundfile.SoundFile, file: AudioFile, start: int, length: int
) -> None:
    """Fill (n, C) with what follows in `source`, of `length` frames, which stands at frame `start`."""
    found = start + source.buffer_read_into(window, "float32")
    if min(start + len(window), length - _LENGTH_ERROR) > found:
        raise DataError(f"{file.name}: ends before the {file.num_frames} samples that its header promises; replace it")
    if not np.isfinite(window).all():
        raise DataError(f"{file.name}: holds NaN or infinite samples; repair or remove it")


def _unreadable(file: AudioFile) -> DataError:
    """Say why a file cannot be read, which libsndfile does not tell."""
    try:
        with open_at(file.place) as source:
            if not source.read(1):
                return DataError(f"{file.name}: is empty now; replace it")
    except OSError as error:
        return DataError(f"{file.name}: cannot be read any more ({error.strerror}); see to the file, or to its disk")
    return DataError(f"{file.name}: not readable as audio; remove or replace it")
