"""A session without its server: what it tells, what it keeps, and how it goes on."""

import io
import json
import re

import numpy as np
import pytest
import soundfile

from discrete_ae.compare.listening.material import REFERENCE
from discrete_ae.compare.listening.ratings import read_ratings
from discrete_ae.compare.listening.session import unfinished, wav
from discrete_ae.errors import DataError, UsageError
from tests.compare.listening.reports import METHODS


def shown(session):
    """By clip and condition: the token under which the page gets it."""
    return {
        (trial.clip, condition): token
        for trial, told in zip(session.plan.trials, session.state()["trials"], strict=True)
        for condition, token in zip(("", *trial.conditions), (told["reference"], *told["conditions"]), strict=True)
    }


def rate_all(session, grades=None):
    for number, trial in enumerate(session.plan.trials, 1):
        session.rate(number, [(grades or {}).get(condition, 50) for condition in trial.conditions], f"no. {number}")


def test_sounds_say_nothing_but_how_they_sound(begin, report):
    session = begin()
    tokens = shown(session)
    assert len(set(tokens.values())) == len(tokens) == 2 * 5  # reference twice, anchor, two methods
    for number, clip in enumerate(session.material.clips, 1):
        files = {condition: session.sound(tokens[clip, condition]) for condition in ("", *session.labels)}
        assert len({len(file) for file in files.values()}) == 1
        assert len({file[:44] for file in files.values()}) == 1  # RIFF's header
        assert files[""] == files[REFERENCE]
        for condition, key in ((REFERENCE, "original"), ("ste", "ste")):
            played, rate = soundfile.read(io.BytesIO(files[condition]), dtype="int16")
            expected, _ = soundfile.read(report / f"clips/clip{number}/{key}.flac", dtype="int16")
            assert rate == 16000
            np.testing.assert_array_equal(played, expected)
    assert session.sound("") is None
    # The next session's tokens are others, though its orders are the same.
    again = begin("second")
    assert again.plan == session.plan
    assert not set(shown(again).values()) & set(tokens.values())


def test_the_page_is_told_no_names(begin):
    session = begin()
    told = json.dumps(session.state())
    for token in shown(session).values():
        told = told.replace(token, "")
    assert set(re.findall(r"\w+", told)) == {"listener", "trials", "practice", "reference", "conditions", "done"}


def test_ratings_go_into_the_file(begin, tmp_path):
    session = begin(listener="Ann")
    grades = {REFERENCE: 100, "ste": 41, "fourier": 62, "low_anchor": 13}
    rate_all(session, grades)
    rows = read_ratings(tmp_path / "ratings.csv")
    assert {(row.clip, row.condition): row.rating for row in rows} == {
        (clip, condition): grade for clip in session.material.clips for condition, grade in grades.items()
    }
    assert {(row.session, row.listener, row.seed, row.trials) for row in rows} == {("first", "Ann", 3, 2)}
    assert [row.position for row in rows] == [1, 2, 3, 4] * 2
    assert [row.trial for row in rows] == [1] * 4 + [2] * 4
    for row in rows:
        assert session.plan.trials[row.trial - 1].conditions[row.position - 1] == row.condition
        assert (
            row.label == {**METHODS, REFERENCE: "hidden reference", "low_anchor": "low anchor (3.5 kHz)"}[row.condition]
        )
        assert row.comment == f"no. {row.trial}"


def test_the_result_comes_after_the_last_trial(begin):
    session = begin()
    with pytest.raises(UsageError, match="0 of 2 clips are rated"):
        session.result()
    rate_all(session, {REFERENCE: 100, "ste": 41})
    result = session.result()
    (_, *clips), *rows = result["own"]
    assert sorted(clips) == sorted(session.material.clips)
    assert {label: grades for label, *grades in rows}["straight-through"] == [41, 41]
    assert result["all"][1][:2] == ("hidden reference", "100 (100 to 100)")
    json.dumps(result, allow_nan=False)


def test_a_trial_is_kept_once(begin, tmp_path):
    session = begin()
    session.rate(1, [1, 2, 3, 4])
    session.rate(1, [5, 6, 7, 8])  # the browser had no answer and asks again
    assert [row.rating for row in read_ratings(tmp_path / "ratings.csv")] == [1, 2, 3, 4]


def test_what_are_no_ratings(begin, tmp_path):
    session = begin()
    numbers = [(number, [1] * 4) for number in (0, 3, True, "1")]
    grades = [(1, [1, 2, 3, grade]) for grade in (101, -1, 1.5, "4", None, True)]
    for wrong in (*numbers, (1, [1] * 3), (1, [1] * 5), *grades):
        with pytest.raises(UsageError, match="expected"):
            session.rate(*wrong)
    assert read_ratings(tmp_path / "ratings.csv") == []


def test_a_session_goes_on(begin, tmp_path):
    path = tmp_path / "ratings.csv"
    first = begin(listener="Ann")
    first.rate(1, [10, 20, 30, 40])
    last = unfinished(read_ratings(path), first.material, "Ann")
    assert (last.session, last.seed) == ("first", 3)
    assert unfinished(read_ratings(path), first.material, "Bob") is None
    second = begin(listener="Ann")
    assert second.state()["done"] == [1]
    second.rate(1, [0, 0, 0, 0])  # is kept already
    second.rate(2, [50, 60, 70, 80])
    assert second.is_finished
    assert [row.rating for row in read_ratings(path)] == [10, 20, 30, 40, 50, 60, 70, 80]
    assert unfinished(read_ratings(path), first.material, "Ann") is None


def test_a_session_does_not_go_on_with_other_methods(begin):
    begin().rate(1, [1, 2, 3, 4])
    for other in ({"methods": ["ste"]}, {"seed": 5}):
        with pytest.raises(UsageError, match="began with other clips or methods"):
            begin(**other)


def test_the_summary_is_of_these_sounds(begin, tmp_path):
    session = begin()
    rate_all(session)
    path = tmp_path / "ratings.csv"
    path.write_text(path.read_text() + path.read_text().split("\n", 1)[1].replace(session.material.digest, "other"))
    assert len(read_ratings(path)) == 16
    assert len(session.ratings()) == 8


def test_a_file_that_cannot_be_written_is_found_before_anybody_listens(begin, tmp_path):
    (tmp_path / "ratings.csv").mkdir()
    with pytest.raises(DataError):
        begin()


def test_wav_of_two_channels():
    samples = np.array([[1, -2, 3], [2**15 - 1, 0, -(2**15)]], np.int16)
    played, rate = soundfile.read(io.BytesIO(wav(samples, 44100)), dtype="int16")
    np.testing.assert_array_equal(played.T, samples)
    assert rate == 44100
