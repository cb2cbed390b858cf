"""The report's folder: whose it is, and when what was computed before still holds."""

import json
import math
import os

import pytest

from discrete_ae.errors import DataError
from discrete_ae.evaluation.recordings import Source
from discrete_ae.report.folder import claim, fingerprint, kept_agreements, kept_evaluation, state_of, write_clips
from discrete_ae.report.gradients import Agreement
from discrete_ae.report.page.content import Clip, Version
from tests.report.comparisons import make_evaluation


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


def test_agreements_are_kept_with_what_is_not_defined(tmp_path):
    path, compute = tmp_path / "a.json", Counted([Agreement(math.nan, 1 / 3, 1.0, -0.5)])
    for _ in range(2):
        (found,) = kept_agreements(path, "key", compute, anew=False)
        assert math.isnan(found.cosine)
        assert found[1:] == (1 / 3, 1.0, -0.5)
    assert compute.calls == 1
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    for damaged in ("{", "[]", '{"key": "key", "segments": [["x"]]}', '{"key": "key"}'):
        path.write_text(damaged)
        kept_agreements(path, "key", compute, anew=False)
    assert compute.calls == 5


def test_the_state_of_recordings_changes_with_them(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"1234")
    sources = [Source(tmp_path / "a.wav", "a.wav"), Source(tmp_path / "gone.wav", "gone.wav")]
    before = state_of(sources)
    assert before[1] == ("gone.wav", -1, 0)
    assert fingerprint(before) == fingerprint(state_of(sources))
    os.utime(tmp_path / "a.wav", ns=(0, 123))
    assert state_of(sources)[0] == ("a.wav", 4, 123)
    assert fingerprint(before) != fingerprint(state_of(sources))


def clip(name, *keys):
    return Clip(name, 1.5, tuple(Version(key, key.upper(), key.encode(), b"", "") for key in keys))


def test_clips_are_described_and_those_of_before_are_gone(tmp_path):
    write_clips(tmp_path, [clip("a.wav", "original", "ste"), clip("b.wav", "original", "ste")], 16000)
    write_clips(tmp_path, [clip("c.wav", "original", "vq")], 8000)
    assert json.loads((tmp_path / "clips.json").read_text()) == {
        "sample_rate": 8000,
        "clips": [
            {
                "name": "c.wav",
                "duration_s": 1.5,
                "versions": [
                    {"key": "original", "label": "ORIGINAL", "file": "clip1/original.flac"},
                    {"key": "vq", "label": "VQ", "file": "clip1/vq.flac"},
                ],
            }
        ],
    }
    files = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.flac")}
    assert files == {"clip1/original.flac": b"original", "clip1/vq.flac": b"vq"}
