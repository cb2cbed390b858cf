"""The report's folder: whose it is, and when what was computed before still holds."""

import json
import os
import shutil

import pytest

from discrete_ae.compare.folder import (
    claim,
    clip_files,
    fingerprint,
    kept_evaluation,
    state_of,
    write_files,
)
from discrete_ae.compare.page.content import Clip, Version
from discrete_ae.errors import DataError
from discrete_ae.evaluation.recordings import Source
from tests.compare.comparisons import make_evaluation


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


class Counted:
    """Gives a result, and counts how often it was asked for."""

    def __init__(self, result):
        self.result, self.calls = result, 0

    def __call__(self):
        self.calls += 1
        return self.result


def test_an_evaluation_is_computed_again_only_if_what_it_is_of_has_changed(tmp_path):
    path, compute = tmp_path / "runs/a.json", Counted(make_evaluation({"pesq": [1.0, None]}))
    first = kept_evaluation(path, "key", compute, anew=False)
    assert kept_evaluation(path, "key", compute, anew=False) == first
    assert first.files == compute.result.files
    assert compute.calls == 1
    kept_evaluation(path, "other", compute, anew=False)
    assert compute.calls == 2
    kept_evaluation(path, "other", compute, anew=True)
    assert compute.calls == 3
    path.write_text(path.read_text()[:-20])
    kept_evaluation(path, "other", compute, anew=False)
    assert compute.calls == 4


def test_the_state_of_recordings_changes_with_them(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"1234")
    sources = [Source(tmp_path / "a.wav", "a.wav"), Source(tmp_path / "gone.wav", "gone.wav")]
    before = state_of(sources)
    assert before[1] == ("gone.wav", str(tmp_path / "gone.wav"), -1, 0)
    assert fingerprint(before) == fingerprint(state_of(sources))
    os.utime(tmp_path / "a.wav", ns=(0, 123))
    assert state_of(sources)[0] == ("a.wav", str(tmp_path / "a.wav"), 4, 123)
    assert fingerprint(before) != fingerprint(state_of(sources))
    # Another folder of as many bytes at the same time is another one.
    (tmp_path / "other").mkdir()
    shutil.copy2(tmp_path / "a.wav", tmp_path / "other")
    assert state_of([Source(tmp_path / "other/a.wav", "a.wav")])[0][2:] == (4, 123)
    assert state_of([Source(tmp_path / "other/a.wav", "a.wav")]) != state_of(sources[:1])


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
