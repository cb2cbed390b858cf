"""From an audio file to samples: any part of it, at any sample rate, in the wanted number of channels.

Legend: C channels, N samples per channel.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from discrete_ae.data.channels import Audio, match_channels
from discrete_ae.data.files import AudioFile, probe
from discrete_ae.data.handles import opened
from discrete_ae.data.resampling import BLOCK_FRAMES, Resampler, block_frames, filter_frames, margin_frames
from discrete_ae.errors import DataError

__all__ = ["BLOCK_FRAMES", "read_audio", "stream_audio"]

# The header of an MP3 may promise a few of its frames, 1152 samples each, more than there are; more is missing only
# where a file was cut off.
_LENGTH_ERROR = 4 * 1152


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
