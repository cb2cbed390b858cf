"""Samples from audio files, any part of them at any sample rate, and to audio files.

Legend: C channels, N samples per channel.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from discrete_ae.data.files import AudioFile, probe
from discrete_ae.errors import DataError
from discrete_ae.writing import unwritable, written_whole

Audio = npt.NDArray[np.float32]
"""Samples (C, N), full scale at -1 and 1."""

# soxr's HQ filter looks less far than this to both sides of a sample: so many samples at the lower rate, and so long.
MARGIN_SAMPLES = 160
MARGIN_S = 0.02

BLOCK_FRAMES = 2**16
"""So much goes through a resampler at once, at usual rates, and is read at once; see `block_frames`."""

# Samples of all channels, as they go in or come out: 4 MB.
_BLOCK_SAMPLES = 2**20
# soxr holds back about 800 samples of each channel at the lower rate, several times over at the higher one: 10 kB for
# each unit of their ratio, 80 MB in all.
_MAX_RATIO_OF_ALL_CHANNELS = 2**13

MAX_OPEN = 64
"""So many files are kept open in each process; the one unused for the longest is closed first."""

# In these, samples do not depend on where reading stood before the seek. In MP3 and Vorbis they do: the decoder goes on
# from its last state, and a crop would no longer be a function of its number alone.
_EXACT = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"})

# The header of an MP3 may promise a few of its frames, 1152 samples each, more than there are; more is missing only
# where a file was cut off.
_LENGTH_ERROR = 4 * 1152

_Version = tuple[int, int, int, int]

# A file is taken out while it is read from: no two threads share one, and one that fails is not put back.
_idle: dict[Path, tuple[_Version, soundfile.SoundFile]] = {}

# A handle that came through a fork would share its place in the file with the parent's.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)


def read_audio(
    source: AudioFile | str | Path,
    sample_rate: int,
    channels: int | None = None,
    start_s: float = 0.0,
    duration_s: float | None = None,
    *,
    speed: float = 1.0,
    keep_open: bool = False,
) -> Audio:
    """Read a part of a recording, by seeking, and resample it to `sample_rate` in Hz.

    A part equals the same samples of the whole recording resampled: the filter sees what lies around it. At another
    speed it does so too, but for a shift by up to half a sample.

    Args:
        source: the file, or its header where that is known already.
        sample_rate: of the result, in Hz.
        channels: of the result, as in `match_channels`; None keeps the file's.
        start_s: where the part begins in the recording, rounded to a sample of the file.
        duration_s: length of the result; None reads to the end.
        speed: as of a tape: at 2, all frequencies are doubled, those above half the sample rate are left out, and the
            result is half as long as what is read. Resampling is fastest at a speed in hundredths.
        keep_open: whether the file stays open, for other parts of it to be read soon; see `handles`.

    Returns:
        (C, N) with `round(duration_s * sample_rate)` samples, fewer where the recording ends before.

    Raises:
        DataError: the file cannot be read, is damaged, holds NaN or infinity, has the wrong number of channels, or is
            no longer the one of the header.
    """
    file = source if isinstance(source, AudioFile) else probe(Path(source))
    start = min(round(start_s * file.sample_rate), file.num_frames)
    rate = round(file.sample_rate * speed, 6)  # binary fractions would make it no simple ratio
    length = math.ceil((file.num_frames - start) * sample_rate / rate)
    if duration_s is not None:
        length = min(length, round(duration_s * sample_rate))
    if rate == sample_rate:
        return match_channels(_read_frames(file, start, start + length, keep_open), channels, file.path)

    # At another speed the ratio is so odd that the exact margin would be long, for nothing but half a sample.
    margin = margin_frames(file.sample_rate, sample_rate) if speed == 1 else filter_frames(rate, sample_rate)
    stop = start + math.ceil(length * rate / sample_rate)
    frames = match_channels(_read_frames(file, start - margin, stop + margin, keep_open), channels, file.path)
    resampled = soxr.resample(np.ascontiguousarray(frames.T), rate, sample_rate, quality="HQ").T
    first = round(margin * sample_rate / rate)
    return np.ascontiguousarray(resampled[:, first : first + length])


def stream_audio(file: AudioFile, sample_rate: int, channels: int | None = None) -> Iterator[Audio]:
    """Read a whole recording from its beginning to its end in blocks, and resample it to `sample_rate` in Hz.

    The blocks, put together, are `read_audio(file, sample_rate, channels)`: to the last bit, except of an MP3.

    Args:
        file: by its header.
        sample_rate: of the result, in Hz.
        channels: of the result, as in `match_channels`; None keeps the file's.

    Returns:
        Blocks (C, n) of `block_frames` of the file each, usually `BLOCK_FRAMES`. That is no option: the last bits of an
        MP3's samples depend on it, as on every seek.

    Raises:
        DataError: as `read_audio`, when the block is reached.
    """
    length = math.ceil(file.num_frames * sample_rate / file.sample_rate)
    block = block_frames(file.sample_rate, sample_rate, max(file.channels, channels or 0))
    try:
        resampler = Resampler(file.sample_rate, sample_rate, channels or file.channels, length)
    except DataError as error:
        raise DataError(f"{file.path}: {error}") from error
    try:
        with soundfile.SoundFile(os.fsencode(file.path)) as source:
            _require_unchanged(source, file)
            for start in range(0, file.num_frames, block):
                frames = np.zeros((min(block, file.num_frames - start), file.channels), np.float32)
                _read_into(frames, source, file, start)
                yield resampler.push(match_channels(np.ascontiguousarray(frames.T), channels, file.path))
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(file) from error
    yield resampler.finish()


def match_channels(audio: Audio, channels: int | None, path: Path | None = None) -> Audio:
    """Mix (C, N) down to mono by the mean, or copy mono into each of `channels`; None and C itself change nothing.

    Raises:
        DataError: between two different numbers of channels, neither of them 1; it names `path`.
    """
    if channels is None or len(audio) == channels:
        return audio
    if channels == 1:
        return audio.mean(axis=0, keepdims=True)
    if len(audio) == 1:
        return audio.repeat(channels, axis=0)
    raise DataError(
        f"{path or 'audio'}: has {len(audio)} channels, expected 1 or {channels}; mix it down, or use a mono model"
    )


def block_frames(source_rate: int, target_rate: int, channels: int) -> int:
    """Return how much of the source to resample at once, at least 1 frame.

    `BLOCK_FRAMES`, unless there are very many channels, or a block would become far longer than it was.
    """
    return max(1, min(BLOCK_FRAMES, _BLOCK_SAMPLES * source_rate // (channels * max(source_rate, target_rate))))


def margin_frames(source_rate: int, target_rate: int) -> int:
    """Return how much of the source to add on both sides: samples at `source_rate`.

    Of the source's samples only each `step`-th falls on a sample of the result: the margin is a multiple of it.
    """
    step = source_rate // math.gcd(source_rate, target_rate)
    return step * math.ceil(filter_frames(source_rate, target_rate) / step)


def filter_frames(source_rate: float, target_rate: float) -> int:
    """Return how far the filter looks to one side, or further: samples at `source_rate`."""
    return math.ceil(max(MARGIN_S, MARGIN_SAMPLES / min(source_rate, target_rate)) * source_rate)


class Resampler:
    """Resamples parts (C, N), with silence before the first and after the last.

    Args:
        source_rate: in Hz.
        target_rate: in Hz.
        channels: C.
        num_samples: length of the result in samples per channel: what lies beyond it is cut off.

    Raises:
        DataError: so many channels so far up would not fit into memory.
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int, num_samples: int) -> None:
        self._missing = num_samples
        if channels * max(source_rate, target_rate) > _MAX_RATIO_OF_ALL_CHANNELS * min(source_rate, target_rate):
            raise DataError(
                f"{channels} channels from {source_rate} to {target_rate} Hz take too much memory; use fewer channels, "
                "or a rate between"
            )
        self._block = block_frames(source_rate, target_rate, channels)
        # Silence takes no memory as long as nobody writes to it.
        margin = margin_frames(source_rate, target_rate)
        self._margin: Audio = np.broadcast_to(np.zeros((channels, 1), np.float32), (channels, margin))
        self._excess = margin * target_rate // source_rate
        self._stream = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(source_rate, target_rate, channels, dtype="float32", quality="HQ")
            self.push(self._margin)

    def push(self, part: Audio) -> Audio:
        """Return the samples (C, n) of the result, n from 0 on, that are known with this part (C, N)."""
        return _joined(self.pieces(part))

    def pieces(self, part: Audio, *, last: bool = False) -> Iterator[Audio]:
        """Yield what `push` returns, in pieces of bounded length however long the part; take them all."""
        starts = range(0, max(part.shape[1], 1), self._block)
        for start in starts:
            yield self._through(part[:, start : start + self._block], last=last and start == starts[-1])

    def finish(self) -> Audio:
        """Return the rest (C, n) of the result."""
        if self._stream is None:
            return np.zeros((len(self._margin), 0), np.float32)
        return _joined(self.pieces(self._margin, last=True))

    def _through(self, part: Audio, *, last: bool = False) -> Audio:
        if self._stream is not None:
            part = self._stream.resample_chunk(np.ascontiguousarray(part.T), last=last).T
            before = min(self._excess, part.shape[1])
            self._excess -= before
            part = part[:, before:]
        part = part[:, : self._missing]
        self._missing -= part.shape[1]
        return np.ascontiguousarray(part)


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
        DataError: the format cannot hold so many channels or such a sample rate, or the disk is full.
    """
    with written_whole(target) as temporary:
        try:
            file = soundfile.SoundFile(temporary, "w", sample_rate, channels, format=audio_format, subtype="PCM_16")
        except soundfile.LibsndfileError as error:
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
            raise unwritable(target, "the disk is full, or failing")


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


def _read_frames(file: AudioFile, start: int, stop: int, keep_open: bool) -> Audio:
    """Return frames [start, stop) of the file as (C, N), zeros where they lie outside of it."""
    inside = slice(max(start, 0), min(stop, file.num_frames))
    frames = np.zeros((stop - start, file.channels), dtype=np.float32)
    window = frames[inside.start - start : max(inside.stop, inside.start) - start]
    try:
        with opened(file.path, keep=keep_open) as source:
            _require_unchanged(source, file)
            source.seek(inside.start)
            _read_into(window, source, file, inside.start)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(file) from error
    return np.ascontiguousarray(frames.T)


def _require_unchanged(source: soundfile.SoundFile, file: AudioFile) -> None:
    if (source.samplerate, source.channels, source.frames) != (file.sample_rate, file.channels, file.num_frames):
        raise DataError(f"{file.path}: was replaced by another recording meanwhile; start again")


def _read_into(window: npt.NDArray[np.float32], source: soundfile.SoundFile, file: AudioFile, start: int) -> None:
    """Fill (n, C) with what follows in the file, where `source` stands at frame `start`."""
    found = start + len(source.read(out=window))
    if min(start + len(window), file.num_frames - _LENGTH_ERROR) > found:
        raise DataError(f"{file.path}: ends before the {file.num_frames} samples that its header promises; replace it")
    if not np.isfinite(window).all():
        raise DataError(f"{file.path}: holds NaN or infinite samples; repair or remove it")


def _unreadable(file: AudioFile) -> DataError:
    return DataError(f"{file.path}: not readable as audio; remove or replace it")


def _joined(pieces: Iterable[Audio]) -> Audio:
    parts = list(pieces)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _version(path: Path) -> _Version:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
