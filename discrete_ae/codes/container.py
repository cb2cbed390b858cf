"""Integers to bytes and back: the files of codes. No torch here.

- `.npz` (npz.py): opens in numpy, the largest;
- `.daec` (daec.py): packed or entropy-coded, the smallest;
- `.npy` (npy.py): the codes alone, for other programs.
"""

from pathlib import Path
from typing import BinaryIO, Literal

from discrete_ae.codes.arrays import read_content
from discrete_ae.codes.code_file import CodeFile, Codes, codes_dtype, num_model_samples
from discrete_ae.codes.daec import MAGIC, DaecHeader, parse_daec, read_daec, read_daec_header, write_daec
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.npy import read_npy, write_npy
from discrete_ae.codes.npz import parse_npz, read_npz, write_npz
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
FORMATS: tuple[Format, ...] = ("npz", "daec", "npy")


def write_codes(
    file: CodeFile, target: str | Path | BinaryIO, format: Format, entropy_model: EntropyModel | None = None
) -> None:
    """Write `file` to a path or a binary stream; the entropy model makes "daec" smaller, the others ignore it.

    Raises:
        OSError: if the target cannot be written.
        ValueError: there is no such format, or the entropy model is one of other codebooks.
    """
    if format == "daec":
        write_daec(file, target, entropy_model)
    elif format == "npz":
        write_npz(file, target)
    elif format == "npy":
        write_npy(file, target)
    else:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")


def read_codes(path: str | Path, entropy_model: EntropyModel | None = None) -> CodeFile:
    """Read a `.npz` or `.daec` file, told apart by their first bytes, whatever the name.

    Raises:
        DataError: the file is missing, damaged, not such a file, or entropy-coded with another model.
    """
    content = read_content(path)
    if content.startswith(MAGIC):
        return parse_daec(content, path, entropy_model)
    if content.startswith(b"PK"):
        return parse_npz(content, path)
    if content.startswith(b"\x93NUMPY"):
        raise DataError(
            f"{path}: holds bare codes, but neither sample rate nor length; give the .npz or .daec file of "
            "discrete-ae encode"
        )
    raise DataError(f"{path}: damaged, or not a file of codes; give a .npz or .daec file that discrete-ae encode wrote")
