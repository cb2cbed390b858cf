"""From an audio file to samples: any part of it, at any sample rate, in the wanted number of channels.

Legend: C channels, N samples per channel.
"""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from discrete_ae.data.files import AudioFile, probe
from discrete_ae.data.handles import opened
from discrete_ae.errors import DataError

Audio = npt.NDArray[np.float32]
"""Samples (C, N), full scale at -1 and 1."""

# The resampler looks this far to both sides of a sample: soxr's HQ filter is shorter at every usual rate.
_MARGIN_S = 0.02

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
    keep_open: bool = False,
) -> Audio:
    """Read a part of a recording, by seeking, and resample it to `sample_rate` in Hz.

    A part equals the same samples of the whole recording resampled: the filter sees what lies around it.

    Args:
        source: the file, or its header where that is known already.
        sample_rate: of the result, in Hz.
        channels: of the result, as in `match_channels`; None keeps the file's.
        start_s: where the part begins, rounded to a sample of the file.
        duration_s: its length; None reads to the end.
        keep_open: whether the file stays open, for other parts of it to be read soon; see `handles`.

    Returns:
        (C, N) with `round(duration_s * sample_rate)` samples, fewer where the recording ends before.

    Raises:
        DataError: the file cannot be read, is damaged, holds NaN or infinity, has the wrong number of channels, or is
            no longer the one of the header.
    """
    file = source if isinstance(source, AudioFile) else probe(Path(source))
    start = min(round(start_s * file.sample_rate), file.num_frames)
    length = math.ceil((file.num_frames - start) * sample_rate / file.sample_rate)
    if duration_s is not None:
        length = min(length, round(duration_s * sample_rate))
    if file.sample_rate == sample_rate:
        return match_channels(_read_frames(file, start, start + length, keep_open), channels, file.path)

    # Of the file's samples only each `step`-th falls on a sample of the result: the margin is a multiple of it.
    step = file.sample_rate // math.gcd(file.sample_rate, sample_rate)
    margin = step * math.ceil(_MARGIN_S * file.sample_rate / step)
    stop = start + math.ceil(length * file.sample_rate / sample_rate)
    frames = match_channels(_read_frames(file, start - margin, stop + margin, keep_open), channels, file.path)
    resampled = soxr.resample(np.ascontiguousarray(frames.T), file.sample_rate, sample_rate, quality="HQ").T
    first = margin * sample_rate // file.sample_rate
    return np.ascontiguousarray(resampled[:, first : first + length])


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


def _read_frames(file: AudioFile, start: int, stop: int, keep_open: bool) -> Audio:
    """Return frames [start, stop) of the file as (C, N), zeros where they lie outside of it."""
    inside = slice(max(start, 0), min(stop, file.num_frames))
    frames = np.zeros((stop - start, file.channels), dtype=np.float32)
    window = frames[inside.start - start : max(inside.stop, inside.start) - start]
    try:
        with opened(file.path, keep=keep_open) as source:
            if (source.samplerate, source.channels, source.frames) != (
                file.sample_rate,
                file.channels,
                file.num_frames,
            ):
                raise DataError(f"{file.path}: was replaced by another recording meanwhile; start again")
            source.seek(inside.start)
            if len(window) - len(source.read(out=window)) > _LENGTH_ERROR:
                raise DataError(
                    f"{file.path}: ends before the {file.num_frames} samples that its header promises; replace it"
                )
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{file.path}: not readable as audio; remove or replace it") from error
    if not np.isfinite(window).all():
        raise DataError(f"{file.path}: holds NaN or infinite samples; repair or remove it")
    return np.ascontiguousarray(frames.T)
