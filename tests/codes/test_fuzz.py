"""Readers of files of codes on files that nobody wrote: a DataError of one line, and little memory."""

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
from tests.codes.made import HASH, code_file
from tests.fuzzing import HUGE, damaged, fuzzed, read_or_refused

SIZES = (5, 20, 300)
CODES = np.random.default_rng(0).integers(0, 5, (2, 3, 20))
MODEL = EntropyModel.fit([CODES], SIZES)
FILE = code_file(CODES, SIZES)


def read_daec(path):
    return read_codes(path, MODEL)


SAMPLES = {
    "npz": (FORMATS["npz"].write(FILE, None), read_codes),
    "daec": (FORMATS["daec"].write(FILE, None), read_daec),
    "daec, entropy": (FORMATS["daec"].write(FILE, MODEL), read_daec),
    "npy": (FORMATS["npy"].write(FILE, None), read_npy),
}
PATH = Path("folder/x")
content_of = {}


@pytest.fixture(scope="module", autouse=True)
def _files_in_memory():
    # Writing the tens of thousands of files would take most of the time.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "Path", lambda path: SimpleNamespace(read_bytes=lambda: content_of[path]))
        yield


def read(content, reader):
    """The codes, or None where they are refused."""
    content_of[PATH] = bytes(content)
    found = read_or_refused(lambda: reader(PATH), PATH)
    return getattr(found, "codes", found)


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_truncation_is_refused(sample):
    content, reader = SAMPLES[sample]
    assert np.array_equal(read(content, reader), CODES)
    for kept in range(len(content)):
        assert read(content[:kept], reader) is None


@pytest.mark.parametrize("sample", ["npz", "daec, entropy"])
def test_every_flipped_bit_is_refused(sample):
    content, reader = SAMPLES[sample]
    data = CODES.astype(np.uint16).tobytes()
    start, stop = 0, len(content)
    if sample == "npz":  # of which only the members have checksums
        start = content.index(data)
        stop = start + len(data)
    for at in range(8 * start, 8 * stop):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        assert read(flipped, reader) is None


def repaired(content):
    """A .daec file with the length of its header, up to its brace, and the checksum set right."""
    length = content.find(b"}") + 1 - 9
    content = content[:5] + struct.pack("<I", max(length, 0)) + content[9:-4]
    return content + struct.pack("<I", zlib.crc32(content))


@fuzzed
@given(damaged([content for content, _ in SAMPLES.values()]), st.booleans())
def test_damaged_files_are_read_or_refused(content, is_repaired):
    if is_repaired and content[:4] == b"DAEC":
        content = repaired(content)
    for reader in (read_daec, read_daec_header, read_npy):
        codes = read(content, reader)
        assert not isinstance(codes, np.ndarray) or codes.min() >= 0


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
        optional={"entropy_model": st.just(MODEL.fingerprint), "gain_db": st.sampled_from([1, 1e300, "1"])},
    )


def peak_of(content, reader):
    tracemalloc.start()
    try:
        read(content, reader)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@settings(max_examples=100, deadline=None)
@given(st.data(), st.binary(max_size=200))
def test_claims_of_a_daec_header_take_no_memory(data, payload):
    header = json.dumps(data.draw(headers(len(payload)))).encode()
    content = b"DAEC\x01" + struct.pack("<I", len(header)) + header + payload
    content += struct.pack("<I", zlib.crc32(content))
    read(*SAMPLES["daec, entropy"])  # the tables of the model are made once
    for reader in (read_daec, read_daec_header):
        assert peak_of(content, reader) < 2_000_000


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["<u1", "<i8", "<f8", "<U64", "|O", "<U0", "|V9", "<u99", "<U999999999"]),
    st.lists(HUGE, max_size=4),
    st.binary(max_size=100),
)
def test_claims_of_an_array_header_take_no_memory(descr, shape, data):
    header = repr({"descr": descr, "fortran_order": False, "shape": tuple(shape)}).encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data
    assert peak_of(content, read_npy) < 2_000_000


def test_a_compressed_bomb_takes_no_memory():
    stream = io.BytesIO()
    np.savez_compressed(stream, codes=np.zeros((1, 1, 4_000_000), np.uint8))
    assert peak_of(stream.getvalue(), read_codes) < 1_000_000
