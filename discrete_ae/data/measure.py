"""Measure recordings: bandwidth, loudness, clipping and silence.

Legend: C channels, n samples of a block.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from discrete_ae.data.cores import usable_cores
from discrete_ae.data.files import AudioFile
from discrete_ae.data.loudness import MAX_CHANNELS, MIN_SAMPLE_RATE, measure_stream
from discrete_ae.data.reading import stream_audio
from discrete_ae.data.resampling import Audio
from discrete_ae.errors import DataError

BELOW_PEAK_DB = 60.0
"""Largest distance from the spectrum's peak at which a frequency counts for the bandwidth."""
SILENCE_DBFS = -60.0
"""Root mean square over `SILENCE_SECONDS` below which audio counts as silence."""
SILENCE_SECONDS = 0.05

_WINDOW = 2048
_LOWEST_HZ = 20.0  # lower frequencies are offsets and rumble
_FULL_SCALE = 1 - 2.0**-15  # the largest 16-bit sample
_AT_ONCE = 64
"""Windows per FFT call."""


def measure(file: AudioFile) -> AudioFile:
    """Read a recording to its end, and add the measurements to its further fields.

    - `bandwidth_hz`: highest frequency within `BELOW_PEAK_DB` of the peak of the averaged spectrum; 0 for silence.
    - `loudness_lufs`: loudness by BS.1770; None for silence, rates below 4 kHz, or more than 5 channels.
    - `clipping`: share of samples at full scale.
    - `silence`: share of the time below `SILENCE_DBFS`.

    Raises:
        DataError: the recording cannot be read to its end.
    """
    spectrum, clipped, energies = _Spectrum(file.sample_rate), 0, _Energies(file.sample_rate)

    def heard() -> Iterator[Audio]:
        nonlocal clipped
        for block in stream_audio(file, file.sample_rate):
            clipped += int((np.abs(block) >= _FULL_SCALE).sum())
            spectrum.add(block)
            energies.add(block)
            yield block

    loudness: float | None = None
    if file.channels <= MAX_CHANNELS and file.sample_rate >= MIN_SAMPLE_RATE:
        loudness = measure_stream(heard(), file.sample_rate).loudness_lufs
    else:
        for _ in heard():
            pass
    measured = {
        "bandwidth_hz": round(spectrum.bandwidth_hz()),
        "loudness_lufs": None if loudness is None or np.isinf(loudness) else round(loudness, 2),
        "clipping": round(clipped / (file.num_frames * file.channels), 6),
        "silence": round(energies.silent_share(), 4),
    }
    return replace(file, further=json.dumps({**file.known, **measured}))


def measure_all(files: Sequence[AudioFile], advance: Callable[[], None] | None = None) -> list[AudioFile | DataError]:
    """Measure recordings in threads; return the description of each, or its error.

    Args:
        files: the recordings.
        advance: called after each recording.
    """

    def measured(file: AudioFile) -> AudioFile | DataError:
        try:
            found: AudioFile | DataError = measure(file)
        except DataError as error:
            found = error
        if advance:
            advance()
        return found

    with ThreadPoolExecutor(min(usable_cores(), 16)) as pool:
        return list(pool.map(measured, files))


class _Spectrum:
    """Power spectrum, summed over all channels and windows of `_WINDOW` samples that overlap by half."""

    def __init__(self, sample_rate: int) -> None:
        self._frequencies = np.fft.rfftfreq(_WINDOW, 1 / sample_rate)
        self._window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
        self._power = np.zeros(len(self._frequencies))
        self._left: Audio | None = None

    def add(self, block: Audio) -> None:
        left = block if self._left is None else np.concatenate([self._left, block], axis=1)
        hop = _WINDOW // 2
        count = max((left.shape[1] - hop) // hop, 0)
        for start in range(0, count, _AT_ONCE):
            stop = min(start + _AT_ONCE, count)
            part = left[:, start * hop : (stop + 1) * hop]
            windows = np.lib.stride_tricks.sliding_window_view(part, _WINDOW, axis=1)[:, ::hop]
            self._power += (np.abs(np.fft.rfft(windows * self._window)) ** 2).sum((0, 1))
        self._left = left[:, count * hop :]

    def bandwidth_hz(self) -> float:
        if self._left is not None and not self._power.any():  # shorter than a window
            self.add(np.zeros((len(self._left), _WINDOW), np.float32))
        power = np.where(self._frequencies >= _LOWEST_HZ, self._power, 0)
        within = np.flatnonzero(power >= max(power.max() * 10 ** (-BELOW_PEAK_DB / 10), np.finfo(float).tiny))
        return float(self._frequencies[within[-1]]) if len(within) else 0.0


class _Energies:
    """Mean square of every `SILENCE_SECONDS`, over all channels."""

    def __init__(self, sample_rate: int) -> None:
        self._length = max(round(SILENCE_SECONDS * sample_rate), 1)
        self._left = np.zeros(0, np.float32)
        self._count, self._silent = 0, 0

    def add(self, block: Audio) -> None:
        squares = np.concatenate([self._left, (block**2).mean(0)])
        whole = len(squares) - len(squares) % self._length
        self._take(squares[:whole].reshape(-1, self._length).mean(1))
        self._left = squares[whole:]

    def silent_share(self) -> float:
        if not self._count:  # shorter than `SILENCE_SECONDS`
            self._take(self._left.mean(keepdims=True))
        return self._silent / self._count

    def _take(self, means: Any) -> None:
        self._count += len(means)
        self._silent += int((means < 10 ** (SILENCE_DBFS / 10)).sum())
