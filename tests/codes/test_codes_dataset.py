"""The data set of codes: the same items from files and the array, and crops that are where they say."""

import json
import logging
import os
import pickle
import shutil
import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import discrete_ae.codes
from discrete_ae.codes.container import FORMATS, read_codes, write_codes
from discrete_ae.codes.dataset import CodesDataset
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.manifest import ManifestEntry, describe, read_manifest, write_manifest
from discrete_ae.codes.shards import write_memory_map
from discrete_ae.errors import DataError
from tests.codes.made import HASH, code_file, drawn, write_set

SIZES = (4, 300, 9)
KINDS = ("files", "mmap")
# Streams and frames of each recording: 3 * 1 + 40 * 2 + 17 * 1 = 100 frames in four streams.
LENGTHS = {"a/x.npz": (1, 3), "b.npz": (2, 40), "c.npz": (1, 17)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each kind with the same codes; and the codes, (S, K, T), by key."""
    root = tmp_path_factory.mktemp("sets")
    files = {name: code_file(drawn(SIZES, *length), SIZES) for name, length in LENGTHS.items()}
    write_set(root / "files", files)
    write_memory_map(root / "files", root / "mmap")
    codes = {name.removesuffix(".npz"): file.codes for name, file in files.items()}
    return root, codes


@pytest.mark.parametrize("kind", KINDS)
def test_whole_streams(folders, kind):
    root, codes = folders
    dataset = discrete_ae.codes.CodesDataset(root / kind)
    assert isinstance(dataset, CodesDataset)
    assert (len(dataset), dataset.total_frames) == (4, 100)
    assert (dataset.codebook_sizes, dataset.model_hash) == ((4, 300, 9), HASH)
    items = list(dataset)
    assert [(item.key, item.stream) for item in items] == [("a/x", 0), ("b", 0), ("b", 1), ("c", 0)]
    for item in items:
        assert (item.codes.dtype, item.start, item.frames) == (torch.int64, 0, item.codes.shape[1])
        assert np.array_equal(item.codes, codes[item.key][item.stream])


@pytest.mark.parametrize("format", FORMATS)
def test_files_of_every_format(tmp_path, format):
    codes = drawn((256,) * 4, 2, 30)
    write_set(tmp_path / "codes", {f"x.{format}": code_file(codes, (256,) * 4)})
    write_memory_map(tmp_path / "codes", tmp_path / "shards")
    for folder in ("codes", "shards"):
        assert [item.codes.tolist() for item in CodesDataset(tmp_path / folder)] == codes.tolist()
    write_codes(code_file(codes[:, :, :-1], (256,) * 4), tmp_path / f"codes/x.{format}", format)
    with pytest.raises(DataError, match=rf"x\.{format}: does not hold what the manifest says"):
        CodesDataset(tmp_path / "codes")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_crops_are_the_codes_at_their_place(folders, kind):
    root, codes = folders
    dataset = CodesDataset(root / kind, frames=10, padding=7, seed=3)
    assert len(dataset) == 10  # 100 frames in crops of 10
    for item in dataset:
        assert item.codes.shape == (3, 10)
        where = codes[item.key][item.stream][:, item.start : item.start + 10]
        assert item.frames == where.shape[1]
        assert np.array_equal(item.codes[:, : item.frames], where)
        assert (item.codes[:, item.frames :] == 7).all()


def numbers(items):
    return [(item.key, int(item.stream), int(item.start), item.codes.tolist()) for item in items]


def test_crops_are_a_function_of_seed_epoch_and_index_alone(folders):
    root, _ = folders
    first = numbers(CodesDataset(root / "files", frames=5, seed=1))
    for kind in KINDS:
        dataset = CodesDataset(root / kind, frames=5, seed=1)
        assert numbers([dataset[i] for i in reversed(range(len(dataset)))])[::-1] == first
        dataset.set_epoch(1)
        assert numbers(dataset) != first
        dataset.set_epoch(0)
        assert numbers(dataset) == first
        assert numbers(pickle.loads(pickle.dumps(dataset))) == first
    assert numbers(CodesDataset(root / "files", frames=5, seed=2)) != first


def test_every_frame_is_about_as_likely_as_any_other(folders):
    root, _ = folders
    dataset = CodesDataset(root / "mmap", frames=1)
    counts = dict.fromkeys([("a/x", 0), ("b", 0), ("b", 1), ("c", 0)], 0)
    for epoch in range(40):
        dataset.set_epoch(epoch)
        for item in dataset:
            counts[item.key, item.stream] += 1
    # 4000 draws of 100 frames: of a stream of T frames 40 T, with a standard deviation below sqrt(40 T).
    for (key, stream), count in counts.items():
        frames = {"a/x": 3, "b": 40, "c": 17}[key]
        assert abs(count - 40 * frames) < 4 * (40 * frames) ** 0.5, (key, stream)


def test_streams_shorter_than_a_crop_are_left_out_and_counted(folders, caplog):
    root, _ = folders
    with caplog.at_level(logging.WARNING, logger="discrete_ae"):
        dataset = CodesDataset(root / "mmap", frames=20)
    assert "2 of 4 streams are shorter than 20 frames and left out" in caplog.text
    assert (dataset.total_frames, len(dataset)) == (80, 4)
    for epoch in range(20):
        dataset.set_epoch(epoch)
        assert {item.key for item in dataset} == {"b"}
    with pytest.raises(DataError, match="the longest stream has 40 frames, a crop has 41"):
        CodesDataset(root / "mmap", frames=41)


@pytest.mark.slow
def test_loading_processes_that_stay_give_what_one_process_gives(folders):
    root, _ = folders
    dataset = CodesDataset(root / "mmap", frames=10, padding=0)
    loader = DataLoader(dataset, batch_size=4, num_workers=2, persistent_workers=True, multiprocessing_context="fork")
    for epoch in range(2):
        dataset.set_epoch(epoch)
        batches = list(loader)
        assert [tuple(batch.codes.shape) for batch in batches] == [(4, 3, 10), (4, 3, 10), (2, 3, 10)]
        found = [item.tolist() for batch in batches for item in batch.codes]
        assert found == [item.codes.tolist() for item in dataset]


def test_nothing_stays_open(folders):
    root, _ = folders
    datasets = [CodesDataset(root / kind) for kind in KINDS]
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    items = [item for dataset in datasets for item in dataset]
    assert len(items) == 8
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_an_item_that_is_not_there(folders):
    root, _ = folders
    dataset = CodesDataset(root / "files")
    for index in (4, -1):
        with pytest.raises(IndexError):
            dataset[index]
    with pytest.raises(ValueError, match="frames: expected at least 1"):
        CodesDataset(root / "files", frames=0)
    with pytest.raises(ValueError, match="seed: expected at least 0"):
        CodesDataset(root / "files", seed=-1)


@pytest.fixture
def copied(folders, tmp_path):
    shutil.copytree(folders[0], tmp_path / "sets")
    return tmp_path / "sets"


def cut(path, by=1024):
    path.write_bytes(path.read_bytes()[:-by])


def save(path, array):
    """As np.save, which adds a suffix to a path."""
    with path.open("wb") as stream:
        np.save(stream, array)


def in_json(path, **changes):
    """Change the fields of the first line of a file, which are one object."""
    first, *rest = path.read_text().split("\n") if path.suffix == ".jsonl" else [path.read_text()]
    path.write_text("\n".join([json.dumps(json.loads(first) | changes), *rest]))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("index.json", lambda path: path.write_text("{"), "index.json"),
        ("index.json", lambda path: in_json(path, format_version=2), "format_version"),
        ("index.json", lambda path: in_json(path, kind="tar"), "read them with webdataset"),
        ("recordings.jsonl", lambda path: in_json(path, offset=10**30), "offset: expected 0"),
        ("recordings.jsonl", lambda path: in_json(path, key="b"), "one key"),
        ("recordings.jsonl", lambda path: path.write_text(""), "recordings.jsonl: damaged"),
        ("codes.mmap", lambda path: cut(path, 1), "codes.mmap: damaged"),
        ("codes.mmap", lambda path: path.unlink(), "codes.mmap: damaged or missing"),
        ("codes.mmap", lambda path: save(path, np.ones((3, 100))), "does not fit recordings"),
    ],
)
def test_damage_is_one_line_when_the_set_is_opened(copied, name, damage, message):
    damage(copied / "mmap" / name)
    with pytest.raises(DataError) as raised:
        CodesDataset(copied / "mmap")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_a_manifest_says_of_itself_takes_no_memory(copied):
    # 10^9 streams of 3 frames and 3 codebooks, in a file that would be large enough, and of which nothing is true
    in_json(copied / "files/manifest.jsonl", streams=10**9, bytes=10**12)
    tracemalloc.start()
    dataset = CodesDataset(copied / "files", frames=3)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
    assert dataset.total_frames == 3 * 10**9 + 97
    assert len(dataset) == 10**9 + 33  # 97 = 32 * 3 + 1
    with pytest.raises(DataError, match=r"a/x\.npz: does not hold what the manifest says"):
        dataset[0]
    entry = read_manifest(copied / "files")[1]
    write_codes(read_codes(copied / "files/b.npz"), copied / "files/b.daec", "daec")
    # 42 * 2^62 codes may be in so many bytes, 3 codebooks * 2^63 frames are among them
    changes = ({"path": "b.daec"}, {"path": "x.daec", "bytes": 2**62, "streams": 2**31, "frames": 2**32})
    write_manifest(copied / "files", [ManifestEntry.of({**vars(entry), **change}) for change in changes])
    with pytest.raises(DataError, match="says that it holds 2\\^63 frames or more"):
        CodesDataset(copied / "files")


def test_codes_beyond_their_codebook_are_refused(copied):
    path = copied / "mmap/codes.mmap"
    save(path, np.full_like(np.load(path), 65535))  # under the same header
    with pytest.raises(DataError, match=r"codes\.mmap: damaged, it holds codes that its codebooks do not have"):
        CodesDataset(copied / "mmap")[0]


def test_entropy_coded_files_ask_for_their_model_when_the_set_is_opened(tmp_path):
    codes = np.zeros((1, 2, 400), np.int64)
    model, other = (EntropyModel.fit([codes + shift], (16, 16)) for shift in (0, 1))
    file = code_file(codes, (16, 16))
    write_codes(file, tmp_path / "a.daec", "daec", model)
    write_manifest(tmp_path, [describe(file, tmp_path / "a.daec", tmp_path, tmp_path / "a.wav")])
    for given in (None, other):
        with pytest.raises(DataError, match=rf"a\.daec: needs the entropy model {model.fingerprint} .*load\(CHECK"):
            CodesDataset(tmp_path, entropy_model=given)
    assert [item.codes.sum() for item in CodesDataset(tmp_path, entropy_model=model)] == [0]


def test_damage_that_comes_later_is_one_line_from_the_item(copied):
    (copied / "files/b.npz").write_bytes((copied / "files/c.npz").read_bytes())
    with pytest.raises(DataError, match=r"b\.npz: does not hold what the manifest says"):
        CodesDataset(copied / "files")[1]
    dataset = CodesDataset(copied / "mmap")
    cut(copied / "mmap/codes.mmap", 1)
    with pytest.raises(DataError, match=r"codes\.mmap: damaged"):
        list(dataset)
    (copied / "mmap/codes.mmap").unlink()
    with pytest.raises(FileNotFoundError):
        dataset[1]
