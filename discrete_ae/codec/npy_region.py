"""A `.npy` array anywhere inside a file, such as a tar, of which a stretch is read without the rest. No torch here."""

import os
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from discrete_ae.codec.container import Codes
from discrete_ae.errors import DataError

_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


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
                return cls.at(path, stream)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: damaged, or no array of codes ({error}); write the shards again") from error

    @classmethod
    def at(cls, path: Path, stream: BinaryIO) -> "NpyRegion":
        """That of the array whose header begins where the stream stands.

        Raises:
            OSError: it cannot be read.
            ValueError: there is no array of codes, or not all of it.
        """
        version = np.lib.format.read_magic(stream)
        if version not in _READ_HEADER:
            raise ValueError(f"unknown version {version} of .npy")
        shape, fortran_order, dtype = _READ_HEADER[version](stream)
        if not np.issubdtype(dtype, np.unsignedinteger):
            raise ValueError(f"expected an unsigned type, got {dtype}")
        region = cls(path, stream.tell(), dtype, shape, fortran_order)
        if region.offset + dtype.itemsize * int(np.prod(shape, dtype=np.int64)) > os.fstat(stream.fileno()).st_size:
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
