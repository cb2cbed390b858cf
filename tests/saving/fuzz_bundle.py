"""Damaged bundles, found by coverage (atheris): `load` returns a model or raises a DataError of one line.

    python tests/saving/fuzz_bundle.py -runs=100000 -seed=7           # by hand, with any of libFuzzer's options

One file of a valid bundle is replaced at a time; the input's first byte says which. `test_fuzz_harnesses.py`
runs it briefly.
"""

import shutil
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["discrete_ae", "json"]):
    from discrete_ae.build import load
    from discrete_ae.errors import DataError
    from discrete_ae.saving.bundle import CONFIG, ENTROPY, TENSORS

from tests.fuzzing import check_line, fuzz

VALID = Path(__file__).parents[1] / "golden" / "bundle_v1"
FILES = (CONFIG, TENSORS, ENTROPY)
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz_bundle_"))
BUNDLE = FOLDER / "bundle"
HASH = load(VALID).model_hash


def one_input(data: bytes) -> None:
    """Replace a file, load, and put it back."""
    if not data:
        return
    name = FILES[data[0] % len(FILES)]
    (BUNDLE / name).write_bytes(data[1:])
    try:
        found = load(BUNDLE)
        # What no part of the model depends on, such as the licence, may differ.
        assert found.model_hash == HASH
    except DataError as error:
        check_line(error, BUNDLE)
    finally:
        shutil.copyfile(VALID / name, BUNDLE / name)


if __name__ == "__main__":
    shutil.copytree(VALID, BUNDLE)
    fuzz(one_input, (bytes([i]) + (VALID / name).read_bytes() for i, name in enumerate(FILES)), 16384)
