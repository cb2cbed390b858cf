"""The `.npz` file of codes: an ordinary zip of `.npy` arrays, which opens with `numpy.load(path, allow_pickle=False)`.

Its keys are the fields of `CodeFile` and `format_version`; version 2 has `gain_db`, which is left out where it is 0, as
`quantizer` is where it is empty. The same codes always give the same bytes.
"""

import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from discrete_ae.codes.arrays import parse_npy, read_content
from discrete_ae.codes.code_file import CodeFile, codes_dtype
from discrete_ae.errors import DataError

FORMAT_VERSION = 2
"""The newest that is read. Without gain, version 1 is written: it says the same, and earlier programs read it."""
MAX_MEMBERS = 64

# Not the clock: equal codes are equal files. It is the first date that a zip can hold.
_DATE = (1980, 1, 1, 0, 0, 0)
_REQUIRED = (
    "format_version",
    "codes",
    "sample_rate",
    "num_samples",
    "model_sample_rate",
    "codebook_sizes",
    "model_hash",
)

Arrays = dict[str, npt.NDArray[Any]]


def write_npz(file: CodeFile, target: str | Path | BinaryIO) -> None:
    """Write `file` to a path or a binary stream.

    Raises:
        OSError: if the target cannot be written.
    """
    arrays = {
        "format_version": np.int64(2 if file.gain_db else 1),
        "codes": np.ascontiguousarray(file.codes, codes_dtype(file.codebook_sizes)),
        "sample_rate": np.int64(file.sample_rate),
        "num_samples": np.int64(file.num_samples),
        "model_sample_rate": np.int64(file.model_sample_rate),
        "codebook_sizes": np.array(file.codebook_sizes, np.int64),
        "model_hash": np.array(file.model_hash),
    }
    if file.gain_db:
        arrays["gain_db"] = np.float64(file.gain_db)
    if file.quantizer:
        arrays["quantizer"] = np.array(file.quantizer)
    with zipfile.ZipFile(target, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read_npz(path: str | Path) -> CodeFile:
    """Read what `write_npz` wrote, and check it.

    Raises:
        DataError: the file is missing, damaged, not a file of codes, or contradicts itself.
    """
    return parse_npz(read_content(path), path)


def parse_npz(content: bytes, path: str | Path) -> CodeFile:
    """As `read_npz`, of content that was read from `path`."""
    # A damaged zip or array header raises nearly anything, from struct.error to NotImplementedError: all of it means
    # the same here, since nothing but numpy and zipfile runs.
    try:
        found = _members(content)
    except Exception as error:
        raise DataError(
            f"{path}: damaged, or not a .npz file of codes; copy it again, or encode the recording again"
        ) from error
    if missing := [name for name in _REQUIRED if name not in found]:
        raise DataError(f"{path}: not a file of codes, {', '.join(missing)} missing; give one of discrete-ae encode")
    try:
        version = _integer(found, "format_version")
    except ValueError as error:
        raise DataError(f"{path}: has format version unknown to this program ({error}); update discrete-ae") from error
    if version not in range(1, FORMAT_VERSION + 1):
        raise DataError(
            f"{path}: has format version {version}, this program reads 1 to {FORMAT_VERSION}; update discrete-ae"
        )
    try:
        return CodeFile(
            codes=found["codes"],
            sample_rate=_integer(found, "sample_rate"),
            num_samples=_integer(found, "num_samples"),
            model_sample_rate=_integer(found, "model_sample_rate"),
            codebook_sizes=_integers(found, "codebook_sizes"),
            model_hash=_text(found, "model_hash", "64 hexadecimal digits"),
            gain_db=_number(found, "gain_db") if "gain_db" in found else 0.0,
            quantizer=_text(found, "quantizer", "a name") if "quantizer" in found else "",
        )
    except ValueError as error:
        raise DataError(f"{path}: not a valid file of codes: {error}; encode the recording again") from error


def _members(content: bytes) -> Arrays:
    """Every member as an array; nothing is allocated that is not in the file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS or len({info.filename for info in infos}) < len(infos):
            raise ValueError(f"expected at most {MAX_MEMBERS} members, all of different names")
        # A few compressed bytes could claim to be gigabytes, and so could members that lie upon one another.
        if any(info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size for info in infos):
            raise ValueError("expected members that are not compressed")
        if sum(info.file_size for info in infos) > len(content):
            raise ValueError("members larger than the file")
        # `read` holds the content against the member's checksum.
        return {info.filename.removesuffix(".npy"): parse_npy(archive.read(info)) for info in infos}


def _integer(found: Arrays, name: str) -> int:
    if found[name].ndim or not np.issubdtype(found[name].dtype, np.integer):
        raise ValueError(f"{name}: expected an integer, got {found[name].dtype} of shape {found[name].shape}")
    return int(found[name])


def _integers(found: Arrays, name: str) -> tuple[int, ...]:
    if found[name].ndim != 1 or not np.issubdtype(found[name].dtype, np.integer):
        raise ValueError(f"{name}: expected a row of integers, got {found[name].dtype} of shape {found[name].shape}")
    return tuple(int(size) for size in found[name])


def _number(found: Arrays, name: str) -> float:
    if found[name].ndim or found[name].dtype.kind not in "iuf":
        raise ValueError(f"{name}: expected a number, got {found[name].dtype} of shape {found[name].shape}")
    return float(found[name])


def _text(found: Arrays, name: str, expected: str) -> str:
    if found[name].ndim or found[name].dtype.kind != "U":
        raise ValueError(f"{name}: expected {expected}, got {found[name].dtype} of shape {found[name].shape}")
    return str(found[name])
