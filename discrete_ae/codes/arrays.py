"""Arrays of codes: their shape, their smallest type, and `.npy` bytes that need not be trusted. No torch here.

Axes: S streams, K codebooks, T frames.
"""

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.integer[Any]]


def codes_dtype(codebook_sizes: Sequence[int]) -> np.dtype[Any]:
    """Return the smallest unsigned type that holds every code: one byte up to 256 entries, two up to 65536."""
    return np.min_scalar_type(max(codebook_sizes) - 1)


def checked_shape(codes: Codes) -> tuple[int, int, int]:
    """Return the shape (S, K, T) of codes.

    Raises:
        ValueError: they are no integers of three axes, or there are none.
    """
    if codes.ndim != 3 or 0 in codes.shape or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(
            "codes: expected integers of shape (streams, codebooks, frames), none of them 0, "
            f"got {codes.dtype} of shape {codes.shape}"
        )
    streams, codebooks, frames = codes.shape
    return streams, codebooks, frames


def check_codes(codes: Codes, codebook_sizes: Sequence[int]) -> None:
    """Check the shape (S, K, T) of codes, and that each is an entry of its codebook.

    Raises:
        ValueError: they are none of these codebooks.
    """
    _, codebooks, _ = checked_shape(codes)
    if codebooks != len(codebook_sizes):
        raise ValueError(f"codes: expected {len(codebook_sizes)} codebooks, got {codebooks}")
    for k, size in enumerate(codebook_sizes):
        low, high = int(codes[:, k].min()), int(codes[:, k].max())
        if low < 0 or high >= size:
            raise ValueError(f"codes: expected 0 <= code < {size} in codebook {k}, got values from {low} to {high}")


def npy_bytes(array: npt.ArrayLike) -> bytes:
    """Return the bytes of a `.npy` file."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
    return stream.getvalue()


def parse_npy(content: bytes) -> npt.NDArray[Any]:
    """Return the numbers or characters of a `.npy` file, copied from it.

    `numpy.lib.format.read_array` allocates what the header claims before it reads; here the claim is first held against
    what is there.

    Raises:
        ValueError: it is no such file, or damaged.
    """
    stream = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's parser, over the literals in a damaged header
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
    except Exception as error:  # nearly any, from what numpy makes of a damaged header
        raise ValueError("damaged, or no array of .npy") from error
