"""Which stretches of the recordings are listened to: spread over all of them, the loudest part of each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discrete_ae.data import AudioFile, read_audio
from discrete_ae.data.files import probe
from discrete_ae.evaluation.recordings import Source

_STEP_S = 0.25  # at which the loudness is looked at


class Excerpt(NamedTuple):
    """A stretch of a recording."""

    file: AudioFile
    name: str
    """That of the recording below the data folder; with its place where a recording has several."""
    start_s: float
    duration_s: float


def choose_excerpts(sources: Sequence[Source], count: int, seconds: float) -> list[Excerpt]:
    """At most `count` stretches of at most `seconds`: evenly spread over the recordings, in each the loudest.

    Where there are fewer recordings than stretches, each is cut into equal parts, none shorter than a stretch. The same
    recordings always give the same stretches.

    Args:
        sources: the recordings, at least one.
        count: at least 1.
        seconds: above 0.

    Raises:
        DataError: a recording that is chosen cannot be read.
    """
    chosen = [sources[(2 * i + 1) * len(sources) // (2 * count)] for i in range(count)]
    excerpts = []
    for source in dict.fromkeys(chosen):
        file = probe(source.path)
        parts = max(min(chosen.count(source), int(file.duration_s / seconds)), 1)
        length = file.duration_s / parts
        for i in range(parts):
            start = loudest(file, i * length, length, seconds)
            shown = source.name if parts == 1 else f"{source.name}, from {start:.1f} s"
            excerpts.append(Excerpt(file, shown, start, min(seconds, length)))
    return excerpts


def loudest(file: AudioFile, start_s: float, duration_s: float, seconds: float) -> float:
    """Where, in seconds from the beginning, the stretch of most energy within a part of a recording begins.

    Raises:
        DataError: it cannot be read.
    """
    if duration_s <= seconds:
        return start_s
    steps = int(duration_s / _STEP_S)
    energies = np.array([_energy(read_audio(file, file.sample_rate, None, start_s + i * _STEP_S, _STEP_S,
                                            keep_open=True)) for i in range(steps)])  # fmt: skip
    window = max(round(seconds / _STEP_S), 1)
    sums = np.convolve(energies, np.ones(window), mode="valid") if window <= steps else energies[:1]
    return min(start_s + int(sums.argmax()) * _STEP_S, start_s + duration_s - seconds)


def _energy(audio: NDArray[np.float32]) -> float:
    return float(np.square(audio.astype(np.float64)).sum())
