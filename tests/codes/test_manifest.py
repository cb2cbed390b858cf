"""The manifest of a folder of codes against JSON and hashlib, and every way in which a line of it can be wrong."""

import hashlib
import json
import os

import numpy as np
import pytest

from discrete_ae.codes.manifest import (
    ManifestEntry,
    append_entry,
    one_set,
    read_entry,
    read_manifest,
    update_manifest,
    write_manifest,
)
from tests.codes.made import HASH, assert_refused, code_file, drawn, replace, write_set

FIELDS = {
    "path": "a/x.npz",
    "source": "in/a/x.wav",
    "duration_s": 0.25,
    "sample_rate": 16000,
    "num_samples": 4000,
    "streams": 2,
    "codebook_sizes": [4, 300],
    "frames": 13,
    "model_hash": HASH,
    "bytes": 52,
    "sha256": "ab" * 32,
}
ENTRY = ManifestEntry.of(FIELDS)


def entries_of(folder, *names):
    """Entries of files that lie in the folder."""
    for name in names:
        (folder / f"{name}.npz").touch()
    return [replace(ENTRY, path=f"{name}.npz", source=f"{folder}/in/{name}.wav") for name in names]


def test_a_line_is_the_fields_by_name(tmp_path):
    later = replace(ENTRY, path="b.npz", source="in/b ä\udcff\n.wav")
    write_manifest(tmp_path, [later, ENTRY])
    path = tmp_path / "manifest.jsonl"
    lines = path.read_text("ascii").split("\n")
    assert json.dumps(FIELDS) == lines[0]
    assert (len(lines), lines[2]) == (3, "")  # a name with a line break is still one line
    assert read_manifest(tmp_path) == read_manifest(path) == [ENTRY, later]


def test_an_entry_says_what_the_file_is(tmp_path):
    file = code_file(drawn((4, 300), 2, 13), (4, 300), num_samples=13 * 320 - 160)  # 4000 samples at 16000 Hz
    (entry,) = write_set(tmp_path, {"a/x.npz": file})
    content = (tmp_path / "a/x.npz").read_bytes()
    said = {"source": "in/a/x.npz", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert json.loads(entry.to_json()) == FIELDS | said
    assert np.array_equal(read_entry(tmp_path, entry, verify=True), file.codes)
    (tmp_path / "a/x.npz").write_bytes(content[:-1] + b"\1")
    assert_refused(lambda: read_entry(tmp_path, entry, verify=True), "a/x.npz: its SHA-256 differs")


def test_an_update_keeps_what_other_runs_left_and_is_still_there(tmp_path):
    a, b, c, d = entries_of(tmp_path, *"abcd")
    (tmp_path / "b.npz").unlink()
    gone = replace(c, path=f"{'n' * 300}.npz")  # no file can have this name
    write_manifest(tmp_path, [a, b, c, gone])
    assert update_manifest(tmp_path, [replace(c, frames=9), d]) == []
    assert read_manifest(tmp_path) == [a, replace(c, frames=9), d]


def test_a_recording_that_is_encoded_again_under_another_name_is_listed_once(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    x, y = entries_of(tmp_path, "x", "y")
    later = replace(x, path="sub/x.daec", source=f"{tmp_path}/link/../link/x.wav")
    write_manifest(tmp_path, [x, y])
    assert update_manifest(tmp_path, [later]) == [(x, "sub/x.daec")]
    assert read_manifest(tmp_path) == [later, y]
    assert (tmp_path / "x.npz").exists()


def test_parts_of_a_manifest_are_read_and_joined(tmp_path):
    a, b, c = entries_of(tmp_path, *"abc")
    for entry in (c, replace(a, frames=3), replace(a, frames=4)):
        append_entry(tmp_path, 1, 2, entry)
    assert read_manifest(tmp_path) == [c, replace(a, frames=4)]  # of one path, the newest
    append_entry(tmp_path, 2, 2, replace(b, frames=5))
    write_manifest(tmp_path, [a, b])
    for seconds, name in enumerate(("manifest.jsonl", "manifest-1-of-2.jsonl", "manifest-2-of-2.jsonl")):
        os.utime(tmp_path / name, (seconds, seconds))
    expected = [replace(a, frames=4), replace(b, frames=5), c]
    assert sorted(read_manifest(tmp_path), key=lambda entry: entry.path) == expected
    assert update_manifest(tmp_path, []) == []
    assert read_manifest(tmp_path) == expected
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["manifest.jsonl"]


def test_a_recording_in_another_format_replaces_the_earlier_one_before_the_parts_are_joined(tmp_path):
    x, y = entries_of(tmp_path, "x", "y")
    write_manifest(tmp_path, [x, y])
    (tmp_path / "x.daec").touch()
    later, other = replace(x, path="x.daec"), replace(y, path="y.daec", source="in/other.wav")
    for entry in (later, other):
        append_entry(tmp_path, 1, 2, entry)
    for seconds, name in enumerate(("manifest.jsonl", "manifest-1-of-2.jsonl")):
        os.utime(tmp_path / name, (seconds, seconds))
    assert read_manifest(tmp_path) == [later, y, other]  # y.daec is of another recording
    append_entry(tmp_path, 1, 2, again := replace(x, frames=9))
    assert read_manifest(tmp_path) == [y, again, other]
    assert update_manifest(tmp_path, [later]) == [(again, "x.daec")]


def test_a_last_line_that_was_cut_short_is_left_out(tmp_path):
    append_entry(tmp_path, 1, 2, ENTRY)
    part = tmp_path / "manifest-1-of-2.jsonl"
    whole = part.read_bytes()
    part.write_bytes(whole + whole[:40])
    assert read_manifest(tmp_path) == [ENTRY]
    append_entry(tmp_path, 1, 2, later := replace(ENTRY, path="b.npz"))
    assert read_manifest(tmp_path) == [ENTRY, later]


def test_bytes_hold_a_code_each_or_42_where_entropy_coded():
    # 2 streams, 2 codebooks, 13 frames: 52 codes, in at least ceil(52 / 42) = 2 bytes
    for path, fewest in (("x.npz", 52), ("x.npy", 52), ("x.daec", 2)):
        replace(ENTRY, path=path, bytes=fewest)
        with pytest.raises(ValueError, match="cannot hold 13 frames of 2 codebooks and 2 streams"):
            replace(ENTRY, path=path, bytes=fewest - 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"path": "/etc/x.npz"}, "path: expected a path inside"),
        ({"path": "../x.npz"}, "path: expected a path inside"),
        ({"path": "a\0.npz"}, "path: expected the name of a file"),
        ({"source": "\ud800.wav"}, "source"),
        ({"frames": 0}, "frames"),
        ({"streams": 10**9}, "52 bytes cannot hold 13 frames of 2 codebooks and 1000000000 streams"),
        ({"codebook_sizes": [4, "4"]}, "codebook_sizes.1"),
        (b"[1]", "expected a JSON object"),
        (b"[" * 100000, "not JSON"),
        ("ä".encode("latin-1"), "not JSON"),
    ],
)
def test_a_line_that_is_wrong_is_named_by_file_and_number(tmp_path, change, reason):
    path = tmp_path / "manifest.jsonl"
    line = json.dumps(FIELDS | {"path": "a/y.npz", "unknown": "is left out"} | (change if type(change) is dict else {}))
    path.write_bytes(f"{ENTRY.to_json()}\n".encode() + (change if type(change) is bytes else line.encode()) + b"\n")
    assert_refused(lambda: read_manifest(path), f"{path}, line 2: not a valid entry: {reason}")


def test_codes_of_two_models_are_no_set(tmp_path):
    assert one_set([ENTRY, replace(ENTRY, path="b.npz", frames=5)], tmp_path) == ENTRY
    other, fewer = replace(ENTRY, path="b.npz", model_hash="f" * 64), replace(ENTRY, path="b.npz", codebook_sizes=(4,))
    assert_refused(lambda: one_set([ENTRY, other], tmp_path), "a/x.npz and b.npz are codes of different models")
    assert_refused(lambda: one_set([ENTRY, fewer], tmp_path), "a/x.npz has 2 codebooks and b.npz has 1")
    assert_refused(lambda: one_set([], tmp_path), "its manifest is empty")
