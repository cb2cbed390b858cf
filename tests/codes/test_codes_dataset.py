"""The data set of codes: the same items from files and the array, and crops that are where they say."""

import json
import logging
import os
import pickle
import shutil
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from pyarrow import parquet
from torch.utils.data import DataLoader

from discrete_ae.codes.container import FORMATS, read_codes, write_codes
from discrete_ae.codes.dataset import CodesDataset
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.manifest import describe, read_manifest, update_manifest, write_manifest
from discrete_ae.codes.parquet import write_parquet_shards
from discrete_ae.codes.patterns import PATTERNS
from discrete_ae.codes.shards import write_memory_map, write_tar_shards
from tests.codes.made import HASH, assert_refused, code_file, drawn, replace, write_set
from tests.fuzzing import damaged, fuzzed, read_or_refused

SIZES = (4, 300, 9)
KINDS = ("files", "mmap", "parquet")
# Streams and frames of each recording: 3 * 1 + 40 * 2 + 17 * 1 = 100 frames in four streams.
LENGTHS = {"a/x.npz": (1, 3), "b.npz": (2, 40), "c.npz": (1, 17)}
STREAMS = {("a/x", 0): 3, ("b", 0): 40, ("b", 1): 40, ("c", 0): 17}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a set of each kind, of the same codes; and the codes, (K, T), by key and stream."""
    root = tmp_path_factory.mktemp("sets")
    files = {name: code_file(drawn(SIZES, *length), SIZES) for name, length in LENGTHS.items()}
    write_set(root / "files", files)
    write_memory_map(root / "files", root / "mmap")
    write_parquet_shards(root / "files", root / "parquet", max_bytes=200)  # in several files
    return root, {(key, stream): files[f"{key}.npz"].codes[stream] for key, stream in STREAMS}


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "sets")


@pytest.mark.parametrize("kind", KINDS)
def test_whole_streams_and_nothing_stays_open(made, kind):
    root, codes = made
    dataset = CodesDataset(root / kind)
    assert (len(dataset), dataset.total_frames) == (4, 100)
    assert (dataset.codebook_sizes, dataset.model_hash) == (SIZES, HASH)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    items = list(dataset)
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208  less: what other tests left is collected meanwhile
    assert [(item.key, item.stream) for item in items] == list(STREAMS)
    for item in items:
        assert (item.codes.dtype, item.start, item.frames) == (torch.int64, 0, item.codes.shape[1])
        assert np.array_equal(item.codes, codes[item.key, item.stream])


@pytest.mark.parametrize("format", FORMATS)
def test_files_of_every_format_must_be_what_the_manifest_says(tmp_path, format):
    codes = drawn((256,) * 4, 2, 30)
    write_set(tmp_path / "codes", {f"x.{format}": code_file(codes, (256,) * 4)})
    write_memory_map(tmp_path / "codes", tmp_path / "shards")
    for folder in ("codes", "shards"):
        assert [item.codes.tolist() for item in CodesDataset(tmp_path / folder)] == codes.tolist()
    write_codes(code_file(codes[:, :, :-1], (256,) * 4), tmp_path / f"codes/x.{format}", format)
    assert_refused(lambda: CodesDataset(tmp_path / "codes")[0], f"x.{format}: does not match the manifest")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_gives_the_same_items_as_tokens(made, kind, name):
    path = made[0] / kind
    pattern = PATTERNS[name](SIZES)
    for plain, item in zip(CodesDataset(path), CodesDataset(path, pattern=name), strict=True):
        assert item.codes.tolist() == pattern.apply(plain.codes, begin=True, end=True).tolist()
        assert item[1:] == plain[1:]
    crops, tokens = CodesDataset(path, 20, 3, padding=0), CodesDataset(path, 20, 3, pattern=pattern)
    assert (tokens.pattern, len(tokens)) == (pattern, len(crops))
    ends = set()
    for epoch in range(4):
        crops.set_epoch(epoch)
        tokens.set_epoch(epoch)
        for crop, item in zip(crops, tokens, strict=True):
            assert item[1:] == crop[1:]
            assert item.codes.shape[-1] == pattern.shape(20)[-1] + 2
            assert torch.equal(torch.from_numpy(pattern.invert(item.codes)), crop.codes[:, : crop.frames])
            assert (item.codes[..., 0] == pattern.begin_id).all()
            # The end stands where the stream ends, and only there.
            has_end = bool((item.codes == pattern.end_id).any())
            assert has_end == (crop.start + crop.frames == STREAMS[item.key, item.stream])
            ends.add(has_end)
    assert ends == {True, False}


@pytest.mark.parametrize("kind", KINDS)
def test_crops_are_the_codes_at_their_place(made, kind):
    root, codes = made
    dataset = CodesDataset(root / kind, frames=10, padding=7, seed=3)
    assert len(dataset) == 10  # 100 frames in crops of 10
    for item in dataset:
        assert item.codes.shape == (3, 10)
        where = codes[item.key, item.stream][:, item.start : item.start + 10]
        assert item.frames == where.shape[1]
        assert np.array_equal(item.codes[:, : item.frames], where)
        assert (item.codes[:, item.frames :] == 7).all()


def numbers(items):
    return [(item.key, int(item.stream), int(item.start), item.codes.tolist()) for item in items]


def test_crops_are_a_function_of_seed_epoch_and_index_alone(made):
    root, _ = made
    first = numbers(CodesDataset(root / "files", frames=5, seed=1))
    assert numbers(CodesDataset(root / "files", frames=5, seed=2)) != first
    dataset = CodesDataset(root / "mmap", frames=5, seed=1)
    assert numbers([dataset[i] for i in reversed(range(len(dataset)))])[::-1] == first
    dataset.set_epoch(1)
    assert numbers(dataset) != first
    dataset.set_epoch(0)
    assert numbers(pickle.loads(pickle.dumps(dataset))) == first


def test_every_frame_is_about_as_likely_as_any_other(made):
    root, _ = made
    dataset = CodesDataset(root / "mmap", frames=1)
    counts = dict.fromkeys(STREAMS, 0)
    for epoch in range(40):
        dataset.set_epoch(epoch)
        for item in dataset:
            counts[item.key, item.stream] += 1
    # 4000 draws of 100 frames: of a stream of T frames 40 T, with a standard deviation below sqrt(40 T).
    for place, frames in STREAMS.items():
        assert abs(counts[place] - 40 * frames) < 4 * (40 * frames) ** 0.5, place


def test_streams_shorter_than_a_crop_are_left_out_and_counted(made, caplog):
    root, _ = made
    with caplog.at_level(logging.WARNING, logger="discrete_ae"):
        dataset = CodesDataset(root / "mmap", frames=20)
    assert "left out 2 of 4 streams, shorter than 20 frames" in caplog.text
    assert (dataset.total_frames, len(dataset)) == (80, 4)
    for epoch in range(20):
        dataset.set_epoch(epoch)
        assert {item.key for item in dataset} == {"b"}
    assert_refused(
        lambda: CodesDataset(root / "mmap", frames=41), "at least 41 frames, the length of a crop, got at most 40"
    )


@pytest.mark.slow
def test_loading_processes_that_stay_give_what_one_process_gives(made):
    dataset = CodesDataset(made[0] / "mmap", frames=10, padding=0)
    loader = DataLoader(dataset, batch_size=4, num_workers=2, persistent_workers=True, multiprocessing_context="fork")
    for epoch in range(2):
        dataset.set_epoch(epoch)
        batches = list(loader)
        assert [tuple(batch.codes.shape) for batch in batches] == [(4, 3, 10), (4, 3, 10), (2, 3, 10)]
        found = [item.tolist() for batch in batches for item in batch.codes]
        assert found == [item.codes.tolist() for item in dataset]


def test_numbers_out_of_their_range(made):
    path = made[0] / "files"
    for index in (4, -1):
        assert_refused(lambda index=index: CodesDataset(path)[index], error=IndexError)
    assert_refused(lambda: CodesDataset(path, frames=0), "frames: expected at least 1", error=ValueError)
    for pattern, words in (
        ("dely", "pattern: expected one of flat, coarse_first, parallel, delay, or an instance of Pattern, got 'dely'"),
        (PATTERNS["flat"], "pattern: expected one of flat"),
        (PATTERNS["flat"]((4, 300)), "(3 of 4, 300, 9 entries), got a pattern for 2 of 4, 300 entries"),
    ):
        assert_refused(lambda pattern=pattern: CodesDataset(path, pattern=pattern), words, error=ValueError)
    assert_refused(lambda: CodesDataset(path, padding=0, pattern="flat"), "padding: expected None", error=ValueError)
    assert_refused(lambda: CodesDataset(path, seed=-1), "seed: expected at least 0", error=ValueError)


def cut(path, by=1):
    path.write_bytes(path.read_bytes()[:-by])


def fill(path, array):
    """Save an array as np.save does, without adding a suffix to the path."""
    with path.open("wb") as stream:
        np.save(stream, array)


def in_json(path, **changes):
    """Change the fields of the first line of a file, which are one object."""
    first, *rest = path.read_text().split("\n") if path.suffix == ".jsonl" else [path.read_text()]
    path.write_text("\n".join([json.dumps(json.loads(first) | changes), *rest]))


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("index.json", lambda path: path.write_text("{"), "index.json"),
        ("index.json", lambda path: in_json(path, format_version=2), "format_version"),
        ("index.json", lambda path: in_json(path, kind="tar"), "read them with webdataset"),
        ("recordings.jsonl", lambda path: in_json(path, offset=10**30), "offset: expected 0"),
        ("recordings.jsonl", lambda path: in_json(path, key="b"), "same key"),
        ("recordings.jsonl", lambda path: path.write_text(""), "recordings.jsonl: damaged"),
        ("codes.mmap", cut, "codes.mmap: damaged"),
        ("codes.mmap", lambda path: path.unlink(), "codes.mmap: damaged or missing"),
        ("codes.mmap", lambda path: fill(path, np.ones((3, 100))), "does not fit recordings"),
    ],
)
def test_damage_is_one_line_when_the_set_is_opened(copied, name, damage, words):
    damage(copied / "mmap" / name)
    assert_refused(lambda: CodesDataset(copied / "mmap"), words)


@pytest.mark.parametrize(
    "name", ["files/manifest.jsonl", "mmap/index.json", "mmap/recordings.jsonl", "mmap/codes.mmap"]
)
def test_damaged_set_is_read_or_refused(copied, name):
    path = copied / name
    folder, valid = path.parent, path.read_bytes()

    def read(frames):
        dataset = CodesDataset(folder, frames, padding=0)
        for item, _ in zip(dataset, range(20), strict=False):
            codes = item.codes.numpy()
            assert ((codes >= 0) & (codes < np.array(dataset.codebook_sizes)[:, None])).all(), codes

    @fuzzed
    @given(damaged([valid]))
    def damage(content):
        path.write_bytes(content)
        for use in (lambda: read(None), lambda: read(2), lambda: update_manifest(copied / "files", [])):
            try:
                read_or_refused(use, copied)
            except OSError as error:  # of a file that a manifest names and that is not there
                if not str(error.filename).startswith(str(folder)):
                    raise

    damage()


def test_damage_that_comes_later_is_one_line_from_the_item(copied):
    path = copied / "mmap/codes.mmap"
    dataset = CodesDataset(copied / "mmap")
    fill(path, np.full_like(np.load(path), 65535))  # under the same header
    assert_refused(lambda: dataset[0], "codes.mmap: damaged, codes are out of range")
    cut(path)
    assert_refused(lambda: dataset[3], "codes.mmap: damaged")


def change_rows(path, change):
    """Write a Parquet file again with its rows changed."""
    table = parquet.read_table(path)
    parquet.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), path)


def in_rows(**changes):
    return lambda path: change_rows(path, lambda rows: [row | changes for row in rows])


@pytest.mark.parametrize(
    ("damage", "words", "later"),
    [
        (lambda path: path.unlink(), "damaged or missing", False),
        (lambda path: cut(path, 8), "damaged or missing", False),
        (
            lambda path: change_rows(path.with_name("codes-000002.parquet"), lambda rows: []),
            "1 of 2 streams of b",
            False,
        ),
        (lambda path: change_rows(path, lambda rows: []), "expected stream 1 of a/x, got stream 1 of b", False),
        (in_rows(stream=1), "expected stream 1 of a/x, got stream 1 of b", False),
        (in_rows(streams=0), "streams: ", False),
        (lambda path: in_json(path.with_name("index.json"), files=[]), "parquet: ", False),
        (in_rows(codes=[[9] * 40] * 3), "expected 0 <= code < 4", True),
        (in_rows(codes=[[1] * 39] * 3), "expected 3 codebooks of 40", True),
        (in_rows(codes=None), "damaged or missing", True),
    ],
)
def test_damaged_parquet_is_one_line(copied, damage, words, later):
    path = copied / "parquet/codes-000001.parquet"  # the first stream of b alone
    damage(path)
    if later:
        dataset = CodesDataset(copied / "parquet")
        assert_refused(lambda: dataset[1], words)
    else:
        assert_refused(lambda: CodesDataset(copied / "parquet"), words)


def test_parquet_without_its_package_is_one_line(made, monkeypatch):
    monkeypatch.delitem(sys.modules, "discrete_ae.codes.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert_refused(lambda: CodesDataset(made[0] / "parquet"), "needs the package pyarrow; pip install 'discrete-ae[")


def test_shards_are_no_files_of_codes_to_decode(made, tmp_path):
    write_tar_shards(made[0] / "files", tmp_path / "tar")
    for path in (made[0] / "parquet/codes-000000.parquet", tmp_path / "tar/codes-000000.tar"):
        assert_refused(lambda path=path: read_codes(path), f"{path}: expected a file of codes, got a shard")


def test_what_a_manifest_says_of_itself_takes_no_memory(copied):
    # 10^9 streams of 3 frames and 3 codebooks, in a file that would be large enough, and of which nothing is true
    in_json(copied / "files/manifest.jsonl", streams=10**9, bytes=10**12)
    tracemalloc.start()
    dataset = CodesDataset(copied / "files", frames=3)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
    assert dataset.total_frames == 3 * 10**9 + 97
    assert len(dataset) == 10**9 + 33  # 97 = 32 * 3 + 1
    assert_refused(lambda: dataset[0], "a/x.npz: does not match the manifest")
    # 42 * 2^62 codes may be in so many bytes, 3 codebooks * 2^63 frames are among them
    large = replace(read_manifest(copied / "files")[1], path="x.daec", bytes=2**62, streams=2**31, frames=2**32)
    write_codes(code_file(drawn(SIZES, 1, 3), SIZES), copied / "files/b.daec", "daec")
    first = describe(code_file(drawn(SIZES, 1, 3), SIZES), copied / "files/b.daec", copied / "files", copied)
    write_manifest(copied / "files", [first, large])
    assert_refused(lambda: CodesDataset(copied / "files"), "claims 2^63 frames or more")


def test_entropy_coded_files_ask_for_their_model_when_the_set_is_opened(tmp_path):
    codes = np.zeros((1, 2, 400), np.int64)
    model = EntropyModel.fit([codes], (16, 16))
    file = code_file(codes, (16, 16))
    write_codes(file, tmp_path / "a.daec", "daec", model)
    write_manifest(tmp_path, [describe(file, tmp_path / "a.daec", tmp_path, tmp_path / "a.wav")])
    assert_refused(lambda: CodesDataset(tmp_path), f"a.daec: needs the entropy model {model.fingerprint}")
    assert [item.codes.sum() for item in CodesDataset(tmp_path, entropy_model=model)] == [0]


def test_a_folder_without_codes_is_said(tmp_path):
    assert_refused(
        lambda: CodesDataset(tmp_path / "nope"), "nope: no such folder; give one written by discrete-ae encode"
    )
    assert_refused(lambda: CodesDataset(tmp_path), "is not a folder with a manifest of codes; give one")
