"""Files of codes against numpy and their descriptions, files of earlier versions, and how such a file can be wrong."""

import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from discrete_ae.codes import CodeFile, EntropyModel, read_codes, read_daec_header, read_npy, write_codes
from discrete_ae.codes.code_file import codes_dtype
from discrete_ae.codes.container import FORMATS
from discrete_ae.errors import DataError
from tests.codes.made import HASH, code_file

GOLDEN = Path(__file__).parents[1] / "golden"
GOLDEN_SIZES = (8, 32, 64)
GOLDEN_RADIX_SIZES = (5, 20, 20)


def golden_codes(sizes=GOLDEN_SIZES) -> np.ndarray:
    """(2, 3, 40): code of stream s, codebook k and frame t is (7 k + 3 t + s) mod size."""
    s, k, t = np.ogrid[:2, :3, :40]
    return (7 * k + 3 * t + s) % np.array(sizes)[:, None]


def golden_file(sizes=GOLDEN_SIZES, **said) -> CodeFile:
    return code_file(golden_codes(sizes), sizes, **{"sample_rate": 44100, "num_samples": 35280, **said})


def crc(content):
    return content + struct.pack("<I", zlib.crc32(content))


def to_bytes(file, format, model=None):
    return FORMATS[format].write(file, model)


def save(path, file, without=(), **changes):
    """Write the arrays of `file` by numpy's own means, some of them changed or left out."""
    arrays = {"format_version": 1, **file.info, "codes": file.codes.astype(np.uint16)} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if name not in without})
    return path


def assert_equal(found, file):
    assert np.array_equal(found.codes, file.codes)
    assert found.info == file.info


def test_numpy_opens_what_is_written(tmp_path):
    file = golden_file((8, 32, 300))
    write_codes(file, tmp_path / "x.npz", "npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as opened:
        assert opened["codes"].dtype == np.uint16  # the largest codebook has 300 entries
        assert np.array_equal(opened["codes"], file.codes)
        assert {name: opened[name].tolist() for name in opened.files if name != "codes"} == {
            "format_version": 1,
            "sample_rate": 44100,
            "num_samples": 35280,
            "model_sample_rate": 16000,
            "codebook_sizes": [8, 32, 300],
            "model_hash": HASH,
        }


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32"), (2**32 + 1, "uint64")],
)
def test_codes_take_the_smallest_type(tmp_path, size, dtype):
    assert codes_dtype((2, size)) == dtype
    write_codes(code_file([[[0, size - 1]]], (size,)), tmp_path / "x.npy", "npy")
    codes = np.load(tmp_path / "x.npy", allow_pickle=False)
    assert (codes.dtype, codes.tolist()) == (dtype, [[[0, size - 1]]])


def test_length_at_the_models_rate_is_rounded_up():
    # 441 samples at 44.1 kHz are 10 ms, exactly 160 at 16 kHz; a further one begins the 161st.
    lengths = [golden_file(num_samples=n).num_model_samples for n in (1, 2, 3, 441, 442)]
    assert lengths == [1, 1, 2, 160, 161]


def test_bytes_of_a_daec_are_as_described():
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
    expected = crc(b"DAEC\x01" + struct.pack("<I", len(text)) + text + bytes([0b00_11_10_01]))
    said = {"sample_rate": 8000, "num_samples": 1280, "gain_db": -6.5, "quantizer": "Ternär"}
    assert to_bytes(code_file([[[1, 2, 3, 0]]], (4,), **said), "daec") == expected


@pytest.mark.parametrize("format", ["npz", "daec"])
@pytest.mark.parametrize("gain_db", [0.0, -3.25])
def test_round_trip_of_every_field(tmp_path, format, gain_db):
    file = golden_file(gain_db=gain_db, quantizer="ScalarQuantizer")
    write_codes(file, tmp_path / "x", format)
    assert_equal(read_codes(tmp_path / "x"), file)


def test_smallest_coding_is_taken(tmp_path):
    random = np.random.default_rng(0)
    frames = 2000
    steady = np.repeat(random.integers(0, 64, (1, 1, frames // 20)), 20, 2)
    biased = np.minimum(random.geometric(0.5, (1, 1, frames)), 63)
    model, independent = EntropyModel.fit([steady, biased], (64,)), EntropyModel.fit([biased], (64,))
    expected = [
        (random.integers(0, 64, (1, 1, frames)), 64, None, "packed"),
        (random.integers(0, 5, (1, 1, frames)), 5, None, "radix"),
        (steady, 64, model, "context"),
        (biased, 64, independent, "order0"),
        (random.integers(0, 64, (1, 1, frames)), 64, model, "packed"),
    ]
    for codes, size, entropy_model, coding in expected:
        write_codes(code_file(codes, (size,)), tmp_path / "x.daec", "daec", entropy_model)
        header = read_daec_header(tmp_path / "x.daec")
        coded = entropy_model is not None and coding in ("order0", "context")
        assert (header.coding, header.entropy_model) == (coding, entropy_model.fingerprint if coded else "")
        assert (header.frames, header.codebook_sizes, header.duration_s) == (frames, (size,), frames / 50)
        assert np.array_equal(read_codes(tmp_path / "x.daec", entropy_model).codes, codes)


def test_entropy_coded_file_wants_its_model(tmp_path):
    model = EntropyModel.fit([np.zeros((1, 3, 40), int)], GOLDEN_SIZES)
    # Fewer codebooks than the model has: the first two.
    file = code_file(np.zeros((2, 2, 600), int), GOLDEN_SIZES[:2])
    write_codes(file, tmp_path / "x.daec", "daec", model)
    assert read_daec_header(tmp_path / "x.daec").coding in ("order0", "context")
    assert np.array_equal(read_codes(tmp_path / "x.daec", model).codes, file.codes)
    for other in (None, EntropyModel.fit([golden_codes()], GOLDEN_SIZES)):
        with pytest.raises(DataError, match=rf"x\.daec: needs the entropy model {model.fingerprint}"):
            read_codes(tmp_path / "x.daec", other)
    with pytest.raises(ValueError, match=r"3 of 8, 32, 64 entries\), got one for 1 of 4"):
        write_codes(golden_file(), tmp_path / "x.daec", "daec", EntropyModel.fit([], (4,)))


def test_codebooks_that_a_daec_file_cannot_have_coded_or_at_all(tmp_path):
    large = code_file([[[0, 2**40]]], (2**41,))  # too large for the entropy model
    write_codes(large, tmp_path / "x.daec", "daec", EntropyModel.fit([], (2**41,)))
    assert np.array_equal(read_codes(tmp_path / "x.daec").codes, large.codes)
    most, more = (code_file(np.zeros((1, n, 1), np.uint8), (2,) * n) for n in (1024, 1025))
    write_codes(most, tmp_path / "x.daec", "daec")
    assert np.array_equal(read_codes(tmp_path / "x.daec").codes, most.codes)
    with pytest.raises(DataError, match="at most 1024; write"):
        write_codes(more, tmp_path / "y.daec", "daec")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"codes": np.full((2, 3, 5), 8)}, "in codebook 0, got values from 8 to 8"),
        ({"codes": np.full((2, 3, 5), -1)}, "got values from -1 to -1"),
        ({"codes": np.zeros((3, 5), int)}, r"of shape \(3, 5\)"),
        ({"codes": np.zeros((2, 3, 5))}, "float64"),
        ({"codes": np.zeros((2, 1, 5), int)}, "expected 3 codebooks, got 1"),
        ({"codebook_sizes": (8, 32, 1)}, "codebook_sizes.2"),
        ({"codebook_sizes": (8.0, 32.0, 64.0)}, "codebook_sizes.0"),
        ({"sample_rate": 99}, "sample_rate"),
        ({"num_samples": 0}, "num_samples"),
        ({"num_samples": True}, "num_samples"),
        ({"model_hash": HASH[1:]}, "model_hash"),
        ({"gain_db": 201.0}, "gain_db"),
        ({"gain_db": float("nan")}, "gain_db"),
        ({"quantizer": "x" * 101}, "quantizer"),
        ({"quantizer": "a\nb"}, "printable"),
    ],
)
def test_what_no_file_can_say_is_refused(tmp_path, changes, named):
    with pytest.raises(ValueError, match=named) as caught:
        CodeFile.of({**vars(golden_file()), **changes})
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=rf"x\.npz: not a valid file of codes: .*{named}"):
        read_codes(save(tmp_path / "x.npz", golden_file(), **changes))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sample_rate": None}, "sample_rate"),
        ({"frames": 2**50}, "cannot hold"),
        ({"frames": 41}, "payload: expected"),
        ({"streams": ...}, "streams"),
        ({"codebooks": []}, "codebook_sizes"),
        ({"codebooks": [[5, 10**12]]}, "expected at most 1024 of them"),
        ({"codebooks": [[1, 3]]}, "codebook_sizes"),
        ({"coding": "zip"}, "coding"),
        ({"coding": "order0"}, "entropy_model"),
        ({"payload": 3}, "where its header says 3"),
        ({"more": 1}, "unknown entry 'more'"),
    ],
)
def test_header_that_cannot_be_is_refused(tmp_path, change, named):
    written = to_bytes(golden_file(), "daec")
    (length,) = struct.unpack("<I", written[5:9])
    header = {key: value for key, value in (json.loads(written[9 : 9 + length]) | change).items() if value is not ...}
    text = json.dumps(header).encode()
    changed = b"DAEC\x01" + struct.pack("<I", len(text)) + text + written[9 + length : -4]
    (tmp_path / "x.daec").write_bytes(crc(changed))
    with pytest.raises(DataError, match=rf"x\.daec: not a valid file of codes: .*{named}"):
        read_codes(tmp_path / "x.daec")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "not a file of codes"),
        (b"DAEC", "cut off"),
        (crc(b"DAEC\x02\0\0\0\0"), "has format version 2, this program reads 1; update"),
        (crc(b"DAEC\x01\xff\xff\xff\xff"), "not JSON"),
        (crc(b"DAEC\x01" + struct.pack("<I", 50000) + b"[" * 50000), "not JSON"),
        (to_bytes(golden_file(), "npz")[:-1], "damaged"),
        (to_bytes(golden_file(), "npy"), "holds bare codes, but neither sample rate nor length"),
    ],
)
def test_other_content_is_refused(tmp_path, content, named):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=named):
        read_codes(tmp_path / "x")


def test_foreign_zips_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("codes.npy", "no array")
    np.savez(tmp_path / "pickle.npz", codes=np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    save(tmp_path / "bare.npz", golden_file(), without=["model_hash"])
    save(tmp_path / "later.npz", golden_file(), format_version=3)
    save(tmp_path / "odd.npz", golden_file(), format_version=np.array([1]))
    for name, words in (
        ("zip", "damaged, or not"),
        ("pickle", "damaged, or not"),
        ("other", "codes missing"),
        ("bare", "model_hash"),
        ("later", "has format version 3, this program reads 1 to 2; update"),
        ("odd", "has format version"),
    ):
        with pytest.raises(DataError, match=rf"{name}\.npz: .*{words}"):
            read_codes(tmp_path / f"{name}.npz")


def test_bare_codes(tmp_path):
    np.save(tmp_path / "one.npy", np.asfortranarray(golden_codes()[1].astype(">i4")))
    assert np.array_equal(read_npy(tmp_path / "one.npy"), golden_codes()[1:])
    for wrong in (np.zeros((1, 1, 2)), np.zeros(3, int), np.full((1, 1, 1), -1), np.zeros((1, 0, 1), int)):
        np.save(tmp_path / "wrong.npy", wrong)
        with pytest.raises(DataError, match=r"wrong\.npy: .*expected"):
            read_npy(tmp_path / "wrong.npy")


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
    assert_equal(read_codes(GOLDEN / name, model), golden_file(GOLDEN_FILES[name]))
    assert (GOLDEN / name).stat().st_size < 4096


def test_golden_files_are_of_every_coding():
    found = {read_daec_header(GOLDEN / name).coding for name in GOLDEN_FILES if name.endswith(".daec")}
    assert found == {"packed", "radix", "order0", "context"}


def test_equal_codes_are_the_bytes_of_version_1(tmp_path):
    other_type = CodeFile.of({**vars(golden_file()), "codes": golden_codes().astype(np.int16)})
    assert to_bytes(other_type, "npz") == (GOLDEN / "codes_v1.npz").read_bytes()
    assert to_bytes(golden_file(GOLDEN_RADIX_SIZES), "daec") == (GOLDEN / "codes_radix_v1.daec").read_bytes()
    write_codes(golden_file(gain_db=2.5), tmp_path / "x.npz", "npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert (arrays["format_version"].item(), arrays["gain_db"].item()) == (2, 2.5)
