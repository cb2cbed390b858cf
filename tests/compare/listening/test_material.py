"""From a report's folder to samples; and what is wrong with a folder, in a line."""

import json
import re

import numpy as np
import pytest
import soundfile

from discrete_ae.compare.listening.anchor import LOW, low_pass
from discrete_ae.compare.listening.material import REFERENCE, read_material
from discrete_ae.errors import DataError, UsageError
from tests.compare.listening.reports import METHODS, write_report


def test_sounds_are_those_of_the_files_to_the_bit(report):
    material = read_material(report)
    assert material.labels == METHODS
    assert material.title == "report"
    assert list(material.conditions(["fourier"])) == [REFERENCE, LOW, "fourier"]
    for number, clip in enumerate(material.clips, 1):
        sounds = material.sounds(clip, material.conditions(METHODS))
        for condition, key in ((REFERENCE, "original"), ("ste", "ste"), ("fourier", "fourier")):
            expected, _ = soundfile.read(report / f"clips/clip{number}/{key}.flac", dtype="int16")
            np.testing.assert_array_equal(sounds[condition], expected[None])
        np.testing.assert_array_equal(sounds[LOW], low_pass(sounds[REFERENCE], 3500.0, 16000))
        assert len({samples.shape for samples in sounds.values()}) == 1


def test_digest_is_of_the_sounds(report, tmp_path):
    digest = read_material(report).digest
    assert read_material(write_report(tmp_path / "same")).digest == digest
    other = write_report(tmp_path / "other")
    audio, rate = soundfile.read(other / "clips/clip2/ste.flac", dtype="int16")
    audio[100] += 1
    soundfile.write(other / "clips/clip2/ste.flac", audio, rate, subtype="PCM_16")
    assert read_material(other).digest != digest


def test_choice_of_methods(tmp_path):
    material = read_material(write_report(tmp_path, methods={f"m{i}": f"method {i}" for i in range(11)}, clips=1))
    assert material.chosen(["method 7", "m3"]) == ["m3", "m7"]
    with pytest.raises(UsageError, match="11 methods, of which a listener can rate at most 10 side by side"):
        material.chosen(None)
    with pytest.raises(UsageError, match="m99: not in the report; it has m0, m1"):
        material.chosen(["m1", "m99"])


def change(**changes):
    """An index of clips with something changed in its first version or in the whole."""

    def apply(content):
        version = content["clips"][0]["versions"][1]
        for key, value in changes.items():
            (version if key in version else content)[key] = value

    return apply


def uneven(content):
    del content["clips"][1]["versions"][2]


def alone(content):
    for clip in content["clips"]:
        del clip["versions"][1:]


def renamed(content):
    for clip in content["clips"]:
        clip["versions"][1]["key"] = "low_anchor"


def read_all(folder):
    material = read_material(folder)
    for clip in material.clips:
        material.sounds(clip, material.conditions(material.labels))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change(clips=[]), "holds no clips"),
        (change(sample_rate="fast"), "expected whole Hz"),
        (change(sample_rate=8000), "16000 Hz, but clips.json says 8000 Hz"),
        (change(file="../../secret.flac"), "lies outside of the folder"),
        (change(file="clip1/none.flac"), "none.flac: cannot be read"),
        (change(file="clip2/ste.flac"), "samples in 1 channels, but 6400 in 1 of"),
        (change(clips=[{}]), "KeyError: 'name'"),
        (uneven, "do not all have the same versions"),
        (alone, "no versions beside the originals"),
        (renamed, "must not be called low_anchor"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, spoil, words):
    index = write_report(tmp_path) / "clips/clips.json"
    content = json.loads(index.read_text())
    spoil(content)
    index.write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        read_all(tmp_path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_clips_of_one_name_are_told_apart(tmp_path):
    index = write_report(tmp_path, clips=3) / "clips/clips.json"
    index.write_text(re.sub("recording .", "take", index.read_text()))
    material = read_material(tmp_path)
    assert list(material.clips) == ["take", "take (2)", "take (3)"]
    assert material.clips["take (3)"]["ste"] == tmp_path / "clips/clip3/ste.flac"


def test_no_report_and_damaged_files(tmp_path):
    with pytest.raises(DataError, match=r"no clips/clips\.json"):
        read_material(tmp_path)
    index = write_report(tmp_path) / "clips/clips.json"
    content = index.read_text()
    for damaged in (content[:40], "[]", "\0"):
        index.write_text(damaged)
        with pytest.raises(DataError, match=r"clips\.json: damaged .*; compare again"):
            read_material(tmp_path)
    index.write_text(content)
    flac = tmp_path / "clips/clip1/ste.flac"
    flac.write_bytes(flac.read_bytes()[:200])
    material = read_material(tmp_path)
    with pytest.raises(DataError, match=r"ste\.flac: "):
        material.sounds("recording 1", ["ste"])
