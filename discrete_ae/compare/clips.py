"""Clips that evaluations left beside them, as versions to listen to and to look at.

Axes: C audio channels, N samples.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from discrete_ae.compare.anchors import anchors
from discrete_ae.compare.page.content import ORIGINAL, Clip
from discrete_ae.compare.ratings import ANCHORS, REFERENCE
from discrete_ae.compare.version import make_version
from discrete_ae.data import read_audio
from discrete_ae.evaluation.results import Evaluation, SavedClip
from discrete_ae.metrics import si_sdr_db


class Heard(NamedTuple):
    """A method, by one of its evaluations, or a baseline."""

    label: str
    note: str
    """Such as "3.2 kbps"; may be empty."""
    evaluation: Evaluation
    folder: Path
    """In which the paths of its clips begin."""


def make_clips(heard: Sequence[Heard], sample_rate: int) -> list[Clip]:
    """Read the clips that all have, the original first, all at one sample rate in Hz.

    Raises:
        DataError: a file cannot be read.
    """
    if not heard:
        return []
    keys: list[str] = []
    for one in heard:
        keys.append(key_of(one.label, {ORIGINAL, REFERENCE, *ANCHORS, *keys}))
    by_place = [{clip.place: clip for clip in one.evaluation.clips} for one in heard]
    common = [place for place in by_place[0] if all(place in clips for clips in by_place)]
    best = max(range(len(heard)), key=lambda i: heard[i].evaluation.sample_rate)
    found = []
    for recording, start_s, duration_s in common:
        saved = [clips[recording, start_s, duration_s] for clips in by_place]
        original = read_audio(heard[best].folder / saved[best].original, sample_rate)
        versions = [make_version(ORIGINAL, ORIGINAL, original, sample_rate)]
        for key, one, clip in zip(keys, heard, saved, strict=True):
            audio = read_audio(one.folder / clip.decoded, sample_rate)[:, : original.shape[1]]
            audio = np.pad(audio, ((0, 0), (0, original.shape[1] - audio.shape[1])))
            note = ", ".join(filter(None, [one.note, _si_sdr(one, clip)]))
            versions.append(make_version(key, one.label, audio, sample_rate, note))
        several = sum(place[0] == recording for place in common) > 1
        name = f"{recording}, from {start_s:.1f} s" if several else recording
        seconds = original.shape[1] / sample_rate
        found.append(Clip(name, seconds, tuple(versions), anchors(original, sample_rate)))
    return found


def key_of(label: str, taken: set[str]) -> str:
    """Return a label as the name of a file, none of those that are taken."""
    key = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") or "method"
    return next(name for name in (key, *(f"{key}_{i}" for i in range(2, len(taken) + 3))) if name not in taken)


def _si_sdr(one: Heard, clip: SavedClip) -> str:
    """At the rate of the codec."""
    rate = one.evaluation.sample_rate
    decoded, original = (
        torch.from_numpy(read_audio(one.folder / name, rate)) for name in (clip.decoded, clip.original)
    )
    if not one.evaluation.keeps_waveform or decoded.shape != original.shape or not bool(original.any()):
        return ""
    return f"SI-SDR {float(si_sdr_db(decoded[None], original[None]).mean()):.1f} dB"
