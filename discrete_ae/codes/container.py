"""The files of codes by their format: integers to bytes and back. No torch here.

- `.npz`: opens in numpy, the largest (numpy_files.py);
- `.daec`: packed or entropy-coded, the smallest (daec.py);
- `.npy`: the codes alone, for other programs (numpy_files.py).

A new format is an entry of `FORMATS`, and its name one of `Format`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, TypeVar

import numpy as np

from discrete_ae.codes.arrays import Codes, codes_dtype, npy_bytes
from discrete_ae.codes.code_file import CodeFile, num_model_samples
from discrete_ae.codes.daec import MAGIC, DaecHeader, daec_bytes, parse_daec, parse_front
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.numpy_files import npz_bytes, parse_npy_codes, parse_npz
from discrete_ae.errors import DataError

__all__ = [
    "FORMATS",
    "CodeFile",
    "Codes",
    "DaecHeader",
    "Format",
    "codes_dtype",
    "num_model_samples",
    "read_codes",
    "read_daec",
    "read_daec_header",
    "read_npy",
    "read_npz",
    "write_codes",
    "write_daec",
    "write_npy",
    "write_npz",
]

Format = Literal["npz", "daec", "npy"]
Found = TypeVar("Found")


class FileFormat(NamedTuple):
    """How a kind of file of codes is written and read."""

    magic: bytes
    """Its first bytes."""
    write: Callable[[CodeFile, EntropyModel | None], bytes]
    read: Callable[[bytes, EntropyModel | None], CodeFile]
    """Raises DataError."""


def _bare(content: bytes, entropy_model: EntropyModel | None) -> CodeFile:
    raise DataError(
        "holds bare codes, but neither sample rate nor length; give the .npz or .daec file of discrete-ae encode"
    )


FORMATS: dict[Format, FileFormat] = {
    "npz": FileFormat(b"PK", lambda file, _: npz_bytes(file), lambda content, _: parse_npz(content)),
    "daec": FileFormat(MAGIC, daec_bytes, parse_daec),
    "npy": FileFormat(
        b"\x93NUMPY",
        lambda file, _: npy_bytes(np.ascontiguousarray(file.codes, codes_dtype(file.codebook_sizes))),
        _bare,
    ),
}


def write_codes(
    file: CodeFile, target: str | Path | BinaryIO, format: Format, entropy_model: EntropyModel | None = None
) -> None:
    """Write `file` to a path or a binary stream; the entropy model makes "daec" smaller, the others ignore it.

    Raises:
        OSError: if the target cannot be written.
        DataError: there are more codebooks than the format allows.
        ValueError: there is no such format, or the entropy model is one of other codebooks.
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    content = FORMATS[format].write(file, entropy_model)
    if isinstance(target, str | Path):
        Path(target).write_bytes(content)
    else:
        target.write(content)


def read_codes(path: str | Path, entropy_model: EntropyModel | None = None) -> CodeFile:
    """Read a `.npz` or `.daec` file, told apart by their first bytes, whatever the name.

    Raises:
        OSError: the file cannot be read.
        DataError: it is damaged, not such a file, or entropy-coded with another model.
    """

    def parse(content: bytes) -> CodeFile:
        for format in FORMATS.values():
            if content.startswith(format.magic):
                return format.read(content, entropy_model)
        raise DataError("damaged, or not a file of codes; give a .npz or .daec file that discrete-ae encode wrote")

    return _read(path, parse)


def write_npz(file: CodeFile, target: str | Path | BinaryIO) -> None:
    """Write a `.npz` file, as `write_codes`."""
    write_codes(file, target, "npz")


def write_daec(file: CodeFile, target: str | Path | BinaryIO, entropy_model: EntropyModel | None = None) -> None:
    """Write a `.daec` file in whichever coding is smallest, as `write_codes`."""
    write_codes(file, target, "daec", entropy_model)


def write_npy(file: CodeFile, target: str | Path | BinaryIO) -> None:
    """Write the codes (S, K, T) alone in the smallest unsigned type, as `write_codes`."""
    write_codes(file, target, "npy")


def read_npz(path: str | Path) -> CodeFile:
    """Read a `.npz` file; DataError where it is none, or damaged."""
    return _read(path, parse_npz)


def read_daec(path: str | Path, entropy_model: EntropyModel | None = None) -> CodeFile:
    """Read a `.daec` file; DataError where it is none, damaged, or entropy-coded with another model."""
    return _read(path, lambda content: parse_daec(content, entropy_model))


def read_daec_header(path: str | Path) -> DaecHeader:
    """Read what a `.daec` file says of its codes, without decoding them; DataError where it is none, or damaged."""
    return _read(path, lambda content: parse_front(content)[0])


def read_npy(path: str | Path) -> Codes:
    """Read codes (S, K, T) from a `.npy` file, by whatever program; DataError where it holds none."""
    return _read(path, parse_npy_codes)


def _read(path: str | Path, parse: Callable[[bytes], Found]) -> Found:
    content = Path(path).read_bytes()
    try:
        return parse(content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
