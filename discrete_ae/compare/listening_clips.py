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
from scipy import signal

from discrete_ae.compare.clips import flac, make_version
from discrete_ae.compare.excerpts import Excerpt
from discrete_ae.compare.page.content import ORIGINAL, Clip, Version
from discrete_ae.compare.ratings import ANCHORS, REFERENCE
from discrete_ae.data import match_channels, read_audio
from discrete_ae.metrics import si_sdr_db

Audio = NDArray[np.float32]

# An anchor that keeps more of the band than this is the reference to most ears: at 16 kHz the mid anchor would lack no
# more than what lies from 7 to 8 kHz, and a grade above 90 would be no mistake of the listener's.
_MOST_OF_BAND = 0.7
_TRANSITION_HZ = 500.0
_ATTENUATION_DB = 65.0


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


def anchors(original: Audio, sample_rate: int) -> tuple[Version, ...]:
    """Return the anchors that tell something at a sample rate: the low one from 10 kHz on, the mid one from 20 kHz."""
    return tuple(
        Version(
            key,
            f"{key.replace('_', ' ')} ({cutoff_hz / 1000:g} kHz)",
            flac(low_pass(original, cutoff_hz, sample_rate), sample_rate),
            spectrogram_png=b"",
            note="",
        )
        for key, cutoff_hz in ANCHORS.items()
        if cutoff_hz <= _MOST_OF_BAND * sample_rate / 2
    )


def low_pass(audio: Audio, cutoff_hz: float, sample_rate: int) -> Audio:
    """Return audio (C, N) without what lies above a frequency, neither delayed nor longer.

    The low anchor of BS.1534-3 §5.1 has ±0.1 dB up to 3.5 kHz, at least 25 dB less at 4 kHz and 50 dB at 4.5 kHz. This
    filter has 65 dB less from 500 Hz above the cutoff on.
    """
    length, beta = signal.kaiserord(_ATTENUATION_DB, _TRANSITION_HZ / (sample_rate / 2))
    middle_hz = cutoff_hz + _TRANSITION_HZ / 2
    taps = signal.firwin(length | 1, middle_hz, window=("kaiser", beta), fs=sample_rate)
    return signal.fftconvolve(audio, taps[None], mode="same", axes=1).astype(np.float32)


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
