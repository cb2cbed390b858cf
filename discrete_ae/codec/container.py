"""Integers to bytes and back: the `.npz` file of codes. No torch here.

The file is an ordinary zip of `.npy` arrays and opens with `numpy.load(path, allow_pickle=False)`; its keys are the
fields of `CodeFile` and `format_version`. The same codes always give the same bytes.

Axes: S streams (what the model coded one after the other: the channels of the recording for a mono model, otherwise
the whole recording), K codebooks, T frames.
"""

import math
import re
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from discrete_ae.errors import DataError

FORMAT_VERSION = 1

Codes = npt.NDArray[np.integer[Any]]

# Not the clock: equal codes are equal files. It is the first date that a zip can hold.
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class CodeFile:
    """The codes of one recording, and what is needed to make audio of them again.

    Raises:
        ValueError: if the fields do not fit one another.
    """

    codes: Codes
    """(S, K, T) integers, 0 <= codes[:, k] < codebook_sizes[k]."""
    sample_rate: int
    """Of the recording, in Hz; decoding restores it."""
    num_samples: int
    """Length of the recording in samples per channel at `sample_rate`; decoding restores it."""
    model_sample_rate: int
    """The rate in Hz at which the model heard it."""
    codebook_sizes: tuple[int, ...]
    """Entries of each of the K codebooks; fewer than the model's where only the first ones were used."""
    model_hash: str
    """The model that made the codes: SHA-256, 64 hexadecimal digits."""

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"num_samples: expected at least 1, got {self.num_samples}")
        for name in ("sample_rate", "model_sample_rate"):
            if not 1 <= getattr(self, name) < 2**31:
                raise ValueError(f"{name}: expected Hz, at least 1 and below 2^31, got {getattr(self, name)}")
        if any(size < 2 for size in self.codebook_sizes):
            raise ValueError(f"codebook_sizes: expected at least 2 entries in each, got {list(self.codebook_sizes)}")
        if not re.fullmatch("[0-9a-f]{64}", self.model_hash):
            raise ValueError(f"model_hash: expected 64 hexadecimal digits, got {self.model_hash!r}")
        if self.codes.ndim != 3 or 0 in self.codes.shape or not np.issubdtype(self.codes.dtype, np.integer):
            raise ValueError(
                "codes: expected integers of shape (streams, codebooks, frames), none of them 0, "
                f"got {self.codes.dtype} of shape {self.codes.shape}"
            )
        if self.codes.shape[1] != len(self.codebook_sizes):
            raise ValueError(f"codes: expected {len(self.codebook_sizes)} codebooks, got {self.codes.shape[1]}")
        for k, size in enumerate(self.codebook_sizes):
            low, high = int(self.codes[:, k].min()), int(self.codes[:, k].max())
            if low < 0 or high >= size:
                raise ValueError(f"codes: expected 0 <= code < {size} in codebook {k}, got values from {low} to {high}")

    @property
    def num_model_samples(self) -> int:
        """Length in samples per channel at the model's rate, at least 1."""
        return num_model_samples(self.num_samples, self.sample_rate, self.model_sample_rate)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def bits_per_frame(self) -> float:
        """Nominal, of all streams together."""
        return len(self.codes) * sum(math.log2(size) for size in self.codebook_sizes)


def num_model_samples(num_samples: int, sample_rate: int, model_sample_rate: int) -> int:
    """How many samples at the model's rate cover `num_samples` at `sample_rate`: rounded up, so never 0 of 1."""
    return -(-num_samples * model_sample_rate // sample_rate)


def codes_dtype(codebook_sizes: tuple[int, ...]) -> np.dtype[Any]:
    """The smallest unsigned type that holds every code: one byte up to 256 entries, two up to 65536."""
    return np.min_scalar_type(max(codebook_sizes) - 1)


def write_npz(file: CodeFile, target: str | Path | BinaryIO) -> None:
    """Write `file` to a path or a binary stream.

    Raises:
        OSError: if the target cannot be written.
    """
    arrays = {
        "format_version": np.int64(FORMAT_VERSION),
        "codes": np.ascontiguousarray(file.codes, codes_dtype(file.codebook_sizes)),
        "sample_rate": np.int64(file.sample_rate),
        "num_samples": np.int64(file.num_samples),
        "model_sample_rate": np.int64(file.model_sample_rate),
        "codebook_sizes": np.array(file.codebook_sizes, np.int64),
        "model_hash": np.array(file.model_hash),
    }
    with zipfile.ZipFile(target, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read_npz(path: str | Path) -> CodeFile:
    """Read what `write_npz` wrote, and check it.

    Raises:
        DataError: the file is missing, damaged, not a file of codes, or contradicts itself.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a .npz file that discrete-ae encode wrote")
    found = _read_arrays(path)
    version = found.get("format_version")
    if version is not None and not (_is_integer(version) and version == FORMAT_VERSION):
        raise DataError(
            f"{path}: has format version {version}, this program reads {FORMAT_VERSION}; update discrete-ae"
        )
    missing = [name for name in ("format_version", *(field.name for field in fields(CodeFile))) if name not in found]
    if missing:
        raise DataError(f"{path}: not a file of codes, {', '.join(missing)} missing; give one of discrete-ae encode")
    try:
        return CodeFile(
            codes=found["codes"],
            sample_rate=_integer(found, "sample_rate"),
            num_samples=_integer(found, "num_samples"),
            model_sample_rate=_integer(found, "model_sample_rate"),
            codebook_sizes=_integers(found, "codebook_sizes"),
            model_hash=str(found["model_hash"]),
        )
    except ValueError as error:
        raise DataError(f"{path}: not a valid file of codes: {error}; encode the recording again") from error


def _read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    # A damaged zip or array header raises nearly anything, from zlib.error to NotImplementedError: all of it means
    # the same here, since nothing but numpy and zipfile runs.
    try:
        with path.open("rb") as stream:
            opened = np.load(stream, allow_pickle=False)
            arrays = {name: opened[name] for name in opened.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("not all of its members are arrays")
        return arrays
    except Exception as error:
        raise DataError(
            f"{path}: damaged, or not a .npz file of codes; copy it again, or encode the recording again"
        ) from error


def _is_integer(array: npt.NDArray[Any]) -> bool:
    return array.ndim == 0 and np.issubdtype(array.dtype, np.integer)


def _integer(found: dict[str, npt.NDArray[Any]], name: str) -> int:
    if not _is_integer(found[name]):
        raise ValueError(f"{name}: expected an integer, got {found[name].dtype} of shape {found[name].shape}")
    return int(found[name])


def _integers(found: dict[str, npt.NDArray[Any]], name: str) -> tuple[int, ...]:
    if found[name].ndim != 1 or not np.issubdtype(found[name].dtype, np.integer):
        raise ValueError(f"{name}: expected a row of integers, got {found[name].dtype} of shape {found[name].shape}")
    return tuple(int(size) for size in found[name])
