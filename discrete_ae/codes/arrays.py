"""Arrays out of `.npy` bytes that need not be trusted, and the whole content of a file as a user names it."""

import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from discrete_ae.errors import DataError


def read_content(path: str | Path) -> bytes:
    """All bytes of a file of codes.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a file of codes that discrete-ae encode wrote")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); see to its permissions") from error


def parse_npy(content: bytes) -> npt.NDArray[Any]:
    """The numbers or characters of a `.npy` file, copied from it.

    `numpy.lib.format.read_array` allocates what the header claims before it reads; here the claim is first held against
    what is there.

    Raises:
        Exception: nearly any, from what numpy makes of a damaged header.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's parser, over the literals in a damaged header
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"expected .npy version 1.0 or 2.0, got {version}")
    if dtype.kind not in "biufU" or dtype.itemsize == 0:
        raise ValueError(f"expected numbers or characters, got {dtype}")
    start = stream.tell()
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(content) - start:
        raise ValueError(f"expected {dtype} of shape {shape}, got {len(content) - start} bytes")
    flat = np.frombuffer(content, dtype, offset=start) if math.prod(shape) else np.zeros(0, dtype)
    return flat.reshape(shape, order="F" if fortran_order else "C").astype(dtype.newbyteorder("="))
