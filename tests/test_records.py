"""Records: what is refused, and in which words."""

import json
from typing import Annotated

import pytest
from pydantic import Field

from discrete_ae.errors import DataError
from discrete_ae.records import Record


class Ball(Record):
    radius_m: Annotated[float, Field(gt=0)]
    colours: tuple[str, ...]
    count: int = 1


GOOD = {"radius_m": 0.5, "colours": ["red"]}


def test_a_record_is_what_the_file_says_and_what_is_not_said_has_its_default():
    ball = Ball.parse(json.dumps(GOOD | {"weight_kg": 3}))
    assert (ball.radius_m, ball.colours, ball.count) == (0.5, ("red",), 1)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (json.dumps({"radius_m": 0.5}), "colours"),
        (json.dumps(GOOD | {"radius_m": "0.5"}), "radius_m"),
        (json.dumps(GOOD | {"radius_m": 0}), "radius_m"),
        (json.dumps(GOOD | {"radius_m": float("nan")}), "radius_m"),
        (json.dumps(GOOD | {"count": True}), "count"),
        (json.dumps(GOOD | {"colours": ["red", 5]}), "colours.1"),
        ("[" * 100_000, "JSON"),
        (b"\xff\xfe", "JSON"),
        ("[]", "object"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(content, named):
    with pytest.raises(ValueError, match=named) as caught:
        Ball.parse(content)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) <= 200


def test_a_file_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "ball.json"
    path.write_text("{}")
    with pytest.raises(DataError, match=r"ball\.json: radius_m: .*; buy another"):
        Ball.read(path, "buy another")
    with pytest.raises(FileNotFoundError):
        Ball.read(tmp_path / "none", "buy another")


def test_fields_may_be_python_objects():
    assert Ball.of({"radius_m": 2.0, "colours": ("red", "blue")}).colours == ("red", "blue")
    with pytest.raises(ValueError, match="radius_m"):
        Ball.of({"radius_m": -1.0, "colours": ()})
