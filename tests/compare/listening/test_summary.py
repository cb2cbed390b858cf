"""Who is left out, and the figures, against arithmetic by hand."""

import math

import pytest

from discrete_ae.compare.listening.anchor import LOW, MID
from discrete_ae.compare.listening.material import REFERENCE
from discrete_ae.compare.listening.ratings import Rating
from discrete_ae.compare.listening.summary import exclusions, summarize
from discrete_ae.compare.listening.words import cells, remarks


def ratings(listener: str, condition: str, grades, session: str = "") -> list[Rating]:
    """Of the clips 0, 1, …, by one listener."""
    return [
        Rating(
            session or listener, listener, "", "", "", 0, 1, 1, str(clip), 1, condition, f"the {condition}", grade, ""
        )
        for clip, grade in enumerate(grades)
    ]


def test_hidden_reference_below_90_in_more_than_15_percent():
    for faults, is_excluded in ((3, False), (4, True)):  # 15 % and 20 % of 20 clips
        found = exclusions(ratings("ann", REFERENCE, [89] * faults + [90] * (20 - faults)))
        assert [name for name, _ in found] == ["ann"] * is_excluded
    assert found[0].reason == "rated the hidden reference below 90 in 4 of 20 clips"


def test_mid_anchor_above_90_in_more_than_15_percent():
    fine = ratings("bob", MID, [50] * 20) + ratings("cat", MID, [90] * 20) + ratings("dan", MID, [20] * 20)
    high = ratings("ann", MID, [91] * 4 + [60] * 16)
    # One of four is a quarter, and not more: the clips count.
    assert exclusions(fine + high) == [("ann", "rated the mid anchor above 90 in 4 of 20 clips")]
    assert exclusions(fine + ratings("ann", MID, [91] * 3 + [60] * 17)) == []
    # One of three is more than a quarter: on these clips the anchor was hardly changed.
    assert exclusions([rating for rating in fine if rating.listener != "dan"] + high) == []
    # The low anchor is no criterion.
    assert exclusions(fine + ratings("ann", LOW, [100] * 20)) == []


def test_listeners_without_a_name_are_told_apart_by_their_sessions():
    found = exclusions(ratings("", REFERENCE, [10], "s1") + ratings("", REFERENCE, [100], "s2"))
    assert [name for name, _ in found] == ["session s1"]


def test_figures_of_three_listeners_of_whom_one_is_left_out():
    given = [
        *ratings("ann", REFERENCE, [100, 95]),
        *ratings("ann", "ste", [60, 40]),
        *ratings("ann", "vq", [50, 40]),
        *ratings("bob", REFERENCE, [90, 100]),
        *ratings("bob", "ste", [80, 60], "first"),
        *ratings("bob", "ste", [60, 60], "again"),  # twice on each clip: counts as 70, 60
        *ratings("bob", "vq", [30]),  # one clip only
        *ratings("cat", REFERENCE, [0, 0]),
        *ratings("cat", "vq", [100, 100]),
    ]
    summary = summarize(given)
    assert summary.listeners == 3
    assert summary.excluded == [("cat", "rated the hidden reference below 90 in 2 of 2 clips")]
    assert not summary.all_excluded
    reference, ste, vq = summary.conditions  # the highest mean first
    assert (reference.condition, ste.condition, vq.condition) == (REFERENCE, "ste", "vq")
    assert ste.label == "the ste"
    assert (reference.mean.mean, ste.mean.mean, vq.mean.mean) == (96.25, 57.5, 40.0)
    assert ste.median == 60  # of 40, 60, 60, 70
    assert ste.quartiles == (50, 65)
    assert vq.quartiles == (35, 45)  # of 30, 40, 50: medians of 30, 40 and of 40, 50
    assert (vq.listeners, vq.clips, vq.ratings) == (2, 2, 3)
    assert vq.behind.mean == pytest.approx((10 + 0 + 40) / 3)  # on the three pairs there are
    assert math.isnan(ste.behind.mean)
    assert math.isnan(reference.behind.mean)
    assert cells(ste)[0] == "the ste"
    assert cells(ste)[2] == "60 (50 to 65)"
    assert cells(ste)[3] == ""
    assert cells(ste)[4:] == ("4",)
    said = " ".join(remarks(summary))
    assert "cat was left out: rated the hidden reference below 90 in 2 of 2 clips." in said
    assert "With 2 listeners the intervals are too narrow" in said
    assert "Ratings of 2 clips by 2 listeners. " in said
    assert "BS.1534-3 wants at least 5 clips." in said
    assert "No mid anchor was rated" in said


def test_where_all_would_be_left_out_nobody_is():
    summary = summarize(ratings("ann", REFERENCE, [10]) + ratings("ann", "ste", [50]))
    assert summary.all_excluded
    assert [row.mean.mean for row in summary.conditions] == [50, 10]
    assert cells(summary.conditions[0])[1] == "50"  # of one rating there is no interval
    said = " ".join(remarks(summary))
    assert "every listener would be left out" in said
    assert "left out:" not in said
    assert "for this one listener" in said
    assert said.startswith("Ratings of 1 clip by 1 listener. ")


def test_nothing_rated():
    summary = summarize([])
    assert (summary.conditions, summary.excluded, summary.all_excluded) == ([], [], False)
    assert remarks(summary) == ["Nothing is rated yet."]
