"""Damaged codes, found by coverage (atheris): they are read, or are met with a DataError of one line.

    python tests/codes/fuzz_codes.py -runs=1000000 -seed=7           # by hand, with any of libFuzzer's options

`test_fuzz_harnesses.py` runs it briefly. The first byte of an input says what is damaged: a file of a set of codes, or
a file of codes alone. Half of the .daec files are given a true checksum, or nothing behind it would be reached.
"""

import struct
import tempfile
import zlib
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["discrete_ae", "zipfile", "json"]):
    import numpy as np

    from discrete_ae.codes import container
    from discrete_ae.codes.dataset import CodesDataset
    from discrete_ae.codes.entropy import EntropyModel
    from discrete_ae.codes.manifest import update_manifest
    from discrete_ae.codes.shards import write_memory_map
    from discrete_ae.errors import DataError
    from tests.codes.made import code_file, write_set

from tests.fuzzing import check_line, fuzz

SIZES = (5, 20, 300)
MODEL = EntropyModel.fit([np.arange(600).reshape(1, 3, 200) % 5], SIZES)
ROOT = Path(tempfile.mkdtemp(prefix="fuzz_codes_"))
ALONE = ROOT / "x"
SET = [ROOT / name for name in ("files/manifest.jsonl", "mmap/index.json", "mmap/recordings.jsonl", "mmap/codes.mmap")]


def check_set(folder: Path) -> None:
    """Read a set whole and in crops."""
    for frames in (None, 2):
        dataset = CodesDataset(folder, frames, padding=0)
        for i in range(min(len(dataset), 20)):
            codes = dataset[i].codes.numpy()
            assert ((codes >= 0) & (codes < np.array(dataset.codebook_sizes)[:, None])).all(), codes
    if folder.name == "files":
        update_manifest(folder, [])


def one_input(data: bytes) -> None:
    """Damage a file, and read it in every way."""
    which, content = (data or b"\0")[0] % 5, data[1:]
    if which < len(SET):
        path = SET[which]
        readers = [lambda: check_set(path.parent)]
    else:
        path = ALONE
        if content[:4] == b"DAEC" and len(content) > 4 and content[-1] % 2:
            content = content[:-4] + struct.pack("<I", zlib.crc32(content[:-4]))
        readers = [
            lambda: container.read_codes(ALONE, MODEL),
            lambda: container.read_daec_header(ALONE),
            lambda: container.read_npy(ALONE),
        ]
    path.write_bytes(content)
    for reader in readers:
        try:
            reader()
        except DataError as error:
            check_line(error, path.parent)
        except OSError as error:  # of a file that a manifest names and that is not there
            if not str(error.filename).startswith(str(path.parent)):
                raise
    if which < len(SET):
        path.write_bytes(VALID[which])


def make_valid() -> list[bytes]:
    """Two recordings, of 2 x 4 and 1 x 3 frames, as files and as an array; then a file of each format and coding."""
    files = {
        name: code_file(np.arange(streams * 3 * frames).reshape(streams, 3, frames) % 5, SIZES)
        for name, streams, frames in (("a.npz", 2, 4), ("b.npy", 1, 3))
    }
    write_set(ROOT / "files", files)
    write_memory_map(ROOT / "files", ROOT / "mmap")
    found = [path.read_bytes() for path in SET]
    for codes, model in ((np.arange(60) % 5, None), (np.zeros(60, int), MODEL), (np.arange(60) // 12, MODEL)):
        file = code_file(codes.reshape(1, 3, 20), SIZES, gain_db=1.5, quantizer="Q")
        found += [format.write(file, model) for format in container.FORMATS.values()]
    return found


VALID = make_valid()

if __name__ == "__main__":
    fuzz(one_input, (bytes([min(i, len(SET))]) + content for i, content in enumerate(VALID)), 12000)
