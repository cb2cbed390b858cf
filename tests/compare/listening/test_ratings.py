"""The file of ratings: what goes in comes out, and nothing is lost."""

import csv

import pytest

from discrete_ae.compare.listening.ratings import Rating, add_ratings, one_line, read_ratings
from discrete_ae.errors import DataError

RATING = Rating(
    "s1", 'Ann, "the ear" Ü', "2025-01-01T00:00:00+00:00", "report", "ab", 7, 2, 1, "a, b", 3, "ste", "ste", 88, ""
)


def test_round_trip_and_adding(tmp_path):
    path = tmp_path / "new/ratings.csv"
    assert read_ratings(path) == []
    add_ratings(path, [])
    assert read_ratings(path) == []
    second = RATING._replace(rating=0, comment="hiss; 'and' \"buzz\"")
    add_ratings(path, [RATING])
    add_ratings(path, [second])
    assert read_ratings(path) == [RATING, second]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rating"] for row in rows] == ["88", "0"]
    assert rows[0]["listener"] == 'Ann, "the ear" Ü'
    assert [entry.name for entry in path.parent.iterdir()] == ["ratings.csv"]


def test_texts_are_one_line():
    assert one_line(" a\r\n b\tc ") == "a b c"
    assert len(one_line("x" * 10_000)) == 500


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"name,age\nann,3\n",
        b"\xff\xfe",
        (",".join(Rating._fields) + "\nonly,four,short,cells\n").encode(),
        (",".join(Rating._fields) + "\ns,l,t,r,m,1,1,1,c,1,ste,ste,often,\n").encode(),
        (",".join(Rating._fields) + "\ns,l,t,r,m,1,1,1,c,1,ste,ste,101,\n").encode(),
        (",".join(Rating._fields) + '\ns,"l,t\n').encode(),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "ratings.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        read_ratings(path)
    with pytest.raises(DataError, match=str(path)):
        add_ratings(path, [RATING])
    assert path.read_bytes() == content


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="not readable as ratings"):
        add_ratings(tmp_path, [RATING])
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        add_ratings(tmp_path / "file/ratings.csv", [RATING])
