"""Which evaluations are at fault, and what a report is sorted by."""

import pytest

from discrete_ae.compare.evaluating import at_fault
from discrete_ae.compare.report import quantities
from discrete_ae.errors import UsageError
from discrete_ae.evaluation.results import Failure
from tests.compare.comparisons import make_evaluation


def evaluation_of(done, failures):
    """Of an evaluation of recordings, some of which failed."""
    failed = tuple(Failure(path=path, reason=reason) for path, reason in failures.items())
    return make_evaluation({"mel_distance": [1.0] * len(done)}, paths=done, failures=failed)


def test_who_fails_on_what_others_can_do_is_at_fault():
    whole = evaluation_of(["a.wav", "b.wav"], {"bad.wav": "bad.wav: no audio"})
    part = evaluation_of(["a.wav"], {"b.wav": "b.wav: codes are NaN", "bad.wav": "bad.wav: no audio"})
    assert at_fault({"whole": whole, "too": whole}) == {}  # a recording that nobody can do is its own fault
    assert at_fault({"whole": whole, "part": part}) == {
        "part": "could not do 1 of 2 recordings that others could; of the first: b.wav: codes are NaN"
    }
    other = evaluation_of(["b.wav"], {"a.wav": "a.wav: codes are NaN"})
    assert at_fault({"part": part, "other": other}) == {}  # then what both can do is all there is


def test_the_words_are_on_a_score_that_has_a_better():
    chosen = ("mel_distance", "dnsmos_p808", "dnsmos_p808_original")
    assert quantities("dnsmos_p808", chosen) == ("dnsmos_p808", "dnsmos_p808")
    for name in ("dnsmos_p808_original", "entropy_bits"):
        assert quantities(name, chosen) == (name, "mel_distance")
    for name in ("distillmos", "distillmos_original"):
        with pytest.raises(UsageError, match="is not measured"):
            quantities(name, chosen)
