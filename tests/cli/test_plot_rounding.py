"""`discrete-ae plot-rounding`: the three formats, and mistakes as one line."""

import struct
from typing import get_args

import pytest
import typer
from matplotlib.figure import Figure

from discrete_ae.cli.plot_rounding import Operation, plot_rounding
from discrete_ae.compare import rounding_figure
from discrete_ae.errors import DataError, UsageError
from discrete_ae.rounding import Op


@pytest.fixture
def blank(monkeypatch):
    """Function that has an empty figure drawn from now on; the family takes seconds."""
    return lambda: monkeypatch.setattr(rounding_figure, "draw_family", lambda op: Figure())


def test_every_operation_can_be_asked_for():
    assert [op.value for op in Operation] == list(get_args(Op))


@pytest.mark.parametrize(("name", "start"), [("a.svg", b"<?xml"), ("b.PDF", b"%PDF")])
def test_vector_formats_by_suffix(tmp_path, name, start):
    plot_rounding(tmp_path / name, Operation.TRUNC)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_png_fits_a_page_and_is_kept_without_force(tmp_path, capsys, blank):
    picture = tmp_path / "new/folder/rounding.png"
    plot_rounding(picture)
    assert "rounding.png written" in capsys.readouterr().out
    content = picture.read_bytes()
    # IHDR of a PNG: width and height as big-endian integers at byte 16.
    width, height = struct.unpack(">II", content[16:24])
    assert 900 <= width <= 1600
    assert height <= 1600
    assert len(content) < 400_000

    picture.write_bytes(b"mine")
    with pytest.raises(DataError, match="exists already; use --force"):
        plot_rounding(picture)
    assert picture.read_bytes() == b"mine"
    blank()
    plot_rounding(picture, force=True)
    assert picture.read_bytes().startswith(content[:8])
    assert [path.name for path in picture.parent.iterdir()] == ["rounding.png"]


@pytest.mark.parametrize("name", ["rounding.txt", "rounding", "rounding.png.gz", "."])
def test_another_suffix_is_refused_by_naming_the_three(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf"):
        plot_rounding(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_one_error(tmp_path, blank):
    blank()
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder.png").mkdir()
    for place in ("file/rounding.png", "folder.png", f"{300 * 'x'}.png"):
        with pytest.raises(DataError, match=r"cannot be written .*; give another output with -o"):
            plot_rounding(tmp_path / place, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_an_unknown_operation_is_an_error_of_usage(tmp_path):
    app = typer.Typer()
    app.command()(plot_rounding)
    with pytest.raises(Exception, match="'halve' is not one of 'round', 'floor', 'ceil', 'trunc'"):
        app(["-o", str(tmp_path / "a.png"), "--op", "halve"], standalone_mode=False)
