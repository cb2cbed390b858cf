"""Damaged files of codes, found by coverage (atheris): every reader returns codes or raises a DataError of one line.

    python tests/codes/fuzz_readers.py -runs=1000000 -seed=7         # by hand, with any of libFuzzer's options

`test_fuzz_harnesses.py` runs it briefly. Half of the inputs are given a true checksum, or nothing behind it would be
reached.
"""

import struct
import tempfile
import zlib
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["discrete_ae", "zipfile", "json"]):
    import numpy as np

    from discrete_ae.codes import container
    from discrete_ae.codes.entropy import EntropyModel
    from discrete_ae.errors import DataError
    from tests.codes.made import code_file

from tests.fuzzing import check_line, fuzz

SIZES = (5, 20, 300)
MODEL = EntropyModel.fit([np.arange(600).reshape(1, 3, 200) % 5], SIZES)
PATH = Path(tempfile.mkdtemp(prefix="fuzz_readers_")) / "x"
READERS = (
    lambda: container.read_codes(PATH, MODEL),
    lambda: container.read_codes(PATH),
    lambda: container.read_daec_header(PATH),
    lambda: container.read_npy(PATH),
)


def samples() -> list[bytes]:
    """A valid file of each format and coding."""
    found = []
    for codes, model in ((np.arange(60) % 5, None), (np.zeros(60, int), MODEL), (np.arange(60) // 12, MODEL)):
        file = code_file(codes.reshape(1, 3, 20), SIZES, gain_db=1.5, quantizer="Q")
        found += [format.write(file, model) for format in container.FORMATS.values()]
    return found


def one_input(data: bytes) -> None:
    """Write the file and read it in every way."""
    if data[:4] == b"DAEC" and len(data) > 4 and data[-1] % 2:
        data = data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))
    PATH.write_bytes(data)
    for reader in READERS:
        try:
            reader()
        except DataError as error:
            check_line(error, PATH)


if __name__ == "__main__":
    fuzz(one_input, samples(), 4096)
