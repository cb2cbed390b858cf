"""The `.daec` file against its description, byte by byte, and files of earlier versions."""

import io
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from discrete_ae.codes import (
    CodeFile,
    read_codes,
    read_daec,
    read_daec_header,
    read_npy,
    read_npz,
    write_codes,
    write_daec,
    write_npy,
    write_npz,
)
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.errors import DataError

HASH = "0123456789abcdef" * 4
GOLDEN = Path(__file__).parents[1] / "golden"
GOLDEN_SIZES = (8, 32, 64)
GOLDEN_RADIX_SIZES = (5, 20, 20)


def golden_codes(sizes=GOLDEN_SIZES) -> np.ndarray:
    """(2, 3, 40): code of stream s, codebook k and frame t is (7 k + 3 t + s) mod size."""
    s, k, t = np.ogrid[:2, :3, :40]
    return (7 * k + 3 * t + s) % np.array(sizes)[:, None]


def golden_file(sizes=GOLDEN_SIZES) -> CodeFile:
    return CodeFile(golden_codes(sizes), 44100, 35280, 16000, sizes, HASH)


def crc(content):
    return content + struct.pack("<I", zlib.crc32(content))


def to_bytes(file, model=None):
    stream = io.BytesIO()
    write_daec(file, stream, model)
    return stream.getvalue()


def fields_of(file):
    names = ("sample_rate", "num_samples", "model_sample_rate", "codebook_sizes", "model_hash", "gain_db", "quantizer")
    return {name: getattr(file, name) for name in names}


def test_bytes_are_as_described():
    codes = np.array([[[1, 2, 3, 0]]])
    written = to_bytes(CodeFile(codes, 8000, 1280, 16000, (4,), HASH, -6.5, "Ternär"))
    header = {
        "model": HASH,
        "quantizer": "Ternär",
        "coding": "packed",
        "sample_rate": 8000,
        "model_sample_rate": 16000,
        "samples": 1280,
        "streams": 1,
        "frames": 4,
        "payload": 1,
        "codebooks": [[4, 1]],
        "gain_db": -6.5,
    }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    assert written == crc(b"DAEC\x01" + struct.pack("<I", len(text)) + text + bytes([0b00_11_10_01]))


@pytest.mark.parametrize("format", ["npz", "daec"])
@pytest.mark.parametrize("gain_db", [0.0, -3.25])
def test_round_trip_of_every_field(tmp_path, format, gain_db):
    file = replace(golden_file(), gain_db=gain_db, quantizer="ScalarQuantizer")
    write_codes(file, tmp_path / "x", format)
    found = read_codes(tmp_path / "x")
    assert np.array_equal(found.codes, file.codes)
    assert fields_of(found) == fields_of(file)


def test_smallest_coding_is_taken(tmp_path):
    random = np.random.default_rng(0)
    frames = 2000
    steady = np.repeat(random.integers(0, 64, (1, 1, frames // 20)), 20, 2)
    biased = np.minimum(random.geometric(0.5, (1, 1, frames)), 63)
    model = EntropyModel.fit([steady, biased], (64,))
    expected = [
        (random.integers(0, 64, (1, 1, frames)), 64, None, "packed"),
        (random.integers(0, 5, (1, 1, frames)), 5, None, "radix"),
        (steady, 64, model, "context"),
        (random.integers(0, 64, (1, 1, frames)), 64, model, "packed"),
    ]
    for codes, size, entropy_model, coding in expected:
        file = CodeFile(codes, 16000, frames * 320, 16000, (size,), HASH)
        write_daec(file, tmp_path / "x.daec", entropy_model)
        header = read_daec_header(tmp_path / "x.daec")
        assert header.coding == coding
        assert header.entropy_model == (model.fingerprint if coding == "context" else "")
        assert (header.num_frames, header.codebook_sizes, header.duration_s) == (frames, (size,), frames / 50)
        assert header.bits_per_frame == file.bits_per_frame
        assert np.array_equal(read_codes(tmp_path / "x.daec", entropy_model).codes, codes)
    independent = EntropyModel.fit([biased], (64,))
    write_daec(replace(file, codes=biased), tmp_path / "x.daec", independent)
    assert read_daec_header(tmp_path / "x.daec").coding == "order0"


def test_entropy_coded_file_wants_its_model(tmp_path):
    codes = np.zeros((1, 3, 40), int)
    model = EntropyModel.fit([codes], GOLDEN_SIZES)
    write_daec(replace(golden_file(), codes=codes), tmp_path / "x.daec", model)
    for other in (None, EntropyModel.fit([golden_codes()], GOLDEN_SIZES)):
        with pytest.raises(
            DataError, match=rf"x\.daec: needs the entropy model {model.fingerprint} of the .* give the"
        ):
            read_codes(tmp_path / "x.daec", other)
    with pytest.raises(ValueError, match="one of codebooks of 8, 32, 64 entries, got one of 4"):
        write_daec(golden_file(), tmp_path / "x.daec", EntropyModel.fit([], (4,)))


def test_fewer_codebooks_than_the_entropy_models(tmp_path):
    model = EntropyModel.fit([np.zeros((1, 3, 40), int)], GOLDEN_SIZES)
    file = CodeFile(np.zeros((2, 2, 600), int), 8000, 8000, 8000, GOLDEN_SIZES[:2], HASH)
    write_daec(file, tmp_path / "x.daec", model)
    assert read_daec_header(tmp_path / "x.daec").coding in ("order0", "context")
    assert np.array_equal(read_daec(tmp_path / "x.daec", model).codes, file.codes)


def test_codebooks_too_large_for_the_entropy_model(tmp_path):
    file = CodeFile(np.array([[[0, 2**40]]]), 8000, 640, 8000, (2**41,), HASH)
    write_daec(file, tmp_path / "x.daec", EntropyModel.fit([], (2**41,)))
    assert np.array_equal(read_codes(tmp_path / "x.daec").codes, file.codes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "abc"}, "64 hexadecimal digits"),
        ({"model": 3}, "model: expected a text"),
        ({"samples": 0}, "num_samples: expected at least 1"),
        ({"samples": True}, "samples: expected an integer, got True"),
        ({"samples": 2**63}, "samples: expected a number below"),
        ({"sample_rate": None}, "sample_rate: expected an integer"),
        ({"frames": 2**50}, "cannot hold"),
        ({"frames": 0}, "at least one stream"),
        ({"frames": 41}, "payload: expected"),
        ({"streams": -1}, "at least one stream"),
        ({"codebooks": []}, "at least one stream, codebook"),
        ({"codebooks": [[5, 10**12]]}, "expected at most 1024 of them"),
        ({"codebooks": [[5, 1000], [6, 25]]}, "expected at most 1024 of them, got 1025"),
        ({"sample_rate": 2**31 - 1}, "sample_rate: expected whole Hz from 100 to 768000"),
        ({"model_sample_rate": 99}, "model_sample_rate: expected whole Hz"),
        ({"codebooks": [[1, 3]]}, "at least 2 entries"),
        ({"codebooks": 5}, "pairs of positive numbers"),
        ({"gain_db": 201}, "gain_db: expected -200 to 200"),
        ({"gain_db": "loud"}, "gain_db: expected a number"),
        ({"quantizer": "x" * 101}, "at most 100"),
        ({"quantizer": "a\nb"}, "printable"),
        ({"coding": "zip"}, "coding: expected one of"),
        ({"coding": "order0"}, "16 hexadecimal digits"),
        ({"entropy_model": "0" * 16}, "otherwise nothing"),
        ({"payload": 3}, "where its header says 3"),
        ({"more": 1}, "unknown entry 'more'"),
        ({"streams": ...}, "its header lacks num_streams"),
    ],
)
def test_header_that_cannot_be_is_refused(tmp_path, change, message):
    written = to_bytes(golden_file())
    (length,) = struct.unpack("<I", written[5:9])
    header = {key: value for key, value in (json.loads(written[9 : 9 + length]) | change).items() if value is not ...}
    text = json.dumps(header).encode()
    changed = b"DAEC\x01" + struct.pack("<I", len(text)) + text + written[9 + length : -4]
    (tmp_path / "x.daec").write_bytes(crc(changed))
    with pytest.raises(DataError, match=message) as caught:
        read_codes(tmp_path / "x.daec")
    assert str(caught.value).startswith(f"{tmp_path / 'x.daec'}: not a valid file of codes: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged, or not a file of codes; give a .npz or .daec"),
        (b"RIFF", "damaged, or not a file of codes"),
        (b"DAEC", "damaged, or cut off; copy it again"),
        (crc(b"DAEC\x02\0\0\0\0"), "has format version 2, this program reads 1; update"),
        (crc(b"DAEC\x01\xff\xff\xff\xff"), "damaged, or cut off"),
        (crc(b"DAEC\x01\x01\0\0\0["), "its header is no JSON"),
        (crc(b"DAEC\x01\x02\0\0\0[]"), "no JSON object"),
        (crc(b"DAEC\x01\x0b\0\0\0" + b'{"a": NaN} '), "its header is no JSON"),
        (crc(b"DAEC\x01" + struct.pack("<I", 50000) + b"[" * 50000), "its header is no JSON"),
    ],
)
def test_other_content_is_refused(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_codes(tmp_path / "x")


def test_bare_codes(tmp_path):
    write_npy(golden_file(), tmp_path / "x.npy")
    found = np.load(tmp_path / "x.npy", allow_pickle=False)
    assert found.dtype == np.uint8
    assert np.array_equal(found, golden_codes())
    assert np.array_equal(read_npy(tmp_path / "x.npy"), golden_codes())
    np.save(tmp_path / "one.npy", np.asfortranarray(golden_codes()[1].astype(">i4")))
    assert np.array_equal(read_npy(tmp_path / "one.npy"), golden_codes()[1:])
    with pytest.raises(DataError, match=r"x\.npy: holds bare codes, but neither sample rate nor length"):
        read_codes(tmp_path / "x.npy")
    for wrong in (np.zeros((1, 1, 2)), np.zeros(3, int), np.full((1, 1, 1), -1), np.zeros((1, 0, 1), int)):
        np.save(tmp_path / "wrong.npy", wrong)
        with pytest.raises(DataError, match=r"wrong\.npy: expected integers of at least 0 of shape"):
            read_npy(tmp_path / "wrong.npy")


def test_format_must_be_known(tmp_path):
    with pytest.raises(ValueError, match="format: expected one of npz, daec, npy, got 'zip'"):
        write_codes(golden_file(), tmp_path / "x", "zip")


GOLDEN_FILES = {
    "codes_v1.npz": GOLDEN_SIZES,
    "codes_v1.daec": GOLDEN_SIZES,
    "codes_radix_v1.daec": GOLDEN_RADIX_SIZES,
    "codes_order0_v1.daec": GOLDEN_SIZES,
    "codes_context_v1.daec": GOLDEN_SIZES,
}


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_golden_files_are_read_to_the_same_integers(name):
    with np.load(GOLDEN / "entropy_v1.npz", allow_pickle=False) as arrays:
        model = EntropyModel.from_arrays(dict(arrays))
    found = read_codes(GOLDEN / name, model)
    expected = golden_file(GOLDEN_FILES[name])
    assert np.array_equal(found.codes, expected.codes)
    assert fields_of(found) == fields_of(expected)
    assert (GOLDEN / name).stat().st_size < 4096


def test_golden_files_are_of_every_coding():
    found = {read_daec_header(GOLDEN / name).coding for name in GOLDEN_FILES if name.endswith(".daec")}
    assert found == {"packed", "radix", "order0", "context"}


def test_version_1_is_still_written_without_gain():
    stream = io.BytesIO()
    write_npz(golden_file(), stream)
    assert stream.getvalue() == (GOLDEN / "codes_v1.npz").read_bytes()


def test_gain_makes_version_2(tmp_path):
    write_npz(replace(golden_file(), gain_db=2.5), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert (arrays["format_version"].item(), arrays["gain_db"].item()) == (2, 2.5)
    assert read_npz(tmp_path / "x.npz").gain_db == 2.5
    for wrong in (201.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="gain_db: expected -200 to 200 dB"):
            replace(golden_file(), gain_db=wrong)


def test_more_codebooks_than_a_daec_file_has_are_refused(tmp_path):
    for count in (1024, 1025):
        file = CodeFile(np.zeros((1, count, 1), np.uint8), 8000, 1, 8000, (2,) * count, HASH)
        if count == 1024:
            write_daec(file, tmp_path / "x.daec")
            assert np.array_equal(read_daec(tmp_path / "x.daec").codes, file.codes)
        else:
            with pytest.raises(DataError, match=r"1025 codebooks, a \.daec file has at most 1024; write \.npz"):
                write_daec(file, tmp_path / "y.daec")
