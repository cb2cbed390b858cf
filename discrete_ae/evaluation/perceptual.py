"""Scores from the packages of the extra `quality`, computed in separate processes.

This module does not import torch, so that these processes start fast.

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
    """Return a score as in `Scores`: the mean over the channels for which it is defined.

    A score is undefined if the original is silent or shorter than `Score.min_s`. STOI and PESQ are also undefined if
    too much of the original is silent.

    Args:
        reconstruction: decoded audio (C, N), finite.
        original: original audio (C, N), finite.
        sample_rate: sample rate of both signals, in Hz.
        name: name in `SCORES` of a score that uses packages.

    Raises:
        Exception: any error that the package raises.
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
    """Return the mean of (weight, value) pairs, skipping None; None if all values are None, NaN if one is NaN."""
    known = [(weight, value) for weight, value in values if value is not None]
    return math.fsum(w * value for w, value in known) / math.fsum(w for w, _ in known) if known else None


def resampled(audio: Audio, source_rate: int, target_rate: int) -> Audio:
    """Resample audio (C, N)."""
    if source_rate == target_rate:
        return audio
    return np.ascontiguousarray(soxr.resample(audio.T, source_rate, target_rate, quality="HQ").T)


class Answer(NamedTuple):
    """A score, or NaN and the reason of the failure."""

    score: float | None
    reason: str = ""


class PerceptualProcess:
    """A worker process that computes `perceptual_score`; it restarts after a crash, and ends with this process."""

    def __init__(self) -> None:
        self._killed = False
        self._start()

    def ask(self, reconstruction: Audio, original: Audio, sample_rate: int, name: str) -> Answer:
        """Return the result of `perceptual_score`; NaN if it raised an exception or crashed the process."""
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
        """End the process at once."""
        self._killed = True
        self._process.terminate()

    def close(self) -> None:
        """End the process after its current score."""
        self._connection.close()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may deadlock
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe closes when the process ends
        try:
            self._connection.recv()
        except EOFError as error:
            if not self._killed:
                raise RuntimeError(
                    "the worker process for scores such as STOI could not start; a script that calls evaluate needs "
                    'if __name__ == "__main__": around its code'
                ) from error


def _serve(connection: Connection) -> None:
    os.environ["NUMBA_NUM_THREADS"] = "1"  # there is one process per core
    try:
        connection.send("ready")
        with Path(os.devnull).open("w") as nowhere:  # some packages print when they are loaded
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        while True:
            asked = connection.recv()
            try:
                answer = Answer(perceptual_score(*asked))
            except Exception as error:  # packages may raise anything; the other scores continue
                answer = Answer(math.nan, f"{type(error).__name__}: {error}")
            connection.send(answer)
    except (EOFError, OSError):  # the other end of the pipe is closed
        return
