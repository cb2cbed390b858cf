"""Sounds and spectrograms for the page, from the clips that evaluations saved; and the anchors of the blind test.

Axes: C audio channels, N samples.
"""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy
import soundfile
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.methods import kbps
from discrete_ae.compare.page import ORIGINAL, Clip, Version
from discrete_ae.compare.ratings import ANCHORS, REFERENCE
from discrete_ae.compare.runs import Placed
from discrete_ae.data import read_audio
from discrete_ae.evaluation.results import SavedClip
from discrete_ae.metrics import LEVELS_DB, levels_db, si_sdr_db

Audio = NDArray[np.float32]

SHADES = 64  # steps of 1.25 dB; more shades would only make the file larger

# An anchor that keeps a larger share of the band sounds like the reference to most listeners. At a sample rate of
# 16 kHz the mid anchor would lack only 7 to 8 kHz, and a listener who grades it above 90 would make no mistake.
_MOST_OF_BAND = 0.7
_TRANSITION_HZ = 500.0
_ATTENUATION_DB = 65.0


class Heard(NamedTuple):
    """A method, represented by one of its evaluations, or a baseline."""

    label: str
    placed: Placed

    @property
    def note(self) -> str:
        """Nominal bitrate, such as "3.2 kbps"; "not quantized" for a model without codes, empty if it is unknown."""
        if bps := self.placed.evaluation.overall.get("nominal_bitrate_bps"):
            return f"{kbps(bps)} kbps"
        return "not quantized" if self.placed.evaluation.run else ""


def heard_of(comparison: Comparison, placed: Mapping[str, Placed]) -> list[Heard]:
    """Return one evaluation of every method, and the baselines.

    A method is represented by the lowest seed that all methods share; if they share none, by its own lowest seed.
    """
    seeds = set.intersection(*(set(method.seeds) for method in comparison.methods))
    found = []
    for method in comparison.methods:
        run = next((run for run in method.trainings if run.seed == min(seeds, default=None)), method.trainings[0])
        found.append(Heard(method.label, placed[run.name]))
    return found + [Heard(one.codec, placed[one.codec]) for one in comparison.baselines]


def make_clips(heard: Sequence[Heard], count: int, say: Callable[[str], None]) -> list[Clip]:
    """Read at most `count` clips that all evaluations with clips share, at the highest sample rate.

    The first version of each clip is the original. `say` receives a line on each problem, such as methods without
    clips.

    Raises:
        DataError: a file cannot be read.
    """
    if silent := [one.label for one in heard if not one.placed.evaluation.clips]:
        heard = [one for one in heard if one.label not in silent]
        if heard:
            say(f"No clips to listen to: {', '.join(silent)}.")
    if not heard:
        return []
    best = max(heard, key=lambda one: one.placed.evaluation.sample_rate)
    rate = best.placed.evaluation.sample_rate
    if any(one.placed.evaluation.sample_rate != rate for one in heard):
        say(f"The sample rates differ; all clips are resampled to the highest, {rate} Hz.")
    keys: list[str] = []
    for one in heard:
        keys.append(key_of(one.label, {ORIGINAL, REFERENCE, *ANCHORS, *keys}))
    by_place = {one.label: {clip.place: clip for clip in one.placed.evaluation.clips} for one in heard}
    common = [place for place in by_place[heard[0].label] if all(place in clips for clips in by_place.values())]
    found = []
    for place in common[:count]:
        original = read_audio(best.placed.path.parent / by_place[best.label][place].original, rate)
        versions = [make_version(ORIGINAL, ORIGINAL, original, rate)]
        for key, one in zip(keys, heard, strict=True):
            clip = by_place[one.label][place]
            audio = read_audio(one.placed.path.parent / clip.decoded, rate)[:, : original.shape[1]]
            audio = np.pad(audio, ((0, 0), (0, original.shape[1] - audio.shape[1])))
            note = ", ".join(filter(None, [one.note, _si_sdr(one.placed, clip)]))
            versions.append(make_version(key, one.label, audio, rate, note))
        recording, start_s, _ = place
        several = sum(other[0] == recording for other in common) > 1
        name = f"{recording}, from {start_s:.1f} s" if several else recording
        found.append(Clip(name, original.shape[1] / rate, tuple(versions), anchors(original, rate)))
    if not found:
        say("There are no clips to listen to: the evaluations have clips of different excerpts.")
    return found


def clip_files(clips: Sequence[Clip], title: str) -> dict[str, bytes]:
    """Return the files of the folder of clips by path: every version as FLAC, and clips.json, which describes them."""
    files: dict[str, bytes] = {}
    described = []
    for number, clip in enumerate(clips, 1):
        names = {version.key: f"clip{number}/{version.key}.flac" for version in clip.versions}
        files |= {names[version.key]: version.flac for version in clip.versions}
        versions = [{"key": one.key, "label": one.label, "file": names[one.key]} for one in clip.versions]
        described.append({"name": clip.name, "duration_s": clip.duration_s, "versions": versions})
    if not clips:
        return {}
    rate = soundfile.info(io.BytesIO(clips[0].versions[0].flac)).samplerate
    content = {"title": title, "sample_rate": rate, "clips": described}
    return {**files, "clips.json": (json.dumps(content, indent=1) + "\n").encode()}


def key_of(label: str, taken: set[str]) -> str:
    """Return a file name for a label that is not in `taken`."""
    key = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") or "method"
    return next(name for name in (key, *(f"{key}_{i}" for i in range(2, len(taken) + 3))) if name not in taken)


def _si_sdr(placed: Placed, clip: SavedClip) -> str:
    """Return a text with the SI-SDR of a clip at the codec's sample rate; empty if the SI-SDR is undefined."""
    evaluation, folder = placed.evaluation, placed.path.parent
    decoded, original = (
        torch.from_numpy(read_audio(folder / name, evaluation.sample_rate)) for name in (clip.decoded, clip.original)
    )
    if not evaluation.keeps_waveform or decoded.shape != original.shape or not bool(original.any()):
        return ""
    return f"SI-SDR {float(si_sdr_db(decoded[None], original[None]).mean()):z.1f}\xa0dB"


def make_version(key: str, label: str, audio: Audio, sample_rate: int, note: str = "") -> Version:
    """Return a version for the page: 16-bit FLAC and a spectrogram of audio (C, N) between -1 and 1, N >= 1."""
    return Version(key, label, flac(audio, sample_rate), spectrogram_png(audio.mean(axis=0), sample_rate), note)


def flac(audio: Audio, sample_rate: int) -> bytes:
    """Return 16-bit FLAC of audio (C, N).

    Samples that were read from 16-bit files are kept exactly. Samples beyond full scale are clipped.
    """
    # Scale by the factor used for reading, because libsndfile would scale floats by 32767.
    samples = np.clip(np.round(audio.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, samples.T, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def spectrogram_png(audio: Audio, sample_rate: int) -> bytes:
    """Return a spectrogram of audio (N,) as PNG, without axes; each pixel is a value of `levels_db`, dark to bright."""
    low, high = LEVELS_DB
    shades = (levels_db(audio, sample_rate) - low) / (high - low) * SHADES
    picture = Image.fromarray(np.clip(shades, 0, SHADES - 1).astype(np.uint8)[::-1])
    picture.putpalette((colormaps["magma"](np.linspace(0, 1, SHADES))[:, :3] * 255).round().astype(np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()


def anchors(original: Audio, sample_rate: int) -> tuple[Version, ...]:
    """Return the anchors of BS.1534-3 §5.1 that can be told from the reference.

    These are the low anchor at sample rates from 10 kHz on, and the mid anchor from 20 kHz on.
    """
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
    """Return audio (C, N) low-passed at a frequency, without delay and with the same length.

    The low anchor of BS.1534-3 §5.1 is flat within ±0.1 dB up to 3.5 kHz and attenuated by at least 25 dB at 4 kHz and
    50 dB at 4.5 kHz. This filter attenuates by 65 dB from 500 Hz above the cutoff on.
    """
    length, beta = scipy.signal.kaiserord(_ATTENUATION_DB, _TRANSITION_HZ / (sample_rate / 2))
    middle_hz = cutoff_hz + _TRANSITION_HZ / 2
    taps = scipy.signal.firwin(length | 1, middle_hz, window=("kaiser", beta), fs=sample_rate)
    return scipy.signal.fftconvolve(audio, taps[None], mode="same", axes=1).astype(np.float32)
