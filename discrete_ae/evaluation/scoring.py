"""Pairs of signals to scores, many at a time.

Threads compute what torch computes. The packages of the extra `quality` hold the interpreter's lock, so each thread has
a process of its own for them; where one fails or crashes, which foreign code may, one pair loses one score and no more.
"""

import logging
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from discrete_ae.evaluation.perceptual import PerceptualProcess
from discrete_ae.evaluation.scores import SCORES, Audio, Choice, Scores

log = logging.getLogger("discrete_ae")


class SignalScores:
    """Scores of pairs that this package computes itself.

    Args:
        sample_rate: of the pairs, in Hz.
        names: which; those of packages are left to `perceptual.py`.
    """

    def __init__(self, sample_rate: int, names: Sequence[str]) -> None:
        self._sample_rate = sample_rate
        self._scores = [SCORES[name] for name in names if not SCORES[name].packages]

    def __call__(self, reconstruction: Audio, original: Audio) -> Scores:
        """Return `Scores` of a finite reconstruction (C, n) of `original` (C, n); any n >= 1.

        Lost is what float32 does not hold, as the squares of samples of 1e20.
        """
        return {score.name: score.of(reconstruction, original, self._sample_rate) for score in self._scores}


class Scorer:
    """Scores pairs at one sample rate; a context, at whose end threads and processes are gone.

    Args:
        sample_rate: of all pairs, in Hz.
        choice: which scores.
        jobs: pairs at a time; twice as many are kept in memory.
    """

    def __init__(self, sample_rate: int, choice: Choice, jobs: int) -> None:
        self.sample_rate = sample_rate
        self._perceptual = [name for name in choice.names if SCORES[name].packages]
        self._signal_scores = SignalScores(sample_rate, choice.names)
        self._room = threading.Semaphore(2 * jobs)
        self._own = threading.local()
        self._processes: list[PerceptualProcess] = []
        self._failing: set[str] = set()
        self._threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="score", initializer=_prepare_thread)

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if any(error):
            for process in self._processes:  # whose threads would wait for it to be done
                process.kill()
        self._pool.shutdown()
        for process in self._processes:
            process.close()
        torch.set_num_threads(self._threads)

    def submit(self, reconstruction: Audio, original: Audio) -> Future[Scores]:
        """Return future `Scores` of a finite reconstruction (C, n) of `original` (C, n); wait while many are before."""
        self._room.acquire()
        future = self._pool.submit(self._scores, reconstruction, original)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def _scores(self, reconstruction: Audio, original: Audio) -> Scores:
        scores = self._signal_scores(reconstruction, original)
        for name in self._perceptual:
            answer = self._process().ask(reconstruction, original, self.sample_rate, name)
            scores[name] = answer.score
            if answer.reason and name not in self._failing:
                self._failing.add(name)  # one line a score, however many recordings go without
                reason = " ".join(answer.reason.split())[:200]
                log.warning("%s failed, and what it failed on goes without: %s", SCORES[name].label, reason)
        return scores

    def _process(self) -> PerceptualProcess:
        if not hasattr(self._own, "process"):
            self._own.process = PerceptualProcess()
            self._processes.append(self._own.process)
        process: PerceptualProcess = self._own.process
        return process


def _prepare_thread() -> None:
    torch.set_num_threads(1)
    # The processes that a thread starts inherit this: at Ctrl-C it is the main thread that ends them, without a word.
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
