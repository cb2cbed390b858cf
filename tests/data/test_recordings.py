"""The project's own recordings and the table of their origins say the same."""

import re

import pytest
import soundfile

from discrete_ae.data import recordings_root

ROW = re.compile(
    r"^\| (?P<name>\w+/\w+\.flac) \| (?P<rate>\d+) \| (?P<channels>\d) \| (?P<seconds>[\d.]+) \| (?P<rest>.+) \|$"
)
ROWS = {row["name"]: row for row in map(ROW.match, (recordings_root() / "README.md").read_text().splitlines()) if row}


def test_every_recording_has_its_row_and_every_row_says_what_its_file_is():
    root = recordings_root()
    assert sorted(ROWS) == sorted(path.relative_to(root).as_posix() for path in root.rglob("*.flac"))
    for name, row in ROWS.items():
        info = soundfile.info(root / name)
        assert (int(row["rate"]), int(row["channels"])) == (info.samplerate, info.channels), name
        assert float(row["seconds"]) == pytest.approx(info.duration, abs=0.05), name
        content, licence, source = row["rest"].split(" | ")
        assert re.match(r"public domain|CC0|CC-BY|MIT|BSD|Apache-2.0", licence), name
        assert "" not in (content, source), name


def test_both_sides_exercise_resampling_and_downmixing():
    for side in ("train", "validation"):
        infos = [soundfile.info(path) for path in (recordings_root() / side).iterdir()]
        assert {info.channels for info in infos} == {1, 2}
        assert {info.samplerate for info in infos} == {16000, 22050, 44100, 48000}
    assert 35 <= sum(info.duration for info in infos) <= 45
