"""Score pairs of signals in parallel.

Threads compute the scores that use torch. The packages of the extra `quality` hold the interpreter's lock, so each
thread runs them in a process of its own. If such a package fails or crashes, one pair loses one score.
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
    """A function of a pair that returns the scores which this package computes itself.

    Args:
        sample_rate: sample rate of the pairs, in Hz.
        names: names of scores; those that use packages are ignored (see `perceptual.py`).
    """

    def __init__(self, sample_rate: int, names: Sequence[str]) -> None:
        self._sample_rate = sample_rate
        self._scores = [SCORES[name] for name in names if not SCORES[name].packages]

    def __call__(self, reconstruction: Audio, original: Audio) -> Scores:
        """Return `Scores` of a finite reconstruction (C, n) of `original` (C, n); any n >= 1.

        A score that overflows float32, for example because of samples of 1e20, is NaN.
        """
        return {score.name: score.of(reconstruction, original, self._sample_rate) for score in self._scores}


class Scorer:
    """A context manager that scores pairs at one sample rate; its threads and processes end with the context.

    Args:
        sample_rate: sample rate of all pairs, in Hz.
        choice: scores to compute.
        jobs: number of pairs scored in parallel; up to twice as many are kept in memory.
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
            for process in self._processes:  # otherwise the pool's threads would wait for the processes
                process.kill()
        self._pool.shutdown()
        for process in self._processes:
            process.close()
        torch.set_num_threads(self._threads)

    def submit(self, reconstruction: Audio, original: Audio) -> Future[Scores]:
        """Return future `Scores` of a finite reconstruction (C, n) of `original` (C, n); block if the queue is full."""
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
                self._failing.add(name)  # one line per score, however many recordings lose it
                reason = " ".join(answer.reason.split())[:200]
                log.warning("%s failed, so some recordings lack this score: %s", SCORES[name].label, reason)
        return scores

    def _process(self) -> PerceptualProcess:
        if not hasattr(self._own, "process"):
            self._own.process = PerceptualProcess()
            self._processes.append(self._own.process)
        process: PerceptualProcess = self._own.process
        return process


def _prepare_thread() -> None:
    torch.set_num_threads(1)
    # Processes started by a thread inherit this mask. At Ctrl-C the main thread ends them, and they print nothing.
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
