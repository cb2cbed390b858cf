"""Scores by the packages of the extra `quality`, in processes of their own. No torch here, so that they start soon.

Axes: C channels, N samples.
"""

import math
import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from discrete_ae.evaluation.scores import SCORES, Audio, Score


def perceptual_score(reconstruction: Audio, original: Audio, sample_rate: int, name: str) -> float | None:
    """Return a score of both as one of `Scores`; the mean over the channels where it is defined.

    It is not where the original is silent or shorter than `Score.min_s`, nor for STOI and PESQ where the original has
    too little in it that is not silence.

    Args:
        reconstruction: (C, N), finite.
        original: (C, N), finite.
        sample_rate: of both, in Hz.
        name: of a score of `SCORES` that has packages.

    Raises:
        Exception: whatever the package raises.
    """
    score = SCORES[name]
    found, wanted = (resampled(audio, sample_rate, score.rate) for audio in (reconstruction, original))
    channels = zip(wanted if score.is_of_original else found, wanted, strict=True)
    return weighted_mean([(1.0, _of_channel(score, *pair)) for pair in channels])


def _of_channel(score: Score, found: Audio, wanted: Audio) -> float | None:
    count = math.ceil(len(wanted) / (score.piece_s * score.rate)) if score.piece_s else 1
    pieces = zip(np.array_split(found, count), np.array_split(wanted, count), strict=True)
    return weighted_mean([(len(piece[1]), score.of(*piece, score.rate)) for piece in pieces])


def weighted_mean(values: Sequence[tuple[float, float | None]]) -> float | None:
    """Return the mean of (weight, value); None where all values are None, NaN where one is NaN, which was lost."""
    known = [(weight, value) for weight, value in values if value is not None]
    return math.fsum(w * value for w, value in known) / math.fsum(w for w, _ in known) if known else None


def resampled(audio: Audio, source_rate: int, target_rate: int) -> Audio:
    """Return audio (C, N) at another rate."""
    if source_rate == target_rate:
        return audio
    return np.ascontiguousarray(soxr.resample(audio.T, source_rate, target_rate, quality="HQ").T)


class Answer(NamedTuple):
    """A score, or NaN and why it was lost."""

    score: float | None
    reason: str = ""


class PerceptualProcess:
    """A process that computes `perceptual_score`, started anew after a crash; it ends when this process does."""

    def __init__(self) -> None:
        self._killed = False
        self._start()

    def ask(self, reconstruction: Audio, original: Audio, sample_rate: int, name: str) -> Answer:
        """Return what `perceptual_score` returns; NaN if it raised something, or the process did not survive it."""
        try:
            self._connection.send((reconstruction, original, sample_rate, name))
            answer: Answer = self._connection.recv()
        except (EOFError, OSError):
            if self._killed:
                return Answer(math.nan)
            self.close()
            self._start()
            return Answer(math.nan, "it crashed")
        return answer

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._killed = True
        self._process.terminate()

    def close(self) -> None:
        """End it when it has nothing to do."""
        self._connection.close()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may stand still
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        try:
            self._connection.recv()
        except EOFError as error:
            if not self._killed:
                raise RuntimeError(
                    "no process for STOI and its like could be started; a script that evaluates needs "
                    'if __name__ == "__main__": around what it does'
                ) from error


def _serve(connection: Connection) -> None:
    os.environ["NUMBA_NUM_THREADS"] = "1"  # there is a process for each core
    try:
        connection.send("ready")
        with Path(os.devnull).open("w") as nowhere:  # where packages say that they were loaded
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        while True:
            asked = connection.recv()
            try:
                answer = Answer(perceptual_score(*asked))
            except Exception as error:  # whatever a package raises; the others go on
                answer = Answer(math.nan, f"{type(error).__name__}: {error}")
            connection.send(answer)
    except (EOFError, OSError):  # nobody asks any more
        return
