"""A `.npy` array anywhere inside a file, such as a tar, of which a stretch is read without the rest. No torch here."""

import io
import math
import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from discrete_ae.codes import fields
from discrete_ae.codes.container import Codes
from discrete_ae.errors import DataError

_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# numpy writes 128 bytes for an array of codes, and believes a length of gigabytes.
_MAX_HEADER_BYTES = 4096


class NpyRegion(NamedTuple):
    """Where the numbers of an array of codes lie. It keeps no file open: a thousand tars would be too many."""

    path: Path
    offset: int
    """Of the first number, in bytes."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool

    @classmethod
    def of_file(cls, path: Path) -> "NpyRegion":
        """That of a file which is one array.

        Raises:
            DataError: it cannot be read, or is none.
        """
        try:
            with path.open("rb") as stream:
                return cls.at(path, stream, os.fstat(stream.fileno()).st_size)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: damaged, or no array of codes ({fields.shown(error)}); write the shards again"
            ) from error

    @classmethod
    def at(cls, path: Path, stream: BinaryIO, end: int) -> "NpyRegion":
        """That of the array whose header begins where the stream stands, and which ends at byte `end` of it or before.

        Raises:
            OSError: it cannot be read.
            ValueError: there is no array of codes, or not all of it.
        """
        start = stream.tell()
        head = io.BytesIO(stream.read(min(_MAX_HEADER_BYTES, max(end - start, 0))))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Python's parser, over the literals in a damaged header
                version = np.lib.format.read_magic(head)
                shape, fortran_order, dtype = _READ_HEADER[version](head)
        except Exception as error:  # nearly any, from what numpy makes of a damaged header
            raise ValueError(f"no header of .npy: {fields.shown(error)}") from error
        if dtype.kind != "u":
            raise ValueError(f"expected an unsigned type, got {fields.shown(dtype)}")
        region = cls(path, start + head.tell(), dtype, shape, fortran_order)
        if min(shape, default=0) < 1:
            raise ValueError(f"expected a shape of codes, got {fields.shown(shape)}")
        if region.offset + dtype.itemsize * math.prod(shape) > end:  # in Python's integers, which do not overflow
            raise ValueError("cut short")
        return region

    def read(self, first: int, shape: tuple[int, int]) -> Codes:
        """Numbers from the `first` on, in the order of the file; of the file no more is read than is then used.

        Raises:
            DataError: if the file is gone or was cut.
        """
        try:
            return np.memmap(self.path, self.dtype, "r", self.offset + first * self.dtype.itemsize, shape)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: cannot be read ({error}); copy it again, or write the shards") from error
