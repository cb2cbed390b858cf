"""Files of codes against numpy and their descriptions, files of earlier versions, and how such a file can be wrong."""

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from discrete_ae.codes import CodeFile, EntropyModel, read_codes, read_daec_header, read_npy, write_codes
from discrete_ae.codes.container import FORMATS
from tests.codes.made import HASH, assert_refused, code_file

GOLDEN = Path(__file__).parents[1] / "golden"
GOLDEN_SIZES = (8, 32, 64)
GOLDEN_RADIX_SIZES = (5, 20, 20)


def golden_codes(sizes=GOLDEN_SIZES) -> np.ndarray:
    """(2, 3, 40): code of stream s, codebook k and frame t is (7 k + 3 t + s) mod size."""
    s, k, t = np.ogrid[:2, :3, :40]
    return (7 * k + 3 * t + s) % np.array(sizes)[:, None]


def golden_file(sizes=GOLDEN_SIZES, **said) -> CodeFile:
    return code_file(golden_codes(sizes), sizes, **{"sample_rate": 44100, "num_samples": 35280, **said})


def to_bytes(file, format, model=None):
    return FORMATS[format].write(file, model)


def daec(header, payload=b""):
    """A .daec file with any header."""
    content = b"DAEC\x01" + struct.pack("<I", len(header)) + header + payload
    return content + struct.pack("<I", zlib.crc32(content))


def npz(without=(), **changes):
    """The arrays of a file by numpy's own means, some of them changed or left out."""
    file, stream = golden_file(), io.BytesIO()
    arrays = {"format_version": 1, **file.info, "codes": file.codes.astype(np.uint16)} | changes
    np.savez(stream, **{name: value for name, value in arrays.items() if name not in without})
    return stream.getvalue()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.codes"


def test_numpy_opens_what_is_written(path):
    file = golden_file((8, 32, 300))
    write_codes(file, path, "npz")
    with np.load(path, allow_pickle=False) as opened:
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
    for size, dtype in ((256, "uint8"), (65537, "uint32"), (2**32 + 1, "uint64")):
        codes = np.load(io.BytesIO(to_bytes(code_file([[[0, size - 1]]], (size,)), "npy")), allow_pickle=False)
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
    said = {"sample_rate": 8000, "num_samples": 1280, "gain_db": -6.5, "quantizer": "Ternär"}
    assert to_bytes(code_file([[[1, 2, 3, 0]]], (4,), **said), "daec") == daec(text, bytes([0b00_11_10_01]))


@pytest.mark.parametrize("format", ["npz", "daec"])
def test_round_trip_of_every_field(path, format):
    file = golden_file(gain_db=-3.25, quantizer="ScalarQuantizer")
    write_codes(file, path, format)
    found = read_codes(path)
    assert np.array_equal(found.codes, file.codes)
    assert found.info == file.info


def test_smallest_coding_is_taken(path):
    random = np.random.default_rng(0)
    frames = 2000
    uniform = random.integers(0, 64, (1, 1, frames))
    steady = np.repeat(uniform[..., ::20], 20, 2)
    biased, other = np.minimum(random.geometric(0.5, (2, 1, 1, frames)), 63)
    model, independent = EntropyModel.fit([steady, biased], (64,)), EntropyModel.fit([other], (64,))
    for codes, size, entropy_model, coding in (
        (uniform, 64, None, "packed"),
        (uniform, 64, model, "packed"),
        (uniform % 5, 5, None, "radix"),
        (biased, 64, independent, "order0"),
        (steady, 64, model, "context"),
    ):
        write_codes(code_file(codes, (size,)), path, "daec", entropy_model)
        header = read_daec_header(path)
        fingerprint = entropy_model.fingerprint if entropy_model and coding in ("order0", "context") else ""
        assert (header.coding, header.entropy_model) == (coding, fingerprint)
        assert (header.frames, header.codebook_sizes, header.duration_s) == (frames, (size,), frames / 50)
        assert np.array_equal(read_codes(path, entropy_model).codes, codes)


def test_entropy_coded_file_wants_its_model(path):
    model = EntropyModel.fit([np.zeros((1, 3, 40), int)], GOLDEN_SIZES)
    # Fewer codebooks than the model has: the first two.
    file = code_file(np.zeros((2, 2, 600), int), GOLDEN_SIZES[:2])
    write_codes(file, path, "daec", model)
    assert read_daec_header(path).entropy_model == model.fingerprint
    assert np.array_equal(read_codes(path, model).codes, file.codes)
    for other in (None, EntropyModel.fit([golden_codes()], GOLDEN_SIZES)):
        assert_refused(lambda other=other: read_codes(path, other), f"needs the entropy model {model.fingerprint}")
    four = EntropyModel.fit([], (4,))
    assert_refused(lambda: to_bytes(golden_file(), "daec", four), "got one for 1 of 4", error=ValueError)


def test_codebooks_that_a_daec_file_cannot_have_coded_or_at_all(path):
    large = code_file([[[0, 2**40]]], (2**41,))  # too large for the entropy model
    most, more = (code_file(np.zeros((1, n, 1), np.uint8), (2,) * n) for n in (1024, 1025))
    for file, model in ((large, EntropyModel.fit([], (2**41,))), (most, None)):
        write_codes(file, path, "daec", model)
        assert np.array_equal(read_codes(path).codes, file.codes)
    assert_refused(lambda: to_bytes(more, "daec"), "expected at most 1024 codebooks")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codes": np.full((2, 3, 5), 8)}, "in codebook 0, got values from 8 to 8"),
        ({"codes": np.full((2, 3, 5), -1)}, "got values from -1 to -1"),
        ({"codes": np.zeros((3, 5), int)}, "of shape (3, 5)"),
        ({"codes": np.zeros((2, 3, 5))}, "float64"),
        ({"codes": np.zeros((2, 1, 5), int)}, "expected 3 codebooks, got 1"),
        ({"codebook_sizes": (8, 32, 1)}, "codebook_sizes.2"),
        ({"codebook_sizes": (8.0, 32.0, 64.0)}, "codebook_sizes.0"),
        ({"sample_rate": 99}, "sample_rate"),
        ({"num_samples": 0}, "num_samples"),
        ({"model_hash": HASH[1:]}, "model_hash"),
        ({"gain_db": 201.0}, "gain_db"),
        ({"quantizer": "x" * 101}, "quantizer"),
        ({"quantizer": "a\nb"}, "printable"),
    ],
)
def test_what_no_file_can_say_is_refused(path, changes, words):
    assert_refused(lambda: CodeFile.of({**vars(golden_file()), **changes}), words, error=ValueError)
    path.write_bytes(npz(**changes))
    assert_refused(lambda: read_codes(path), "x.codes: not a valid file of codes: ", words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample_rate": None}, "sample_rate"),
        ({"frames": 2**50}, "cannot hold"),
        ({"frames": 41}, "payload: expected"),
        ({"streams": ...}, "streams"),
        ({"codebooks": []}, "codebook_sizes"),
        ({"codebooks": [[5, 10**12]]}, "codebooks: expected at most 1024, got"),
        ({"coding": "zip"}, "coding"),
        ({"coding": "order0"}, "entropy_model"),
        ({"payload": 3}, "payload: expected 3 bytes by the header"),
        ({"more": 1}, "unknown entry 'more'"),
    ],
)
def test_header_that_cannot_be_is_refused(path, change, words):
    written = to_bytes(golden_file(), "daec")
    (length,) = struct.unpack("<I", written[5:9])
    header = {key: value for key, value in (json.loads(written[9 : 9 + length]) | change).items() if value is not ...}
    path.write_bytes(daec(json.dumps(header).encode(), written[9 + length : -4]))
    assert_refused(lambda: read_codes(path), "x.codes: not a valid file of codes: ", words)


def other_zip():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("codes.npy", "no array")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a file of codes"),
        (b"DAEC", "truncated"),
        (b"DAEC\x02\0\0\0\0" + struct.pack("<I", zlib.crc32(b"DAEC\x02\0\0\0\0")), "reads 1; update"),
        (daec(b"[" * 50000), "not JSON"),
        (to_bytes(golden_file(), "npy"), "holds bare codes without sample rate"),
        (other_zip(), "damaged, or not"),
        (npz(codes=np.array([{}], dtype=object)), "damaged, or not"),  # which numpy would unpickle
        (npz(without=["codes"]), "codes missing"),
        (npz(without=["model_hash"]), "model_hash"),
        (npz(format_version=3), "has format version 3, this program reads 1 to 2; update"),
        (npz(format_version=np.array([1])), "has format version"),
    ],
)
def test_other_content_is_refused(path, content, words):
    path.write_bytes(content)
    assert_refused(lambda: read_codes(path), words)


def test_bare_codes(path):
    def written(array):
        stream = io.BytesIO()
        np.save(stream, array)
        path.write_bytes(stream.getvalue())
        return path

    found = read_npy(written(np.asfortranarray(golden_codes()[1].astype(">i4"))))
    assert np.array_equal(found, golden_codes()[1:])
    pickled = np.array([[[1]]], dtype=object)
    for wrong in (np.zeros((1, 1, 2)), np.zeros(3, int), np.full((1, 1, 1), -1), np.zeros((1, 0, 1), int), pickled):
        assert_refused(lambda wrong=wrong: read_npy(written(wrong)), "x.codes: ", "not a .npy file of codes")


GOLDEN_FILES = {
    "codes_v1.npz": (GOLDEN_SIZES, None),
    "codes_v1.daec": (GOLDEN_SIZES, "packed"),
    "codes_radix_v1.daec": (GOLDEN_RADIX_SIZES, "radix"),
    "codes_order0_v1.daec": (GOLDEN_SIZES, "order0"),
    "codes_context_v1.daec": (GOLDEN_SIZES, "context"),
}


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_golden_files_are_read_to_the_same_integers(name):
    sizes, coding = GOLDEN_FILES[name]
    with np.load(GOLDEN / "entropy_v1.npz", allow_pickle=False) as arrays:
        found = read_codes(GOLDEN / name, EntropyModel.from_arrays(dict(arrays)))
    assert np.array_equal(found.codes, golden_codes(sizes))
    assert found.info == golden_file(sizes).info
    assert coding is None or read_daec_header(GOLDEN / name).coding == coding


def test_equal_codes_are_the_bytes_of_version_1():
    other_type = CodeFile.of({**vars(golden_file()), "codes": golden_codes().astype(np.int16)})
    assert to_bytes(other_type, "npz") == (GOLDEN / "codes_v1.npz").read_bytes()
    assert to_bytes(golden_file(GOLDEN_RADIX_SIZES), "daec") == (GOLDEN / "codes_radix_v1.daec").read_bytes()
    with np.load(io.BytesIO(to_bytes(golden_file(gain_db=2.5), "npz")), allow_pickle=False) as arrays:
        assert (arrays["format_version"].item(), arrays["gain_db"].item()) == (2, 2.5)
