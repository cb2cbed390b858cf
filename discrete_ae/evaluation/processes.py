"""Perceptual scores in a process of their own, which holds no model: it starts soon, and takes little memory."""

import math
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from discrete_ae.evaluation.perceptual import Audio, perceptual_score


class Answer(NamedTuple):
    """A score, or NaN and why it was lost."""

    score: float | None
    reason: str = ""


class PerceptualProcess:
    """Computes `perceptual_score`; started anew after a crash. It ends by itself when its other side is gone."""

    def __init__(self) -> None:
        self._killed = False
        self._start()

    def ask(self, reconstruction: Audio, original: Audio, sample_rate: int, name: str) -> Answer:
        """See `perceptual_score`; NaN if it raised something, or the process did not survive it."""
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
    asked: Any
    os.environ["NUMBA_NUM_THREADS"] = "1"  # there is a process for each core
    try:
        connection.send("ready")
        with Path(os.devnull).open("w") as nowhere:  # where packages say that they were loaded
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        while True:
            asked = connection.recv()
            connection.send(_answer(*asked))
    except (EOFError, OSError):  # nobody asks any more
        return


def _answer(*asked: Any) -> Answer:
    try:
        return Answer(perceptual_score(*asked))
    except Exception as error:  # whatever a package raises; the others go on
        return Answer(math.nan, f"{type(error).__name__}: {error}")
