"""Clips of the recordings as every method and baseline renders them.

Axes: C channels, N samples.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from discrete_ae.compare.anchors import anchors
from discrete_ae.compare.clips import make_version
from discrete_ae.compare.excerpts import Excerpt
from discrete_ae.compare.page.content import ORIGINAL, Clip, Version
from discrete_ae.compare.ratings import ANCHORS, REFERENCE
from discrete_ae.data import match_channels, read_audio
from discrete_ae.metrics import si_sdr_db

Audio = NDArray[np.float32]


class Renderer(NamedTuple):
    """A method, by one of its models, or a baseline."""

    label: str
    sample_rate: int
    render: Callable[[Audio], Audio]
    """A clip (C, N) at that rate to one of the same shape."""
    note: str
    """Such as "3.2 kbps"; may be empty."""
    keeps_waveform: bool = True
    """Whether SI-SDR says anything of it."""


def make_clips(excerpts: Sequence[Excerpt], renderers: Iterable[Renderer], sample_rate: int) -> list[Clip]:
    """Return the excerpts, the original first, then in every rendering, all at one sample rate.

    The level is left as it is. A recording of more than two channels is mixed down.

    Args:
        excerpts: what to render.
        renderers: taken one after the other, so that they need not be in memory together.
        sample_rate: of the clips, in Hz; renderings of other rates are resampled to it.

    Raises:
        DataError: a recording cannot be read.
    """
    keys = {ORIGINAL, REFERENCE, *ANCHORS}
    originals = [_read(excerpt, sample_rate) for excerpt in excerpts]
    versions: list[list[Version]] = [
        [make_version(ORIGINAL, ORIGINAL, original, sample_rate)] for original in originals
    ]
    for renderer in renderers:
        key = key_of(renderer.label, keys)
        keys.add(key)
        for excerpt, original, row in zip(excerpts, originals, versions, strict=True):
            source = _read(excerpt, renderer.sample_rate)
            rendered = renderer.render(source)
            notes = [renderer.note, _si_sdr(rendered, source) if renderer.keeps_waveform else ""]
            audio = _resampled(rendered, renderer.sample_rate, sample_rate, original.shape[1])
            row.append(make_version(key, renderer.label, audio, sample_rate, ", ".join(filter(None, notes))))
    return [
        Clip(excerpt.name, original.shape[1] / sample_rate, tuple(row), anchors(original, sample_rate))
        for excerpt, original, row in zip(excerpts, originals, versions, strict=True)
    ]


def by_channel(render: Callable[[Audio], Audio], channels: int) -> Callable[[Audio], Audio]:
    """Return the renderer of a model with so many channels for clips with any.

    A mono model renders each channel by itself, another takes copies of one.
    """

    def rendered(audio: Audio) -> Audio:
        if channels == 1:
            return np.concatenate([render(channel[None]) for channel in audio])
        found = render(match_channels(audio, channels))
        return found if len(audio) == channels else found.mean(axis=0, keepdims=True)

    return rendered


def key_of(label: str, taken: set[str]) -> str:
    """Return a label as the name of a file, none of those that are taken."""
    key = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") or "method"
    return next(name for name in (key, *(f"{key}_{i}" for i in range(2, len(taken) + 3))) if name not in taken)


def _read(excerpt: Excerpt, sample_rate: int) -> Audio:
    channels = excerpt.file.channels if excerpt.file.channels <= 2 else 1
    return read_audio(excerpt.file, sample_rate, channels, excerpt.start_s, excerpt.duration_s)


def _resampled(audio: Audio, given: int, wanted: int, length: int) -> Audio:
    if given == wanted:
        return audio
    found = soxr.resample(audio.T, given, wanted, quality="HQ").T[:, :length]
    return np.pad(found, ((0, 0), (0, length - found.shape[1]))).astype(np.float32)


def _si_sdr(rendered: Audio, original: Audio) -> str:
    if not original.any():
        return ""
    value = si_sdr_db(torch.from_numpy(rendered)[None], torch.from_numpy(np.ascontiguousarray(original))[None])
    return f"SI-SDR {float(value.mean()):.1f} dB"
