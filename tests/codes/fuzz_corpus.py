"""Damaged sets of codes, found by coverage (atheris): a folder opens and gives codes, or is met with a DataError.

    python tests/codes/fuzz_corpus.py -runs=1000000 -seed=7         # by hand, with any of libFuzzer's options

`test_fuzz_harnesses.py` runs it briefly. The first byte of an input says which file of a set is damaged.
"""

import itertools
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["discrete_ae.codes", "json"]):
    import numpy as np

    from discrete_ae.codes.dataset import CodesDataset
    from discrete_ae.codes.manifest import update_manifest
    from discrete_ae.codes.shards import write_memory_map
    from discrete_ae.errors import DataError
    from tests.codes.made import code_file, write_set

from tests.fuzzing import check_line, fuzz

SIZES = (5, 300)
ROOT = Path(tempfile.mkdtemp(prefix="fuzz_corpus_"))
NAMES = (
    "files/manifest.jsonl",
    "mmap/index.json",
    "mmap/recordings.jsonl",
    "mmap/codes.mmap",
)
MOST_ITEMS = 20


def make_sets() -> None:
    """The same two recordings, of 2 x 4 and 1 x 3 frames, as files and array."""
    files = {}
    for name, streams, frames in (("a.npz", 2, 4), ("b.npy", 1, 3)):
        files[name] = code_file(np.arange(streams * 2 * frames).reshape(streams, 2, frames) % 5, SIZES)
    write_set(ROOT / "files", files)
    write_memory_map(ROOT / "files", ROOT / "mmap")


def check(folder: Path) -> None:
    """Read a set whole and in crops."""
    for frames in (None, 2):
        dataset = CodesDataset(folder, frames, padding=0)
        for i in itertools.islice(range(len(dataset)), MOST_ITEMS):
            codes = dataset[i].codes.numpy()
            assert codes.shape[0] == len(dataset.codebook_sizes), codes.shape
            assert ((codes >= 0) & (codes < np.array(dataset.codebook_sizes)[:, None])).all(), codes


def one_input(data: bytes) -> None:
    """Damage one file of a set, and read the set."""
    if not data:
        return
    path = ROOT / NAMES[data[0] % len(NAMES)]
    path.write_bytes(data[1:])
    try:
        check(path.parent)
        if path.name == "manifest.jsonl":
            update_manifest(path.parent, [])
    except DataError as error:
        check_line(error, path.parent)
    finally:
        path.write_bytes(ORIGINALS[path])


make_sets()
ORIGINALS = {ROOT / name: (ROOT / name).read_bytes() for name in NAMES}

if __name__ == "__main__":
    fuzz(one_input, (bytes([i]) + content for i, content in enumerate(ORIGINALS.values())), 12000)
