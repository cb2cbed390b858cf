"""Bare codes in a `.npy` file, for other programs: nothing in it says what audio they are."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from discrete_ae.codes.arrays import parse_npy, read_content
from discrete_ae.codes.code_file import CodeFile, Codes, codes_dtype
from discrete_ae.errors import DataError


def write_npy(file: CodeFile, target: str | Path | BinaryIO) -> None:
    """Write the codes (S, K, T) in the smallest unsigned type to a path or a binary stream.

    Raises:
        OSError: if the target cannot be written.
    """
    codes = np.ascontiguousarray(file.codes, codes_dtype(file.codebook_sizes))
    if isinstance(target, str | Path):
        with Path(target).open("wb") as stream:
            np.lib.format.write_array(stream, codes, allow_pickle=False)
    else:
        np.lib.format.write_array(target, codes, allow_pickle=False)


def read_npy(path: str | Path) -> Codes:
    """Codes (S, K, T) of a `.npy` file, by whatever program; (K, T) is taken as one stream.

    Raises:
        DataError: the file is missing, damaged, or does not hold such integers.
    """
    content = read_content(path)
    try:
        codes = parse_npy(content)
    except Exception as error:  # see parse_npy
        raise DataError(f"{path}: damaged, or not a .npy file of codes; copy it again") from error
    if codes.ndim == 2:
        codes = codes[None]
    if codes.ndim != 3 or 0 in codes.shape or not np.issubdtype(codes.dtype, np.integer) or int(codes.min()) < 0:
        raise DataError(
            f"{path}: expected integers of at least 0 of shape (streams, codebooks, frames) or (codebooks, frames), "
            f"got {codes.dtype} of shape {codes.shape}; save them so"
        )
    return codes
