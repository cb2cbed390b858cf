"""The validated record of a file of codes. No torch here.

Axes: S streams (signals that the model coded separately: the channels of the recording for a mono model, otherwise the
whole recording), K codebooks, T frames.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, GetPydanticSchema, model_validator
from pydantic_core import core_schema

from discrete_ae.checks import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from discrete_ae.records import Record

MAX_GAIN_DB = 200.0
MAX_QUANTIZER_LENGTH = 100
SYMBOLS_PER_BYTE = 42
"""Largest number of symbols per byte of a range coder. No entry has more than 7/8 of the total frequency (plus at most
2^-20 from rounding), so that each symbol takes at least 0.1926 bits."""

Codes = npt.NDArray[np.integer[Any]]


def printable(text: str) -> str:
    """Return the text, or raise a ValueError if a character is not printable."""
    if not text.isprintable():
        raise ValueError("expected printable characters")
    return text


Count = Annotated[int, Field(ge=1, lt=2**63)]
Hz = Annotated[int, Field(ge=MIN_SAMPLE_RATE, le=MAX_SAMPLE_RATE)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
# Not strict, so that a JSON list is accepted for the tuple; each size must still be an integer.
CodebookSizes = Annotated[
    tuple[Annotated[int, Field(ge=2, lt=2**63)], ...],
    Field(strict=False, min_length=1),
]


class CodesInfo(Record):
    """Fields for the codes (S, K, T) of a recording, common to files, manifests and shards."""

    sample_rate: Hz
    """Sample rate of the recording; decoding restores it."""
    num_samples: Count
    """Length of the recording in samples per channel at `sample_rate`; decoding restores it."""
    streams: Count
    """S."""
    codebook_sizes: CodebookSizes
    """Number of entries of each of the K codebooks: all of the model's codebooks, or only its first ones."""
    frames: Count
    """T."""
    model_hash: Sha256
    """The `codes_hash` of the model that made the codes (in files of early versions, the `model_hash`): SHA-256, 64
    hexadecimal digits."""

    @property
    def codebooks(self) -> int:
        """K."""
        return len(self.codebook_sizes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(S, K, T)."""
        return self.streams, self.codebooks, self.frames

    @property
    def duration_s(self) -> float:
        """Length of the recording in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def bits_per_frame(self) -> float:
        """Bits per frame of all streams together, with log2(size) bits for every code."""
        return self.streams * sum(math.log2(size) for size in self.codebook_sizes)

    @property
    def code_bits(self) -> float:
        """Bits of all codes, with log2(size) bits for every code; the last frame of a recording is padded."""
        return self.bits_per_frame * self.frames


class FileInfo(CodesInfo):
    """Fields of a file of codes, without the codes."""

    model_sample_rate: Hz
    """Sample rate of the model, to which the recording was resampled."""
    gain_db: Annotated[float, Field(ge=-MAX_GAIN_DB, le=MAX_GAIN_DB)] = 0.0
    """Gain applied to the recording before encoding; decoding reverts it."""
    quantizer: Annotated[str, Field(max_length=MAX_QUANTIZER_LENGTH), AfterValidator(printable)] = ""
    """Class of the quantizer that made the codes, for information only."""

    @property
    def num_model_samples(self) -> int:
        """Length in samples per channel at the model's rate, rounded up, so at least 1."""
        return -(-self.num_samples * self.model_sample_rate // self.sample_rate)

    @property
    def info(self) -> dict[str, Any]:
        """Fields of the codes and their recording, without the codes and those of one format."""
        return self.model_dump(include=set(FileInfo.model_fields))


class CodeFile(FileInfo):
    """The codes of one recording, with all fields needed to decode them.

    `streams` and `frames` are taken from the codes. Create one by `CodeFile.of({"codes": ..., ...})`.
    """

    codes: Annotated[Codes, GetPydanticSchema(lambda _source, _handler: core_schema.any_schema())]
    """(S, K, T) integers, 0 <= codes[:, k] < codebook_sizes[k]."""

    @model_validator(mode="before")
    @classmethod
    def _shape(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        streams, _, frames = checked_shape(fields["codes"])
        return {**fields, "streams": streams, "frames": frames}

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_codes(self.codes, self.codebook_sizes)
        return self


def check_room(shape: tuple[int, int, int], num_bytes: int, symbols_per_byte: int = SYMBOLS_PER_BYTE) -> None:
    """Check that `num_bytes` bytes can hold codes of a shape (S, K, T), before memory is allocated for them.

    Raises:
        ValueError: the bytes are too few.
    """
    if math.prod(shape) > symbols_per_byte * num_bytes:
        streams, codebooks, frames = shape
        raise ValueError(
            f"{num_bytes} bytes cannot hold {frames} frames of {codebooks} codebooks and {streams} streams"
        )


def codes_dtype(codebook_sizes: Sequence[int]) -> np.dtype[Any]:
    """Return the smallest unsigned type that holds every code: one byte up to 256 entries, two up to 65536."""
    return np.min_scalar_type(max(codebook_sizes) - 1)


def checked_shape(codes: Codes) -> tuple[int, int, int]:
    """Return the shape (S, K, T) of codes.

    Raises:
        ValueError: the codes are empty, or not integers with three axes.
    """
    if codes.ndim != 3 or 0 in codes.shape or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(
            "codes: expected integers of shape (streams, codebooks, frames), with no length 0, "
            f"got {codes.dtype} of shape {codes.shape}"
        )
    streams, codebooks, frames = codes.shape
    return streams, codebooks, frames


def in_words(codebook_sizes: Sequence[int]) -> str:
    """Return a description of codebooks, such as "8 of 256 entries"; a long list of different sizes is shortened."""
    sizes = codebook_sizes if len(set(codebook_sizes)) > 1 else codebook_sizes[:1]
    return f"{len(codebook_sizes)} of {', '.join(map(str, sizes))[:100]} entries"


def check_codes(codes: Codes, codebook_sizes: Sequence[int]) -> None:
    """Check the shape (S, K, T) of codes, and that each code is an entry of its codebook.

    Raises:
        ValueError: the codes do not fit these codebooks.
    """
    _, codebooks, _ = checked_shape(codes)
    if codebooks != len(codebook_sizes):
        raise ValueError(f"codes: expected {len(codebook_sizes)} codebooks, got {codebooks}")
    for k, size in enumerate(codebook_sizes):
        low, high = int(codes[:, k].min()), int(codes[:, k].max())
        if low < 0 or high >= size:
            raise ValueError(f"codes: expected 0 <= code < {size} in codebook {k}, got values from {low} to {high}")


def parse_object(content: str | bytes) -> dict[str, Any]:
    """Parse a JSON object. Unlike `Record.parse`, this accepts names of files that are not valid Unicode.

    Raises:
        ValueError: the content is not a JSON object.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError too
        raise ValueError("not JSON") from error
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    return found
