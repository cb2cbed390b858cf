"""Files of codes against numpy by hand, and every way in which such a file can be wrong."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from discrete_ae.codes.container import CodeFile, codes_dtype, num_model_samples, read_npz, write_npz
from discrete_ae.errors import DataError

HASH = "0123456789abcdef" * 4


@pytest.fixture
def file() -> CodeFile:
    codes = np.random.default_rng(0).integers(0, [[[4], [300]]], (3, 2, 5))
    return CodeFile(codes, 44100, 4000, 16000, (4, 300), HASH)


def save(path, file, without=(), **changes):
    """Write the arrays of `file` by numpy's own means, some of them changed or left out."""
    arrays = {
        "format_version": 1,
        "codes": file.codes.astype(np.uint16),
        "sample_rate": file.sample_rate,
        "num_samples": file.num_samples,
        "model_sample_rate": file.model_sample_rate,
        "codebook_sizes": np.array(file.codebook_sizes),
        "model_hash": file.model_hash,
    } | changes
    np.savez(path, **{name: value for name, value in arrays.items() if name not in without})
    return path


def assert_equal(read, file):
    assert np.array_equal(read.codes, file.codes)
    for name in ("sample_rate", "num_samples", "model_sample_rate", "codebook_sizes", "model_hash"):
        assert getattr(read, name) == getattr(file, name)


def test_numpy_opens_what_is_written(tmp_path, file):
    write_npz(file, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as opened:
        assert opened["codes"].dtype == np.uint16  # the larger codebook has 300 entries
        assert np.array_equal(opened["codes"], file.codes)
        assert opened["codebook_sizes"].tolist() == [4, 300]
        scalars = {name: opened[name].item() for name in opened.files if name not in ("codes", "codebook_sizes")}
    assert scalars == {
        "format_version": 1,
        "sample_rate": 44100,
        "num_samples": 4000,
        "model_sample_rate": 16000,
        "model_hash": HASH,
    }
    assert_equal(read_npz(tmp_path / "x.npz"), file)


def test_what_numpy_writes_is_read(tmp_path, file):
    assert_equal(read_npz(save(tmp_path / "x.npz", file)), file)


def test_equal_codes_are_equal_bytes(tmp_path, file):
    stream = io.BytesIO()
    write_npz(file, stream)
    write_npz(replace(file, codes=file.codes.astype(np.int16)), tmp_path / "x.npz")
    assert (tmp_path / "x.npz").read_bytes() == stream.getvalue()


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32"), (2**32 + 1, "uint64")],
)
def test_codes_take_the_smallest_type(tmp_path, size, dtype):
    assert codes_dtype((2, size)) == dtype
    codes = np.array([[[0, size - 1]]])
    write_npz(CodeFile(codes, 8000, 640, 8000, (size,), HASH), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as opened:
        assert opened["codes"].dtype == dtype
        assert opened["codes"].tolist() == codes.tolist()


def test_length_at_the_models_rate_is_rounded_up():
    # 441 samples at 44.1 kHz are 10 ms, exactly 160 at 16 kHz; a further one begins the 161st.
    assert [num_model_samples(n, 44100, 16000) for n in (1, 2, 3, 441, 442)] == [1, 1, 2, 160, 161]
    assert num_model_samples(1, 8000, 16000) == 2


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, -1])
def test_truncated_file_is_refused(tmp_path, file, kept):
    write_npz(file, tmp_path / "x.npz")
    content = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(DataError, match=r"x\.npz: damaged, or not a \.npz file of codes; copy it again"):
        read_npz(tmp_path / "x.npz")


def test_flipped_byte_is_refused(tmp_path, file):
    write_npz(file, tmp_path / "x.npz")
    content = bytearray((tmp_path / "x.npz").read_bytes())
    start = content.index(file.codes.astype(np.uint16).tobytes())
    content[start] ^= 1  # the zip's checksum of the member no longer holds
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_npz(tmp_path / "x.npz")


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("codes.npy", "no array")
    with (tmp_path / "single.npz").open("wb") as stream:
        np.save(stream, np.zeros((1, 2, 3)))
    np.savez(tmp_path / "pickle.npz", codes=np.array([{}], dtype=object), allow_pickle=True)
    for name in ("text", "zip", "single", "pickle"):
        with pytest.raises(DataError, match=rf"{name}\.npz: damaged, or not"):
            read_npz(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(DataError, match=r"other\.npz: not a file of codes, format_version, codes, .* missing"):
        read_npz(tmp_path / "other.npz")
    for path in (tmp_path / "nowhere.npz", tmp_path):
        with pytest.raises(DataError, match="no such file"):
            read_npz(path)


@pytest.mark.parametrize(
    "name", ["codes", "sample_rate", "num_samples", "model_sample_rate", "codebook_sizes", "model_hash"]
)
def test_missing_key_is_named(tmp_path, file, name):
    with pytest.raises(DataError, match=rf"x\.npz: not a file of codes, {name} missing"):
        read_npz(save(tmp_path / "x.npz", file, without=[name]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 3}, "has format version 3, this program reads 1 to 2; update"),
        ({"format_version": np.array([1])}, "has format version"),
        ({"codes": np.full((3, 2, 5), 4)}, "expected 0 <= code < 4 in codebook 0, got values from 4 to 4"),
        ({"codes": np.full((3, 2, 5), -1)}, "got values from -1 to -1"),
        ({"codes": np.zeros((2, 5), int)}, r"of shape \(streams, codebooks, frames\).* of shape \(2, 5\)"),
        ({"codes": np.zeros((3, 2, 0), int)}, "none of them 0"),
        ({"codes": np.zeros((3, 2, 5))}, "expected integers .* float64"),
        ({"codes": np.zeros((3, 1, 5), int)}, "expected 2 codebooks, got 1"),
        ({"codebook_sizes": np.array([4, 1])}, "at least 2 entries"),
        ({"codebook_sizes": np.array(4)}, "expected a row of integers"),
        ({"codebook_sizes": np.array([4.0, 300.0])}, "expected a row of integers"),
        ({"sample_rate": 0}, "sample_rate: expected whole Hz from 100 to 768000, got 0"),
        ({"sample_rate": 2**40}, "sample_rate: expected whole Hz .*, got 1099511627776"),
        ({"num_samples": -5}, "num_samples: expected at least 1, and below 2.63, got -5"),
        ({"model_sample_rate": 16000.0}, "model_sample_rate: expected an integer, got float64"),
        ({"num_samples": np.array([1, 2])}, "num_samples: expected an integer"),
        ({"model_hash": "abc"}, "expected 64 hexadecimal digits, got 'abc'"),
        ({"model_hash": np.zeros(3)}, "expected 64 hexadecimal digits"),
    ],
)
def test_inconsistent_file_is_refused(tmp_path, file, changes, message):
    with pytest.raises(DataError, match=message) as caught:
        read_npz(save(tmp_path / "x.npz", file, **changes))
    assert str(caught.value).startswith(f"{tmp_path / 'x.npz'}: ")
    assert "\n" not in str(caught.value)


def test_fields_are_checked_when_made(file):
    with pytest.raises(ValueError, match="num_samples: expected at least 1"):
        replace(file, num_samples=0)
