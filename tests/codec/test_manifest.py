"""The manifest of a folder of codes against JSON and hashlib, and every way in which a line of it can be wrong."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from discrete_ae.codec.container import CodeFile, write_npz
from discrete_ae.codec.manifest import (
    ManifestEntry,
    describe,
    one_set,
    read_manifest,
    update_manifest,
    verify,
    write_manifest,
)
from discrete_ae.errors import DataError

HASH = "0123456789abcdef" * 4
ENTRY = ManifestEntry("a/x.npz", "in/a/x.wav", 0.25, 16000, 4000, 2, (4, 300), 13, HASH, 7, "ab" * 32)


def save_codes(path, model_hash=HASH, sizes=(4, 300), frames=13):
    path.parent.mkdir(parents=True, exist_ok=True)
    codes = np.random.default_rng(0).integers(0, [[[size] for size in sizes]], (2, len(sizes), frames))
    file = CodeFile(codes, 16000, 320 * frames - 160, 16000, sizes, model_hash)
    write_npz(file, path)
    return file


def test_a_line_is_the_fields_by_name(tmp_path):
    later = replace(ENTRY, path="b.npz", source="in/b ä\udcff\n.wav")
    path = write_manifest(tmp_path, [later, ENTRY])
    lines = path.read_text("ascii").split("\n")
    assert json.loads(lines[0]) == {
        "path": "a/x.npz",
        "source": "in/a/x.wav",
        "duration_s": 0.25,
        "sample_rate": 16000,
        "num_samples": 4000,
        "streams": 2,
        "codebook_sizes": [4, 300],
        "frames": 13,
        "model_hash": HASH,
        "bytes": 7,
        "sha256": "ab" * 32,
    }
    assert (len(lines), lines[2]) == (3, "")  # a name with a line break is still one line
    assert read_manifest(tmp_path) == read_manifest(path) == [ENTRY, later]
    assert [found.name for found in tmp_path.iterdir()] == ["manifest.jsonl"]


def test_the_order_of_work_leaves_no_trace(tmp_path):
    entries = [replace(ENTRY, path=f"{name}.npz") for name in "cab"]
    first = write_manifest(tmp_path, entries).read_bytes()
    assert write_manifest(tmp_path, entries[::-1]).read_bytes() == first


def test_an_entry_says_what_the_file_is(tmp_path):
    path = tmp_path / "codes/a/x.npz"
    file = save_codes(path)
    content = path.read_bytes()
    entry = describe(file, path, tmp_path / "codes", Path("in/a/x.wav"))
    assert entry == ManifestEntry(
        path="a/x.npz",
        source="in/a/x.wav",
        duration_s=0.25,  # 13 * 320 - 160 = 4000 samples at 16000 Hz
        sample_rate=16000,
        num_samples=4000,
        streams=2,
        codebook_sizes=(4, 300),
        frames=13,
        model_hash=HASH,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    verify(tmp_path / "codes", entry)
    path.write_bytes(content[:-1] + b"\1")
    with pytest.raises(DataError, match=r"a/x\.npz: not the file of the manifest"):
        verify(tmp_path / "codes", entry)
    path.unlink()
    with pytest.raises(DataError, match=r"a/x\.npz: cannot be read \(No such file"):
        verify(tmp_path / "codes", entry)


def test_an_update_keeps_what_other_runs_left_and_is_still_there(tmp_path):
    for name in ("a", "b", "c"):
        save_codes(tmp_path / f"{name}.npz")
    write_manifest(tmp_path, [replace(ENTRY, path=f"{name}.npz") for name in "abc"])
    (tmp_path / "b.npz").unlink()
    update_manifest(tmp_path, [replace(ENTRY, path="c.npz", frames=99), replace(ENTRY, path="d.npz")])
    assert [(entry.path, entry.frames) for entry in read_manifest(tmp_path)] == [
        ("a.npz", 13),
        ("c.npz", 99),
        ("d.npz", 13),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"path": None}, "path missing"),
        ({"path": "/etc/x.npz"}, "path: expected one inside"),
        ({"path": "../x.npz"}, "path: expected one inside"),
        ({"path": ""}, "path: expected one inside"),
        ({"path": "a/y.npz"}, "a/y.npz stands in it twice"),
        ({"frames": 0}, "frames: expected at least 1, got 0"),
        ({"frames": 1.5}, "frames: got 1.5"),
        ({"frames": True}, "frames: got True"),
        ({"streams": -1}, "streams: expected at least 1"),
        ({"duration_s": "long"}, "duration_s: got 'long'"),
        ({"duration_s": float("nan")}, "duration_s: expected seconds above 0, got nan"),
        ({"codebook_sizes": []}, "codebook_sizes: expected at least 2 entries"),
        ({"codebook_sizes": [4, "4"]}, "codebook_sizes: expected integers"),
        ({"codebook_sizes": 4}, "codebook_sizes: got 4"),
        ({"sha256": "ab"}, "sha256: expected 64"),
        ({"model_hash": "X" * 64}, "model_hash: expected 64"),
        ("[1]", "expected a JSON object"),
        ("{", "not JSON"),
        ("[" * 100000, "not JSON"),
        ("", "not JSON"),
        ("ä".encode("latin-1"), "not JSON"),
    ],
)
def test_a_line_that_is_wrong_is_named_by_file_and_number(tmp_path, change, reason):
    good = json.loads(write_manifest(tmp_path, [ENTRY]).read_text()) | {"path": "a/y.npz", "unknown": "is left out"}
    path = tmp_path / "manifest.jsonl"
    path.write_text(path.read_text() + json.dumps(good) + "\n")
    assert len(read_manifest(path)) == 2
    if isinstance(change, dict):
        change = json.dumps({name: value for name, value in (good | change).items() if value is not None})
    with path.open("ab") as stream:
        stream.write(change if isinstance(change, bytes) else change.encode())
        stream.write(b"\n")
    with pytest.raises(DataError) as raised:
        read_manifest(path)
    assert str(raised.value).startswith(f"{path}, line 3: not an entry of a manifest: {reason}")
    assert str(raised.value).endswith("; encode the folder again")


def test_no_manifest_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"manifest\.jsonl: cannot be read \(No such file"):
        read_manifest(tmp_path)


def test_codes_of_two_models_are_no_set(tmp_path):
    assert one_set([ENTRY, replace(ENTRY, path="b.npz", frames=5)], tmp_path) == (HASH, (4, 300))
    other = replace(ENTRY, path="b.npz", model_hash="f" * 64)
    with pytest.raises(DataError, match=r"a/x\.npz and b\.npz are codes of different models \(0123456789ab and ffff"):
        one_set([ENTRY, other], tmp_path)
    fewer = replace(ENTRY, path="b.npz", codebook_sizes=(4,))
    with pytest.raises(DataError, match=r"a/x\.npz has 2 codebooks and b\.npz 1"):
        one_set([ENTRY, fewer], tmp_path)
    with pytest.raises(DataError, match="its manifest is empty"):
        one_set([], tmp_path)


def test_a_manifest_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "occupied").write_text("a regular file")
    with pytest.raises(DataError, match=r"manifest\.jsonl: cannot be written"):
        write_manifest(tmp_path / "occupied", [ENTRY])
