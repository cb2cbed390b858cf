"""Ratings of the blind test: who is left out, and the figures, against arithmetic by hand."""

import csv
import math

import pytest

from discrete_ae.compare.ratings import Rating, as_table, cells, read_ratings, remarks, summarize
from discrete_ae.errors import DataError

REFERENCE, LOW, MID = "reference", "low_anchor", "mid_anchor"
HEAD = "listener,time,report,material,trials,trial,clip,position,condition,label,rating,comment\n"
ROW = "l,t,r,m,1,1,c,1,ste,ste,50,\n"


def ratings(listener: str, condition: str, grades) -> list[Rating]:
    """Return one listener's ratings of the clips 0, 1, …."""
    about = {"listener": listener, "material": "m", "condition": condition, "label": f"the {condition}"}
    return [Rating.of({**about, "clip": str(clip), "rating": grade}) for clip, grade in enumerate(grades)]


def test_hidden_reference_below_90_in_more_than_15_percent():
    found = [summarize(ratings("ann", REFERENCE, [89] * k + [90] * (20 - k))).excluded for k in (3, 4)]
    assert found == [{}, {"ann": "rated the hidden reference below 90 in 4 of 20 clips"}]


@pytest.mark.parametrize(
    ("grades", "others", "is_excluded"),
    [
        ([91] * 4 + [60] * 16, "bob cat dan", True),  # one of four is a quarter, and not more: the clips count
        ([91] * 3 + [60] * 17, "bob cat dan", False),
        ([91] * 4 + [60] * 16, "bob cat", False),  # one of three is more: on these clips the anchor was hardly changed
    ],
)
def test_mid_anchor_above_90_in_more_than_15_percent(grades, others, is_excluded):
    fine = [rating for name in others.split() for rating in ratings(name, MID, [90] * 20)]
    # The low anchor is no criterion.
    found = summarize(fine + ratings("ann", MID, grades) + ratings("ann", LOW, [100] * 20)).excluded
    assert found == ({"ann": "rated the mid anchor above 90 in 4 of 20 clips"} if is_excluded else {})


def test_figures_of_three_listeners_of_whom_one_is_left_out():
    given = [
        *(*ratings("ann", REFERENCE, [100, 95]), *ratings("ann", "ste", [60, 40]), *ratings("ann", "vq", [50, 40])),
        *ratings("bob", REFERENCE, [90, 100]),
        *(*ratings("bob", "ste", [80, 60]), *ratings("bob", "ste", [60, 60])),  # twice on each clip: count as 70, 60
        *ratings("bob", "vq", [30]),  # one clip only
        *(*ratings("cat", REFERENCE, [0, 0]), *ratings("cat", "vq", [100, 100])),
    ]
    summary = summarize(given)
    assert (summary.listeners, summary.clips) == (3, 2)
    assert list(summary.excluded) == ["cat"]
    reference, ste, vq = summary.conditions  # the highest mean first
    assert (reference.key, ste.key, vq.key) == (REFERENCE, "ste", "vq")
    assert (reference.mean.mean, ste.mean.mean, vq.mean.mean) == (96.25, 57.5, 40.0)
    assert ste.mean.low < 57.5 < ste.mean.high
    assert (ste.median, ste.quartiles) == (60, (50, 65))  # of 40, 60, 60, 70
    assert vq.quartiles == (35, 45)  # of 30, 40, 50: medians of 30, 40 and of 40, 50
    assert (ste.ratings, vq.ratings) == (4, 3)
    assert vq.behind.mean == pytest.approx((10 + 0 + 40) / 3)  # on the three pairs there are
    assert math.isnan(ste.behind.mean)
    assert math.isnan(reference.behind.mean)
    assert cells(ste)[0] == "the ste"
    assert cells(ste)[2:] == ("60 (50 to 65)", "", "4")
    said = " ".join(remarks(summary))
    for words in ("Excluded: cat", "With 2 listeners", "at least 5 clips", "no mid anchor"):
        assert words in said
    head, *rows = as_table(summary)
    figures = dict(zip(head, rows[2], strict=True))
    assert (figures["condition"], figures["mean"], figures["lower_quartile"]) == ("vq", "40.00", "35.00")


def test_where_all_would_be_left_out_nobody_is():
    summary = summarize(ratings("ann", REFERENCE, [10]) + ratings("ann", "ste", [50]))
    assert [row.mean.mean for row in summary.conditions] == [50, 10]
    assert cells(summary.conditions[0])[1] == "50"  # of one rating there is no interval
    said = " ".join(remarks(summary))
    assert "Excluded" not in said
    assert "exclude every listener" in said


def test_several_files_are_one_table(tmp_path, command):
    row = '"{}","2026-01-01","r","m","1","1","a, b","{}","{}","[bold]{}","{}","says ""hiss"""\n'
    for who, reference, ste in (("Ann Ü", 100, 40), ("bob", 92, 60)):
        text = HEAD + row.format(who, 1, REFERENCE, REFERENCE, reference) + row.format(who, 2, "ste", "ste", ste)
        (tmp_path / f"{who}.csv").write_text(text, encoding="utf-8-sig")
    paths = sorted(tmp_path.glob("*.csv"))
    assert {(r.listener, r.clip) for r in read_ratings(paths)} == {("Ann Ü", "a, b"), ("bob", "a, b")}
    status, out, _ = command("compare", "--ratings", *paths, "-o", tmp_path / "means.csv")
    assert status == 0
    assert "[bold]ste │ 50 (40 to 60)" in " ".join(" ".join(out).split())
    with (tmp_path / "means.csv").open(newline="") as file:
        means = {line["condition"]: float(line["mean"]) for line in csv.DictReader(file)}
    assert means == {REFERENCE: 96, "ste": 50}
    before = paths[0].read_bytes()
    status, _, (line,) = command("compare", "--ratings", *paths, "-o", paths[0])
    assert (status, "already exists; use --force" in line) == (1, True), line
    assert paths[0].read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no ratings"),
        ("name,age\nann,3\n", "listener"),
        (HEAD + "l,t,r,m\n", "clip"),
        (HEAD + ROW.replace("50", "often"), "rating"),
        (HEAD + ROW.replace("50", "101"), "rating"),
        (HEAD + 'l,"t\n', "unexpected end"),
        (HEAD + ROW + ROW.replace(",m,", ",other,"), "other sounds"),
    ],
)
def test_what_are_no_ratings_is_one_line(tmp_path, content, words):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=words) as error:
        read_ratings([path])
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
