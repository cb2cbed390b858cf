"""The report's folder: whose it is, and what in it is replaced."""

import json

import pytest

from discrete_ae.compare.folder import (
    claim,
    clip_files,
    write_files,
)
from discrete_ae.compare.page.content import Clip, Version
from discrete_ae.errors import DataError


def test_a_folder_is_claimed_once_and_stays_ours(tmp_path):
    claim(tmp_path / "new/report", "a", force=False)
    (tmp_path / "new/report/ratings.csv").write_text("kept")
    claim(tmp_path / "new/report", "b", force=False)
    assert (tmp_path / "new/report/ratings.csv").read_text() == "kept"
    assert json.loads((tmp_path / "new/report/report.json").read_text())["title"] == "b"


def test_what_is_somebody_elses_is_refused_unless_forced(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(DataError, match="holds something other than a comparison"):
        claim(tmp_path, "", force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    claim(tmp_path, "", force=True)
    with pytest.raises(DataError, match="cannot be written"):
        claim(tmp_path / "thesis.tex", "", force=True)
    (tmp_path / "empty").mkdir()
    claim(tmp_path / "empty", "", force=False)


def clip(name, *keys):
    return Clip(name, 1.5, tuple(Version(key, key.upper(), key.encode(), b"", "") for key in keys))


def test_clips_are_described():
    files = clip_files([clip("a.wav", "original", "ste"), clip("b.wav", "original", "ste")], "a title", 8000)
    described = json.loads(files.pop("clips.json"))
    assert (described["title"], described["sample_rate"]) == ("a title", 8000)
    assert described["clips"][1] == {
        "name": "b.wav",
        "duration_s": 1.5,
        "versions": [
            {"key": "original", "label": "ORIGINAL", "file": "clip2/original.flac"},
            {"key": "ste", "label": "STE", "file": "clip2/ste.flac"},
        ],
    }
    assert files == {f"clip{i}/{key}.flac": key.encode() for i in (1, 2) for key in ("original", "ste")}


def there(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"report.json"}


def test_of_what_lies_in_the_folder_only_what_was_written_before_is_deleted(tmp_path):
    mine = {"figures/mine.png", "figures/mine.svg", "clips/clip1/take.flac", "ratings.csv"}
    for name in mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    claim(tmp_path, "a", force=True)
    write_files(tmp_path, "a", {"figures/a.png": b"1", "clips/clip1/a.flac": b"2"})
    claim(tmp_path, "b", force=False)
    assert there(tmp_path) == mine | {"figures/a.png", "clips/clip1/a.flac"}
    write_files(tmp_path, "b", {"figures/a.png": b"3", "b.csv": b"4"})
    assert there(tmp_path) == mine | {"figures/a.png", "b.csv"}
    assert (tmp_path / "figures/a.png").read_bytes() == b"3"
    assert all((tmp_path / name).read_bytes() == b"mine" for name in mine)


def test_what_was_broken_off_is_known_to_be_ours(tmp_path):
    claim(tmp_path, "a", force=False)
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(IsADirectoryError):
        write_files(tmp_path, "a", {"a.csv": b"1", "b.csv": b"2"})
    (tmp_path / "b.csv").rmdir()
    write_files(tmp_path, "a", {"c.csv": b"3"})
    assert there(tmp_path) == {"c.csv"}


@pytest.mark.parametrize("files", [["../thesis.tex", "/etc/hostname", "", 7], "../thesis.tex", None, {"a": 1}])
def test_nothing_outside_the_folder_is_deleted_whatever_it_says(tmp_path, files):
    folder, outside = tmp_path / "report", tmp_path / "thesis.tex"
    outside.write_text("all of it")
    claim(folder, "a", force=False)
    marker = folder / "report.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"files": files}))
    write_files(folder, "a", {"a.csv": b""})
    assert outside.read_text() == "all of it"
    assert json.loads(marker.read_text())["files"] == ["a.csv"]
