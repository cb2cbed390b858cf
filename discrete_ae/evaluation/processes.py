"""Perceptual scores in a process of their own, which holds no torch: it starts soon, and takes little memory."""

import logging
import math
import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

from discrete_ae.evaluation.perceptual import Audio, Scores, perceptual_scores

log = logging.getLogger("discrete_ae")


class PerceptualProcess:
    """Computes `perceptual_scores`; started anew after a crash. It ends by itself when its other side is gone."""

    def __init__(self) -> None:
        self._killed = False
        self._start()

    def ask(self, reconstruction: Audio, original: Audio, sample_rate: int, names: tuple[str, ...]) -> Scores:
        """See `perceptual_scores`; all NaN if the process did not survive it."""
        try:
            self._connection.send((reconstruction, original, sample_rate, names))
            scores: Scores = self._connection.recv()
        except (EOFError, OSError):
            if not self._killed:
                log.warning("the program of %s crashed: the recording goes without", " or ".join(names))
                self.close()
                self._start()
            return dict.fromkeys(names, math.nan)
        return scores

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
                    "no process for STOI and PESQ could be started; a script that evaluates needs "
                    'if __name__ == "__main__": around what it does'
                ) from error


def _serve(connection: Connection) -> None:
    asked: Any
    try:
        connection.send("ready")
        while True:
            asked = connection.recv()
            connection.send(perceptual_scores(*asked))
    except (EOFError, OSError):  # nobody asks any more
        return
