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


def test_what_is_not_said_has_its_default_and_what_is_not_known_is_left_out():
    ball = Ball.parse(json.dumps(GOOD | {"weight_kg": 3}))
    assert (ball.radius_m, ball.colours, ball.count) == (0.5, ("red",), 1)
    assert ball == Ball.of({"radius_m": 0.5, "colours": ("red",)})


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"radius_m": 0.5}, "colours"),
        (GOOD | {"radius_m": "0.5"}, "radius_m"),
        (GOOD | {"radius_m": 0}, "radius_m"),
        (GOOD | {"radius_m": float("nan")}, "radius_m"),
        (GOOD | {"count": True}, "count"),
        (GOOD | {"colours": ["red", 5]}, "colours.1"),
        ([[[]]], "object"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, content, named):
    path = tmp_path / "ball.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=named) as caught:
        Ball.read(path, "buy another")
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.endswith("; buy another")
    assert "\n" not in line


@pytest.mark.parametrize("content", ["[" * 100_000, b"\xff\xfe"])
def test_what_is_no_json_is_told_in_a_short_line(content):
    with pytest.raises(ValueError, match="JSON") as caught:
        Ball.parse(content)
    assert len(str(caught.value)) <= 200
