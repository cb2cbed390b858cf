"""Kinds of paths, including impossible names."""

import os

import pytest

from discrete_ae.errors import DataError
from discrete_ae.paths import Kind, kind_of, with_home


def test_every_kind(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    expected = {
        "": Kind.FOLDER,
        "file": Kind.FILE,
        "link": Kind.FILE,
        "dangling": Kind.NOTHING,
        "nowhere": Kind.NOTHING,
        "file/below": Kind.NOTHING,
        "pipe": Kind.OTHER,
        "null\0character": Kind.NOTHING,
    }
    assert {name: kind_of(tmp_path / name) for name in expected} == expected
    assert kind_of(os.devnull) is Kind.OTHER


def test_impossible_names_are_errors_of_the_user(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    for name, reason in (("n" * 300, "File name too long"), ("circle", "Too many levels")):
        with pytest.raises(DataError, match=rf"{name}: cannot be read \({reason}.*\); check the name"):
            kind_of(tmp_path / name)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("~/x", "/home/me/x"),
        ("~", "/home/me"),
        ("--out=~/x", "--out=/home/me/x"),
        ("-o~/x", "-o/home/me/x"),
        ("data.root=~/x", "data.root=/home/me/x"),
        ("data.root='~/x (1)'", "data.root='/home/me/x (1)'"),
        *[(same, same) for same in ("~logger", "~logger=csv", "/a/~/x", "a~/x", "--out=x/~", "~other/x", "x=/a=~/b")],
    ],
)
def test_home_folder_is_put_in_at_the_beginning_of_a_path(given, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert with_home(given) == expected
