"""Readers of files of codes on files that nobody wrote: a DataError of one line, and little memory.

The seed of the coverage-guided part is FUZZ_SEED.
"""

import io
import json
import struct
import tracemalloc
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discrete_ae.codes import container
from discrete_ae.codes.container import FORMATS, read_codes, read_daec_header, read_npy
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.errors import DataError
from tests.codes.made import HASH, code_file

SIZES = (5, 20, 300)
CODES = np.random.default_rng(0).integers(0, 5, (2, 3, 20))
MODEL = EntropyModel.fit([CODES], SIZES)
FILE = code_file(CODES, SIZES)


SAMPLES = {
    "npz": FORMATS["npz"].write(FILE, None),
    "daec": FORMATS["daec"].write(FILE, None),
    "daec, entropy": FORMATS["daec"].write(FILE, MODEL),
    "npy": FORMATS["npy"].write(FILE, None),
}
READERS = {"npz": read_codes, "daec": lambda path: read_codes(path, MODEL), "npy": read_npy}


PATH = Path("folder/x")
content_of = {}


@pytest.fixture(scope="module", autouse=True)
def _files_in_memory():
    # Writing the tens of thousands of files would take most of the time.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "Path", lambda path: SimpleNamespace(read_bytes=lambda: content_of[path]))
        yield


def read(content, reader):
    """The codes; where they are refused, None, after a look at the message."""
    content_of[PATH] = content
    try:
        found = reader(PATH)
    except DataError as error:
        message = str(error)
    else:
        return getattr(found, "codes", found)
    assert message.startswith(f"{PATH}: ")
    assert "\n" not in message
    return None


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_truncation_is_refused(sample):
    reader = READERS[sample.split(",")[0]]
    assert np.array_equal(read(SAMPLES[sample], reader), CODES)
    for kept in range(len(SAMPLES[sample])):
        assert read(SAMPLES[sample][:kept], reader) is None


@pytest.mark.parametrize("sample", ["daec", "daec, entropy"])
def test_every_flipped_bit_is_refused(sample):
    for at in range(8 * len(SAMPLES[sample])):
        content = bytearray(SAMPLES[sample])
        content[at // 8] ^= 1 << at % 8
        assert read(bytes(content), READERS["daec"]) is None
        assert read(bytes(content), read_daec_header) is None


def test_flipped_bits_of_zipped_codes_are_refused():
    data = CODES.astype(np.uint16).tobytes()
    start = SAMPLES["npz"].index(data)
    for at in range(8 * len(data)):
        content = bytearray(SAMPLES["npz"])
        content[start + at // 8] ^= 1 << at % 8
        assert read(bytes(content), read_codes) is None


HUGE = st.sampled_from([1, 2, 3, 20, 300, 2**16, 2**31, 2**40, 2**62, 2**63, 10**30])


def headers(payload):
    return st.fixed_dictionaries(
        {
            "model": st.just(HASH),
            "sample_rate": st.just(8000),
            "model_sample_rate": st.just(8000),
            "samples": HUGE,
            "streams": HUGE,
            "frames": HUGE,
            "codebooks": st.lists(st.tuples(HUGE, HUGE), max_size=3) | st.just([(5, 1), (20, 1), (300, 1)]),
            "coding": st.sampled_from(["packed", "radix", "order0", "context"]),
            "payload": st.just(payload),
        },
        optional={
            "entropy_model": st.just(MODEL.fingerprint),
            "gain_db": st.sampled_from([1, 1e300, "1"]),
            "more": HUGE,
        },
    )


def peak_of(content, reader):
    tracemalloc.start()
    try:
        found = read(content, reader)
        return tracemalloc.get_traced_memory()[1], found
    finally:
        tracemalloc.stop()


@settings(max_examples=150, deadline=None)
@given(st.data(), st.binary(max_size=200))
def test_claims_of_a_daec_header_take_no_memory(data, payload):
    header = json.dumps(data.draw(headers(len(payload)))).encode()
    content = b"DAEC\x01" + struct.pack("<I", len(header)) + header + payload
    content += struct.pack("<I", zlib.crc32(content))
    read(SAMPLES["daec, entropy"], READERS["daec"])  # the tables of the model are made once
    for reader in (READERS["daec"], read_codes, read_daec_header):
        assert peak_of(content, reader)[0] < 2_000_000


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["<u1", "<i8", "<f8", "<U64", "|O", "<U0", "|V9", "<u99", "<U999999999"]),
    st.lists(HUGE, max_size=4),
    st.binary(max_size=100),
)
def test_claims_of_an_array_header_take_no_memory(descr, shape, data):
    header = repr({"descr": descr, "fortran_order": False, "shape": tuple(shape)}).encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data
    peak, _ = peak_of(content, read_npy)
    assert peak < 2_000_000


def test_nothing_is_unpickled():
    stream = io.BytesIO()
    np.save(stream, np.array([[[1]]], dtype=object), allow_pickle=True)
    assert read(stream.getvalue(), read_npy) is None


@pytest.mark.parametrize("savez", [np.savez, np.savez_compressed])
def test_a_compressed_bomb_takes_no_memory(savez):
    stream = io.BytesIO()
    savez(stream, codes=np.zeros((1, 1, 4_000_000), np.uint8))
    peak, found = peak_of(stream.getvalue(), read_codes)
    assert found is None
    assert peak < 4 * len(stream.getvalue()) + 1_000_000
