"""Shards against the packages that others read them with: webdataset, tarfile, numpy, pyarrow and datasets."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from discrete_ae.codes.manifest import read_manifest, write_manifest
from discrete_ae.codes.parquet import write_parquet_shards
from discrete_ae.codes.shards import keys_of, write_memory_map, write_tar_shards
from tests.codes.made import HASH, assert_refused, code_file, drawn, replace, write_set

NAMES = ("b/y.v2.npz", "a/x.npz", "a/x%.npz", "a/x.wav.npz", "z ä.npz", "n" * 150 + ".npz")
INDEX = {
    "format": "discrete-ae codes",
    "format_version": 1,
    "model_hash": HASH,
    "codebook_sizes": [4, 300],
    "recordings": 6,
    "frames": 69,  # 5 to 10 frames, of 1 and 2 streams in turn: 5 + 12 + 7 + 16 + 9 + 20
}
every_writer = pytest.mark.parametrize("write", [write_tar_shards, write_memory_map, write_parquet_shards])


def make_corpus(folder, names):
    """Code files of one and two streams, and of 5, 6, 7, … frames, with their manifest; the codes by path."""
    codes = {name: drawn((4, 300), 1 + i % 2, 5 + i, seed=i) for i, name in enumerate(names)}
    write_set(folder, {name: code_file(found, (4, 300)) for name, found in codes.items()})
    return codes


@pytest.fixture
def corpus(tmp_path):
    return make_corpus(tmp_path / "codes", NAMES)


def test_keys_are_those_that_webdataset_sees():
    paths = ("a.b/x.npz", "a/x.wav.npz", "x%2E.daec", "a/.hidden.npz")
    assert keys_of(Path(), paths) == ["a.b/x", "a/x%2Ewav", "x%252E", "a/%2Ehidden"]


# In a process of its own: webdataset leaves files open.
READ_WITH_WEBDATASET = """
import json, sys, webdataset
for sample in webdataset.WebDataset(sys.argv[1:], shardshuffle=False, empty_check=False).decode():
    print(json.dumps([sample["__key__"], sample["json"], sample["npy"].tolist(), str(sample["npy"].dtype)]))
"""


def test_webdataset_reads_the_shards(tmp_path, corpus):
    write_tar_shards(tmp_path / "codes", tmp_path / "shards", max_bytes=22_000)
    shards = sorted((tmp_path / "shards").glob("codes-*.tar"))
    names = ["codes-000000.tar", "codes-000001.tar"]
    assert [shard.name for shard in shards] == names
    assert json.loads((tmp_path / "shards/index.json").read_text()) == INDEX | {"kind": "tar", "files": names}
    command = [sys.executable, "-c", READ_WITH_WEBDATASET, *map(str, shards)]
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in read.stdout.splitlines()]
    assert [key for key, *_ in found] == sorted(keys_of(Path(), NAMES))
    entries = {entry.path: entry for entry in read_manifest(tmp_path / "codes")}
    for key, row, codes, dtype in found:
        assert keys_of(Path(), [row["path"]]) == [key]
        assert row["sha256"] == entries[row["path"]].sha256
        assert codes == corpus[row["path"]].tolist()
        assert dtype == "uint16"  # the smallest for 300 entries


def test_tars_are_deterministic_and_name_nobody(tmp_path, corpus):
    for out in ("one", "two"):
        write_tar_shards(tmp_path / "codes", tmp_path / out)
    first = tmp_path / "one/codes-000000.tar"
    assert first.read_bytes() == (tmp_path / "two/codes-000000.tar").read_bytes()
    with tarfile.open(first) as archive:
        members = archive.getmembers()
    assert len(members) == 2 * len(NAMES)
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in members} == {(0, 0, 0, "", "")}


def test_no_shard_is_larger_than_asked_unless_one_recording_is(tmp_path):
    make_corpus(tmp_path / "codes", [f"{i:02}.npz" for i in range(40)])
    write_tar_shards(tmp_path / "codes", tmp_path / "shards", max_bytes=40000)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "shards").glob("*.tar"))]
    # A recording is two members of a header (512) and one or two blocks of content: at most 3072 bytes, here 2560; the
    # tar is filled up to a multiple of 10240.
    assert len(sizes) > 1
    assert max(sizes) <= 40000
    assert min(sizes[:-1]) > 40000 - 10240 - 3072
    write_tar_shards(tmp_path / "codes", tmp_path / "small", max_bytes=1)
    assert len(list((tmp_path / "small").glob("*.tar"))) == 40


def test_the_array_opens_with_numpy_alone(tmp_path, corpus):
    write_memory_map(tmp_path / "codes", tmp_path / "shards")
    index = json.loads((tmp_path / "shards/index.json").read_text())
    assert index == INDEX | {"kind": "mmap", "files": ["codes.mmap"]}
    array = np.load(tmp_path / "shards/codes.mmap", mmap_mode="r")
    assert (array.dtype, array.shape, array.flags.f_contiguous) == (np.uint16, (2, 69), True)
    rows = [json.loads(line) for line in (tmp_path / "shards/recordings.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == sorted(keys_of(Path(), NAMES))
    end = 0
    for row in rows:
        assert row["offset"] == end
        for stream in range(row["streams"]):
            assert np.array_equal(array[:, end : end + row["frames"]], corpus[row["path"]][stream])
            end += row["frames"]


# In a process of its own, with a cache of its own: it is told here where that lies, and that there is no network.
READ_WITH_DATASETS = """
import json, sys, datasets
found = datasets.load_dataset(sys.argv[1], split="train", cache_dir=sys.argv[2])
print(json.dumps([found.column_names, str(found.features["codes"]), [row for row in found]]))
"""


@pytest.mark.slow
def test_datasets_opens_the_folder_of_parquet(tmp_path, corpus):
    write_parquet_shards(tmp_path / "codes", tmp_path / "shards", max_bytes=100)
    names = sorted(path.name for path in (tmp_path / "shards").glob("*.parquet"))
    assert len(names) > 1
    assert json.loads((tmp_path / "shards/index.json").read_text()) == INDEX | {"kind": "parquet", "files": names}
    command = [sys.executable, "-c", READ_WITH_DATASETS, tmp_path / "shards", tmp_path / "cache"]
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    read = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    columns, type_of_codes, rows = json.loads(read.stdout)
    assert columns[:3] == ["key", "stream", "codes"]
    assert "uint16" in type_of_codes  # the smallest for 300 entries
    entries = {entry.path: entry for entry in read_manifest(tmp_path / "codes")}
    ordered = sorted(zip(keys_of(Path(), entries), entries.values(), strict=True), key=lambda keyed: keyed[0])
    assert [(row["key"], row["stream"]) for row in rows] == [
        (key, s) for key, one in ordered for s in range(one.streams)
    ]
    for row in rows:
        entry = entries[row["path"]]
        assert row["codes"] == corpus[row["path"]][row["stream"]].tolist()
        assert keys_of(Path(), [row["path"]]) == [row["key"]]
        said = {"duration_s": entry.duration_s, **entry.model_dump(), "codebook_sizes": [4, 300]}
        assert {name: row[name] for name in columns[3:]} == said


def test_parquet_has_files_and_row_groups_of_bounded_size_and_plain_types(tmp_path, monkeypatch):
    corpus = make_corpus(tmp_path / "codes", [f"{i:02}.npz" for i in range(8)])
    monkeypatch.setattr("discrete_ae.codes.parquet.ROW_GROUP_BYTES", 60)
    write_parquet_shards(tmp_path / "codes", tmp_path / "shards", max_bytes=120)
    # Of 2 codebooks of 2 bytes, 4 bytes a frame: 20, 24 + 24, 28, 32 + 32, 36, 40 + 40, 44, 48 + 48. No more than 60
    # in a row group, no more than 120 in a file.
    bytes_of_groups = [[[20, 24], [24, 28]], [[32], [32], [36]], [[40], [40]], [[44], [48]], [[48]]]
    files = [parquet.ParquetFile(path) for path in sorted((tmp_path / "shards").glob("*.parquet"))]
    found = [
        [[4 * row["frames"] for row in one.read_row_group(i).to_pylist()] for i in range(one.num_row_groups)]
        for one in files
    ]
    assert found == bytes_of_groups
    rows = pa.concat_tables([one.read() for one in files]).to_pylist()
    assert [row["codes"] for row in rows] == [stream.tolist() for codes in corpus.values() for stream in codes]
    plain = (pa.string(), pa.int64(), pa.float64(), pa.list_(pa.int64()), pa.list_(pa.list_(pa.uint16())))
    # Names of the items of lists apart.
    assert {str(one.type).replace("element", "item") for one in files[0].schema_arrow} == set(map(str, plain))


def test_a_name_that_is_no_text_is_written_with_its_bytes(tmp_path):
    make_corpus(tmp_path / "codes", ["x.npz"])
    (entry,) = read_manifest(tmp_path / "codes")
    write_manifest(tmp_path / "codes", [replace(entry, source="in/\udcffä.wav")])
    write_parquet_shards(tmp_path / "codes", tmp_path / "shards")
    assert parquet.read_table(tmp_path / "shards/codes-000000.parquet")["source"].to_pylist() == ["in/\\xffä.wav"]


@every_writer
def test_what_is_no_set_of_codes_leaves_nothing(tmp_path, corpus, write):
    def assert_none(entries, *words):
        assert_refused(lambda: write(tmp_path / "codes", tmp_path / "shards", entries), *words)
        assert not (tmp_path / "shards").exists()

    entries = read_manifest(tmp_path / "codes")
    assert_none([entries[0], replace(entries[1], model_hash="f" * 64)], "encode all recordings with")
    twin = replace(entries[0], path=entries[0].path.replace(".npz", ".daec"))
    assert_none([*entries, twin], "a/x%.npz and a/x%.daec have the same name without suffix, a/x%25; remove one")
    # A manifest that contradicts the file, though the file is the right one.
    assert_none([replace(entries[-1], frames=99)], "does not match the manifest")
    (tmp_path / "codes/a/x.npz").write_bytes((tmp_path / "codes/z ä.npz").read_bytes())
    assert_none(None, "a/x.npz: its SHA-256 differs")
