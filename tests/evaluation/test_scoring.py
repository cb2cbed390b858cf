"""Pairs scored by threads and processes: as one by one, and whatever befalls a process."""

import math

import numpy as np
import pytest

from discrete_ae.evaluation.perceptual import perceptual_score
from discrete_ae.evaluation.scores import Choice, choose
from discrete_ae.evaluation.scoring import Scorer, SignalScores

RATE = 16000


def pairs(count):
    random = np.random.default_rng(0)
    for _ in range(count):
        original = random.standard_normal((1, 8000)).astype(np.float32)
        yield original + 0.3 * random.standard_normal(original.shape).astype(np.float32), original


def test_scores_do_not_depend_on_the_number_of_threads():
    names = ("mel_distance", "si_sdr_db")
    expected = [SignalScores(RATE, names)(*pair) for pair in pairs(20)]
    for jobs in (1, 3):
        with Scorer(RATE, choose(names), jobs) as scorer:
            futures = [scorer.submit(*pair) for pair in pairs(20)]  # more than there is room for
            assert [future.result() for future in futures] == expected


@pytest.mark.slow
def test_processes_score_and_survive_a_crash(caplog):
    pytest.importorskip("pystoi")
    choice = choose(["stoi"])
    ((found, original),) = pairs(1)
    expected = {"stoi": perceptual_score(found, original, RATE, "stoi")}
    assert expected["stoi"] is not None
    with Scorer(RATE, choice, 1) as scorer:
        assert scorer.submit(found, original).result() == expected
        (process,) = scorer._processes
        process._process.kill()
        assert scorer.submit(found, original).result() == {"stoi": pytest.approx(math.nan, nan_ok=True)}
        (line,) = caplog.messages
        assert line.startswith("STOI failed")
        assert line.endswith(": it crashed")
        assert scorer.submit(found, original).result() == expected
        last = process._process
    assert last.exitcode == 0


@pytest.mark.slow
def test_processes_end_with_an_interruption():
    pytest.importorskip("pystoi")
    ((found, original),) = pairs(1)

    def interrupted():
        with Scorer(RATE, choose(["stoi"]), 1) as scorer:
            scorer.submit(found, original).result()
            started.extend(process._process for process in scorer._processes)
            scorer.submit(np.tile(found, 200), np.tile(original, 200))
            raise KeyboardInterrupt

    started = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [process.is_alive() for process in started] == [False]


FAILING = """
import os

class NoUtterancesError(Exception): ...
class BufferTooShortError(Exception): ...

def pesq(rate, wanted, found, mode):
    if wanted[0] == 1:
        raise ValueError("not\\nthis one")
    if wanted[0] == 2:
        os.abort()
    return 3.0
"""


@pytest.mark.slow
def test_a_package_that_fails_on_a_recording_loses_its_own_score_of_this_one(tmp_path, monkeypatch, caplog):
    pytest.importorskip("pystoi")
    (tmp_path / "pesq.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)  # processes that are started have it too
    ((found, original),) = pairs(1)
    lost = []
    with Scorer(RATE, Choice(("si_sdr_db", "stoi", "pesq")), 1) as scorer:
        for first_sample in (0, 1, 2, 1, 0):
            original[0, 0] = first_sample
            scores = scorer.submit(found, original).result()
            lost.append([name for name, score in scores.items() if math.isnan(score)])
    assert lost == [[], ["pesq"], ["pesq"], ["pesq"], []]
    (line,) = caplog.messages  # one for all three recordings
    assert line.startswith("PESQ failed")
    assert line.endswith(": ValueError: not this one")
