"""Files of codes by format: integers to bytes and back. No torch here.

- `.npz`: the largest format, an ordinary zip of `.npy` arrays that `numpy.load(path, allow_pickle=False)` reads. Its
  keys are the fields of `CodeFile` and `format_version`. Version 2 adds `gain_db`. A `gain_db` of 0 and an empty
  `quantizer` are omitted. The same codes always give the same bytes.
- `.daec`: the smallest format, packed or entropy-coded (daec.py).
- `.npy`: the codes alone, for other programs.

To add a format, add an entry to `FORMATS` and its name to `Format`.
"""

import io
import math
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from discrete_ae.codes import Format
from discrete_ae.codes.code_file import CodeFile, Codes, FileInfo, checked_shape, codes_dtype
from discrete_ae.codes.daec import MAGIC, DaecHeader, daec_bytes, parse_daec, parse_front
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.stream import decode_command, holds_stream
from discrete_ae.errors import DataError

Found = TypeVar("Found")

NPZ_VERSION = 2
"""Newest version that is read. Files without gain are written as version 1, which older programs read too."""
MAX_MEMBERS = 64

# First bytes of a Parquet file, and the signature of a tar with its position.
_PARQUET, _TAR, _TAR_PLACE = b"PAR1", b"ustar", 257
# A fixed date, the first of the zip format, so that equal codes give equal files.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_codes(file: CodeFile, path: str | Path, format: Format, entropy_model: EntropyModel | None = None) -> None:
    """Write a file of codes. The entropy model makes "daec" files smaller; other formats ignore it.

    Raises:
        OSError: the file cannot be written.
        DataError: there are more codebooks than the format allows.
        ValueError: the format is unknown, or the entropy model is for other codebooks.
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    Path(path).write_bytes(FORMATS[format].write(file, entropy_model))


def read_codes(path: str | Path, entropy_model: EntropyModel | None = None) -> CodeFile:
    """Read a `.npz` or `.daec` file; the first bytes determine the format, not the name.

    Raises:
        OSError: the file cannot be read.
        DataError: the file is damaged, has another format, or is entropy-coded with another model.
    """

    def parse(content: bytes) -> CodeFile:
        for format in FORMATS.values():
            if content.startswith(format.magic):
                return format.read(content, entropy_model)
        if holds_stream(io.BytesIO(content)):
            raise DataError(f"expected a file of codes, got a stream of codes; decode it by {decode_command(path)}")
        if content.startswith(_PARQUET) or content[_TAR_PLACE:].startswith(_TAR):
            raise DataError("expected a file of codes, got a shard for training; give the files that it was made from")
        raise DataError("damaged, or not a file of codes; give a .npz or .daec file written by discrete-ae encode")

    return _read(path, parse)


def read_daec_header(path: str | Path) -> DaecHeader:
    """Read the header of a `.daec` file without decoding the codes.

    Raises:
        OSError: the file cannot be read.
        DataError: the file is damaged, or not a `.daec` file.
    """
    return _read(path, lambda content: parse_front(content)[0])


def read_npy(path: str | Path) -> Codes:
    """Read codes (S, K, T) from a `.npy` file of any program; an array (K, T) is taken as one stream.

    Raises:
        OSError: the file cannot be read.
        DataError: the file is damaged, or does not hold integers of at least 0 with two or three axes.
    """
    return _read(path, _parse_npy_codes)


def npy_bytes(array: npt.ArrayLike) -> bytes:
    """Return the bytes of a `.npy` file."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
    return stream.getvalue()


def in_smallest_type(codes: Codes, codebook_sizes: tuple[int, ...]) -> Codes:
    """Return codes in C order and in the smallest type, as they are stored."""
    return np.ascontiguousarray(codes, codes_dtype(codebook_sizes))


class _FileFormat(NamedTuple):
    """Writer and reader of a format of files of codes."""

    magic: bytes
    """First bytes of a file."""
    write: Callable[[CodeFile, EntropyModel | None], bytes]
    read: Callable[[bytes, EntropyModel | None], CodeFile]
    """Reader; raises DataError."""


def _npz_bytes(file: CodeFile, _: EntropyModel | None) -> bytes:
    arrays: dict[str, npt.ArrayLike] = {
        "format_version": np.int64(2 if file.gain_db else 1),
        "codes": in_smallest_type(file.codes, file.codebook_sizes),
        "sample_rate": np.int64(file.sample_rate),
        "num_samples": np.int64(file.num_samples),
        "model_sample_rate": np.int64(file.model_sample_rate),
        "codebook_sizes": np.array(file.codebook_sizes, np.int64),
        "model_hash": file.model_hash,
    }
    if file.gain_db:
        arrays["gain_db"] = np.float64(file.gain_db)
    if file.quantizer:
        arrays["quantizer"] = file.quantizer
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as member:
                member.write(npy_bytes(array))
    return stream.getvalue()


def _parse_npz(content: bytes, _: EntropyModel | None) -> CodeFile:
    # A damaged zip raises nearly any error, from struct.error to NotImplementedError. Every error means a damaged file
    # here, since only numpy and zipfile run.
    try:
        found = _members(content)
    except Exception as error:
        raise DataError("damaged, or not a .npz file of codes; copy it again, or encode the recording again") from error
    if missing := {"format_version", "codes"} - set(found):
        raise DataError(f"not a file of codes, {min(missing)} missing; give one written by discrete-ae encode")
    version = found["format_version"]
    if version.ndim or version not in range(1, NPZ_VERSION + 1):
        shown = " ".join(str(version).split())[:80]
        raise DataError(f"has format version {shown}, this program reads 1 to {NPZ_VERSION}; update discrete-ae")
    try:
        said = {name: found[name].tolist() for name in FileInfo.model_fields if name in found}
        return CodeFile.of({**said, "codes": found["codes"]})
    except ValueError as error:
        raise DataError(f"not a valid file of codes: {error}; encode the recording again") from error


def _members(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return every member as an array; allocate no more than the file contains."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS or len({info.filename for info in infos}) < len(infos):
            raise ValueError(f"expected at most {MAX_MEMBERS} members, all of different names")
        # Compressed or overlapping members could expand a small file to gigabytes.
        if any(info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size for info in infos):
            raise ValueError("expected members that are not compressed")
        if sum(info.file_size for info in infos) > len(content):
            raise ValueError("members larger than the file")
        # `read` checks the checksum of the member.
        return {info.filename.removesuffix(".npy"): _parse_npy(archive.read(info)) for info in infos}


def _parse_npy(content: bytes) -> npt.NDArray[Any]:
    """Return a copy of the array of a `.npy` file.

    `numpy.lib.format.read_array` allocates the size that the header claims, before reading. Here the claim is first
    checked against the actual size.

    Raises:
        ValueError: the content is damaged, or not a `.npy` file of numbers or characters.
    """
    stream = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's parser warns of literals in a damaged header
            if np.lib.format.read_magic(stream) == (1, 0):
                shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
            else:
                shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(stream)
        start = stream.tell()
        if dtype.kind not in "biufU" or dtype.itemsize == 0:
            raise ValueError(f"expected numbers or characters, got {dtype}")
        if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(content) - start:
            raise ValueError(f"expected {dtype} of shape {shape}, got {len(content) - start} bytes")
        flat = np.frombuffer(content, dtype, offset=start) if math.prod(shape) else np.zeros(0, dtype)
        return flat.reshape(shape, order="F" if fortran_order else "C").astype(dtype.newbyteorder("="))
    except Exception as error:  # for a damaged header, numpy raises nearly any error
        raise ValueError("not an array saved by numpy") from error


def _parse_npy_codes(content: bytes) -> Codes:
    try:
        codes = _parse_npy(content)
        codes = codes[None] if codes.ndim == 2 else codes
        checked_shape(codes)
        if int(codes.min()) < 0:
            raise ValueError(f"codes: expected at least 0, got {codes.min()}")
    except ValueError as error:
        raise DataError(
            f"damaged, or not a .npy file of codes: {error}; save an array (streams, codebooks, frames)"
        ) from error
    return codes


def _refuse_npy(content: bytes, _: EntropyModel | None) -> CodeFile:
    raise DataError(
        "holds bare codes without sample rate and length; give a .npz or .daec file written by discrete-ae encode"
    )


FORMATS: dict[Format, _FileFormat] = {
    "npz": _FileFormat(b"PK", _npz_bytes, _parse_npz),
    "npy": _FileFormat(
        b"\x93NUMPY", lambda file, _: npy_bytes(in_smallest_type(file.codes, file.codebook_sizes)), _refuse_npy
    ),
    "daec": _FileFormat(MAGIC, daec_bytes, parse_daec),
}


def _read(path: str | Path, parse: Callable[[bytes], Found]) -> Found:
    content = Path(path).read_bytes()
    try:
        return parse(content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
