"""Samples of several channels, and from one number of channels to another."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from discrete_ae.errors import DataError

Audio = npt.NDArray[np.float32]
"""Samples (C, N), full scale at -1 and 1."""


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
