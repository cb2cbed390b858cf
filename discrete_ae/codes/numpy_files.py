"""The files of codes that numpy opens: `.npz`, with all that is needed to decode, and `.npy`, the codes alone.

A `.npz` is an ordinary zip of `.npy` arrays, for `numpy.load(path, allow_pickle=False)`. Its keys are the fields of
`CodeFile` and `format_version`; version 2 has `gain_db`, which is left out where it is 0, as `quantizer` is where it is
empty. The same codes always give the same bytes.
"""

import io
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from discrete_ae.codes.arrays import Codes, checked_shape, codes_dtype, npy_bytes, parse_npy
from discrete_ae.codes.code_file import CodeFile, FileInfo
from discrete_ae.errors import DataError

FORMAT_VERSION = 2
"""The newest that is read. Without gain, version 1 is written: it says the same, and earlier programs read it."""
MAX_MEMBERS = 64

# Not the clock: equal codes are equal files. It is the first date that a zip can hold.
_DATE = (1980, 1, 1, 0, 0, 0)


def npz_bytes(file: CodeFile) -> bytes:
    """Return the content of a `.npz` file of codes."""
    arrays: dict[str, npt.ArrayLike] = {
        "format_version": np.int64(2 if file.gain_db else 1),
        "codes": np.ascontiguousarray(file.codes, codes_dtype(file.codebook_sizes)),
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


def parse_npz(content: bytes) -> CodeFile:
    """Read and check what `npz_bytes` returned.

    Raises:
        DataError: it is damaged, no file of codes, or contradicts itself.
    """
    # A damaged zip raises nearly anything, from struct.error to NotImplementedError: all of it means the same here,
    # since nothing but numpy and zipfile runs.
    try:
        found = _members(content)
    except Exception as error:
        raise DataError("damaged, or not a .npz file of codes; copy it again, or encode the recording again") from error
    if missing := {"format_version", "codes"} - set(found):
        raise DataError(f"not a file of codes, {min(missing)} missing; give one of discrete-ae encode")
    version = found["format_version"]
    if version.ndim or version not in range(1, FORMAT_VERSION + 1):
        shown = " ".join(str(version).split())[:80]
        raise DataError(f"has format version {shown}, this program reads 1 to {FORMAT_VERSION}; update discrete-ae")
    try:
        said = {name: found[name].tolist() for name in FileInfo.model_fields if name in found}
        return CodeFile.of(found["codes"], said)
    except ValueError as error:
        raise DataError(f"not a valid file of codes: {error}; encode the recording again") from error


def parse_npy_codes(content: bytes) -> Codes:
    """Read codes (S, K, T) from a `.npy` file, by whatever program; (K, T) is taken as one stream.

    Raises:
        DataError: it is damaged, or does not hold such integers.
    """
    try:
        codes = parse_npy(content)
        codes = codes[None] if codes.ndim == 2 else codes
        checked_shape(codes)
        if int(codes.min()) < 0:
            raise ValueError(f"codes: expected at least 0, got {codes.min()}")
    except ValueError as error:
        raise DataError(f"damaged, or no .npy file of codes: {error}; save (streams, codebooks, frames)") from error
    return codes


def _members(content: bytes) -> dict[str, npt.NDArray[Any]]:
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
