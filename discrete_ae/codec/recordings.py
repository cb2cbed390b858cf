"""Recordings as blocks at the model's rate, of which the next few are being read already."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from discrete_ae.codes.code_file import MAX_GAIN_DB
from discrete_ae.data.files import AudioFile, probe, require_complete
from discrete_ae.data.loudness import MAX_CHANNELS, MIN_SAMPLE_RATE, gain_for, measure_stream
from discrete_ae.data.reading import Audio, Prefetched, stream_audio
from discrete_ae.data.resampling import BLOCK_FRAMES
from discrete_ae.errors import DataError
from discrete_ae.model import DiscreteAutoencoder

FILES_AHEAD = 4


@dataclass(eq=False)
class Recording:
    """One that is being read."""

    path: Path
    file: AudioFile | None = None
    blocks: Iterable[Audio] = ()
    """(C, n) at the model's rate, in the channels in which it is coded."""
    gain_db: float = 0.0
    """Known with the first block, which it is applied to."""
    error: DataError | None = None
    """Why it cannot be read, or not to its end."""


def read_ahead(
    model: DiscreteAutoencoder, paths: Iterable[Path], chunk_seconds: float, loudness_lufs: float | None
) -> Iterator[Recording]:
    """The recordings in their order, of which the next few are being read already.

    Args:
        model: tells rate and channels of the blocks.
        paths: the recordings.
        chunk_seconds: so much of each is read ahead.
        loudness_lufs: see `encode_files`.
    """
    ahead: deque[Recording] = deque()
    try:
        for path in paths:
            ahead.append(_opened(model, path, chunk_seconds, loudness_lufs))
            if len(ahead) > FILES_AHEAD:
                yield ahead.popleft()
        while ahead:
            yield ahead.popleft()
    finally:
        for recording in ahead:
            if isinstance(recording.blocks, Prefetched):
                recording.blocks.close()


def _opened(model: DiscreteAutoencoder, path: Path, chunk_seconds: float, loudness_lufs: float | None) -> Recording:
    try:
        file = probe(path)
        require_complete(path)
        if model.channels != 1 and file.channels not in (1, model.channels):
            raise DataError(
                f"{path}: has {file.channels} channels, the model takes {model.channels}; "
                f"convert it to {model.channels} channels, or use a mono model, which codes each channel alone"
            )
        if loudness_lufs is not None and (file.channels > MAX_CHANNELS or file.sample_rate < MIN_SAMPLE_RATE):
            raise DataError(
                f"{path}: has {file.channels} channels at {file.sample_rate} Hz, loudness is measured of at most "
                f"{MAX_CHANNELS}, from {MIN_SAMPLE_RATE} Hz on; encode it without a loudness"
            )
    except DataError as error:
        return Recording(path, error=error)
    # As in training, mono is copied into every channel.
    channels = model.channels if file.channels == 1 else None
    blocks_ahead = max(1, round(chunk_seconds * file.sample_rate / BLOCK_FRAMES))
    recording = Recording(path, file)

    def blocks() -> Iterator[Audio]:
        if loudness_lufs is not None:
            level = measure_stream(stream_audio(file, file.sample_rate, channels), file.sample_rate)
            # A float file may be so far beyond full scale that its gain would not fit into the codes' description.
            recording.gain_db = max(gain_for(level, loudness_lufs), -MAX_GAIN_DB)
        factor = np.float32(10 ** (recording.gain_db / 20))
        for block in stream_audio(file, model.sample_rate, channels):
            yield block * factor

    recording.blocks = Prefetched(blocks(), blocks_ahead)
    return recording
