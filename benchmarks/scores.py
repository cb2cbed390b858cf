"""Measure how every score of the extra `quality` rates speech as it degrades step by step, and what the score costs.

    python benchmarks/scores.py          # 10 minutes on 2 cores; needs opus-tools and 'discrete-ae[quality]'

Scores are computed as in `discrete-ae evaluate`, on one thread. Costs are processor seconds of a second pass.
"""

import argparse
import os

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import soxr
from _common import machine, publish, table, versions
from numpy.typing import NDArray

from discrete_ae.data import find_audio, read_audio, recordings_root
from discrete_ae.evaluation.baselines import opus
from discrete_ae.evaluation.coders import through
from discrete_ae.evaluation.perceptual import perceptual_score
from discrete_ae.evaluation.scores import NAMES, SCORES

Audio = NDArray[np.float32]

RATE, SECONDS, CLIPS = 16000, 5, 8
LENGTHS_S = (5, 10, 30)
TIMED = [name for name in NAMES if SCORES[name].packages]


def noisy(speech: Audio, snr_db: float) -> Audio:
    """Return speech with white noise, (1, N)."""
    noise = np.random.default_rng(0).standard_normal(speech.shape).astype(np.float32)
    level = math.sqrt(float((speech**2).mean())) / 10 ** (snr_db / 20)
    return speech + np.float32(level) * noise


def narrowed(speech: Audio, band_hz: float) -> Audio:
    """Return speech limited to the band, (1, N)."""
    there_and_back = soxr.resample(soxr.resample(speech[0], RATE, 2 * band_hz), 2 * band_hz, RATE)
    return np.resize(there_and_back.astype(np.float32), speech.shape)


def coded(speech: Audio, kbps: float) -> Audio:
    """Return speech after Opus, (1, N)."""
    return through(opus(1000 * kbps), speech, RATE).audio


WORSE: dict[str, Callable[[Audio], Audio]] = {
    "nothing": lambda speech: speech,
    **{f"white noise, {snr_db} dB": partial(noisy, snr_db=snr_db) for snr_db in (40, 30, 20, 10, 0)},
    **{f"up to {hz / 1000:g} kHz": partial(narrowed, band_hz=hz) for hz in (4000, 2000, 1000)},
    **{f"Opus, {kbps} kbps": partial(coded, kbps=kbps) for kbps in (24, 12, 8, 6)},
}


def mean(name: str, made: list[Audio], clips: list[Audio]) -> str:
    """Return the mean of a score over the clips."""
    scores = [perceptual_score(found, wanted, RATE, name) for found, wanted in zip(made, clips, strict=True)]
    return f"{np.mean([score for score in scores if score is not None]):.{SCORES[name].digits}f}"


def cost(name: str, speech: Audio) -> str:
    """Return the processor seconds for one recording."""
    for snr_db in (20, 21):  # two different signals, since DNSMOS caches its result
        found = noisy(speech, snr_db)
        started = time.process_time()
        perceptual_score(found, speech, RATE, name)
    return f"{time.process_time() - started:.2f}"


def main() -> None:
    """Measure and publish."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    files = [file for file in find_audio(recordings_root()).files if file.path.name.startswith("speech")]
    whole = [read_audio(file, RATE, 1) for file in files]
    clips = [speech[:, : SECONDS * RATE] for speech in whole if speech.shape[1] >= SECONDS * RATE][:CLIPS]
    labels = [SCORES[name].label for name in TIMED]
    rows = []
    for what, worse in WORSE.items():
        made = [worse(speech) for speech in clips]
        rows.append([what, *(mean(name, made, clips) for name in TIMED)])
        print(*rows[-1], flush=True)
    everything = np.concatenate(whole, axis=1)
    costs = [[f"{length_s} s", *(cost(n, everything[:, : length_s * RATE]) for n in TIMED)] for length_s in LENGTHS_S]
    packages = dict.fromkeys(package for name in TIMED for package in SCORES[name].packages)
    publish(
        [
            "# Scores",
            "",
            f"`python benchmarks/scores.py`; {machine('cpu', 1)}, {versions(*packages)}.",
            "",
            "## What they say",
            "",
            f"Means over {len(clips)} clips of {SECONDS} s of the project's speech at 16 kHz, to which this was done.",
            "",
            *table(["done", *labels], rows),
            "## What they cost",
            "",
            "Seconds of one core for a recording of so long. The two of DNSMOS come of one pass, which the first pays.",
            "",
            *table(["recording", *labels], costs),
        ],
        "scores",
    )


if __name__ == "__main__":
    main()
