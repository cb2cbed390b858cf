"""Read any part of an audio file at any sample rate, and write audio files.

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
from discrete_ae.data.files import NOT_AUDIO, UNKNOWN_FRAMES, AudioFile, probe, sound_of, unreadable_file
from discrete_ae.data.mpg123 import without_complaints
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

# The header of an MP3 may promise a few frames of 1152 samples too many. If more is missing, the file is truncated.
_LENGTH_ERROR = 4 * 1152
# A frame may need bits of earlier frames; without them it is decoded as silence, or wrongly.
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

    The part equals the same samples of the whole resampled recording, because the filter also reads the samples around
    the part. At a speed other than 1, the part may be shifted by up to half a sample.

    Args:
        source: path or URL of the file, or its header if already read.
        sample_rate: sample rate of the result in Hz.
        channels: channels of the result, as in `match_channels`; None keeps the file's.
        start_s: start of the part in seconds, rounded to a sample of the file.
        duration_s: length of the result in seconds; None reads to the end.
        speed: tape speed. At 2, all frequencies are doubled, those above half the sample rate are removed, and the
            result is half as long as the part read. Resampling is fastest if the speed is a multiple of 0.01.

    Returns:
        (C, N) with `round(duration_s * sample_rate)` samples, fewer if the recording ends earlier.

    Raises:
        DataError: the file cannot be read, is damaged, holds NaN or infinity, has the wrong number of channels, or
            no longer matches the header.
    """
    file = source if isinstance(source, AudioFile) else probe(source)
    start = min(round(start_s * file.sample_rate), file.num_frames)
    rate = round(file.sample_rate * speed, 6)  # rounding errors would spoil a simple ratio
    length = math.ceil((file.num_frames - start) * sample_rate / rate)
    if duration_s is not None:
        length = min(length, round(duration_s * sample_rate))
    if rate == sample_rate:
        return match_channels(_read_frames(file, start, start + length), channels, file.name)

    # At a speed other than 1, the exact margin would be long, and would only avoid a shift by up to half a sample.
    margin = margin_frames(file.sample_rate, sample_rate) if speed == 1 else filter_frames(rate, sample_rate)
    stop = start + math.ceil(length * rate / sample_rate)
    frames = match_channels(_read_frames(file, start - margin, stop + margin), channels, file.name)
    resampled = soxr.resample(np.ascontiguousarray(frames.T), rate, sample_rate, quality="HQ").T
    first = round(margin * sample_rate / rate)
    return np.ascontiguousarray(resampled[:, first : first + length])


def stream_audio(file: AudioFile, sample_rate: int, channels: int | None = None) -> Iterator[Audio]:
    """Read a whole recording in blocks, and resample it to `sample_rate` in Hz.

    The concatenated blocks equal `read_audio(file, sample_rate, channels)` to the last bit.

    Args:
        file: header of the recording.
        sample_rate: sample rate of the result in Hz.
        channels: channels of the result, as in `match_channels`; None keeps the file's.

    Returns:
        Blocks (C, n), each from as many frames of the file as `block_frames` returns, usually `BLOCK_FRAMES`.

    Raises:
        DataError: as in `read_audio`, but raised only when the iterator reaches the damaged block.
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
    """Mix (C, N) down to mono by the mean, or copy mono into each of `channels`.

    If `channels` is None or C, the audio is returned unchanged.

    Raises:
        DataError: the two numbers of channels differ and neither is 1; the message begins with `name`.
    """
    if channels is None or len(audio) == channels:
        return audio
    if channels == 1:
        return audio.mean(axis=0, keepdims=True)
    if len(audio) == 1:
        return audio.repeat(channels, axis=0)
    raise DataError(
        f"{name or 'audio'}: expected 1 or {channels} channels, got {len(audio)}; mix it down, or use a mono model"
    )


class Prefetched(Generic[Item]):
    """An iterable for a single pass, of which a thread prefetches up to `ahead` items.

    An error in the thread is raised in place of the item. Close the iterable if the pass ends early: the thread stops
    after its current item.
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
    """Yield a function that writes blocks (C, n) as 16-bit samples to a file, clipped at full scale.

    The file appears whole at the end of the with-block, or not at all.

    Args:
        target: path of the file.
        sample_rate: sample rate in Hz.
        channels: C.
        audio_format: libsndfile's name of the format.

    Raises:
        DataError: the format does not support the number of channels or the sample rate.
        OSError: the file cannot be written.
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
    """Append to a file that libsndfile failed to write, to find out the reason.

    Raises:
        OSError: the disk is the reason.
    """
    with path.open("ab") as file:
        file.write(bytes(_MORE_BYTES))


class _Part(NamedTuple):
    """Consecutive frames of a file or of a piece."""

    piece: Piece | None
    first: int
    """First frame, counted in the piece."""
    stop: int
    """End of the frames, counted in the piece."""
    length: int
    """Number of frames in the piece, or a lower bound."""
    at: int
    """First frame, counted in the recording."""


def _read_frames(file: AudioFile, start: int, stop: int) -> Audio:
    """Return frames [start, stop) of the recording as (C, N), with zeros outside of the recording."""
    frames = np.zeros((stop - start, file.channels), dtype=np.float32)
    for piece, first, end, length, at in _parts(file, start, stop):
        with _opened(file, piece) as source:
            _go_to(first, source)
            _read_into(frames[at - start :][: end - first], source, file, first, length)
    return np.ascontiguousarray(frames.T)


def _parts(file: AudioFile, start: int, stop: int) -> Iterator[_Part]:
    """Yield the parts to read for the frames [start, stop) of a recording, in order."""
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
    """Open a file, or a piece of one, for reading; errors within the block become a DataError."""
    fault = NOT_AUDIO
    try:
        is_all = len(file.pieces) == 1 and not file.pieces[0].head
        with sound_of(file.place, piece, file.member if is_all else "") as source:
            if piece or file.first_frame is None:
                is_as_long = source.frames == (piece.num_frames if piece else file.num_frames)
            else:  # a manifest's durations are rounded, and the length of the file may be unknown
                is_as_long = source.frames >= file.first_frame + file.num_frames - _LENGTH_ERROR
            is_as_long = is_as_long or source.frames >= UNKNOWN_FRAMES
            if not is_as_long or (source.samplerate, source.channels) != (file.sample_rate, file.channels):
                raise DataError(
                    f"{file.name}: was replaced by another recording, or its manifest gives a wrong length; index it "
                    "again"
                )
            fault = _truncated(file)
            yield source
    except (soundfile.SoundFileError, OSError) as error:
        raise unreadable_file(file.place, file.name, error, fault) from error


def _truncated(file: AudioFile) -> str:
    return f"damaged or truncated, expected the {file.num_frames} samples of its header; replace it"


def _go_to(frame: int, source: soundfile.SoundFile) -> None:
    """Seek to a frame, or read up to the frame if the format, such as GSM, cannot seek."""
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
    """Fill `window` (n, C) with the next frames of `source`, which is at frame `start` of `length`."""
    found = start + source.buffer_read_into(window, "float32")
    if min(start + len(window), length - _LENGTH_ERROR) > found:
        raise DataError(f"{file.name}: {_truncated(file)}")
    if not np.isfinite(window).all():
        raise DataError(f"{file.name}: holds NaN or infinite samples; repair or remove it")
