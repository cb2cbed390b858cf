"""The record of a file of codes, checked, and the codes themselves. No torch here.

Axes: S streams (what the model coded one after the other: the channels of the recording for a mono model, otherwise
the whole recording), K codebooks, T frames.
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
"""No byte of a range coder holds more: no entry has more than 7/8 of the frequency (but for 2^-20 of rounding), so that
each costs at least 0.1926 bits."""

Codes = npt.NDArray[np.integer[Any]]


def printable(text: str) -> str:
    """Return the text; ValueError where it holds what cannot be printed."""
    if not text.isprintable():
        raise ValueError("expected printable characters")
    return text


Count = Annotated[int, Field(ge=1, lt=2**63)]
Hz = Annotated[int, Field(ge=MIN_SAMPLE_RATE, le=MAX_SAMPLE_RATE)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
# Not strict: a list of JSON will do for the tuple; each size is an integer all the same.
CodebookSizes = Annotated[
    tuple[Annotated[int, Field(ge=2, lt=2**63)], ...],
    Field(strict=False, min_length=1),
]


class CodesInfo(Record):
    """Fields that every file and every list has of the codes (S, K, T) of a recording."""

    sample_rate: Hz
    """Of the recording; decoding restores it."""
    num_samples: Count
    """Length of the recording in samples per channel at `sample_rate`; decoding restores it."""
    streams: Count
    """S."""
    codebook_sizes: CodebookSizes
    """Entries of each of the K codebooks; fewer than the model's where only the first ones were used."""
    frames: Count
    """T."""
    model_hash: Sha256
    """The model that made the codes, by its `codes_hash`, or, in files of early versions, by its `model_hash`: SHA-256,
    64 hexadecimal digits."""

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
        """Return the bits of all streams together, where every code takes log2(size) bits."""
        return self.streams * sum(math.log2(size) for size in self.codebook_sizes)


class FileInfo(CodesInfo):
    """Fields of a file of codes beside the codes."""

    model_sample_rate: Hz
    """The rate at which the model heard the recording."""
    gain_db: Annotated[float, Field(ge=-MAX_GAIN_DB, le=MAX_GAIN_DB)] = 0.0
    """Gain that was applied to the recording before it was coded; decoding takes it back."""
    quantizer: Annotated[str, Field(max_length=MAX_QUANTIZER_LENGTH), AfterValidator(printable)] = ""
    """The class of the quantizer that made the codes, for people."""

    @property
    def num_model_samples(self) -> int:
        """Length in samples per channel at the model's rate: rounded up, so at least 1."""
        return -(-self.num_samples * self.model_sample_rate // self.sample_rate)


class CodeFile(FileInfo):
    """The codes of one recording, and what is needed to make audio of them again.

    `streams` and `frames` are those of the codes. Made by `CodeFile.of({"codes": ..., ...})`.
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

    @property
    def info(self) -> dict[str, Any]:
        """All fields but the codes."""
        return self.model_dump(exclude={"codes"})


def check_room(shape: tuple[int, int, int], num_bytes: int, symbols_per_byte: int = SYMBOLS_PER_BYTE) -> None:
    """Check that so many bytes can hold codes of a shape (S, K, T), before anything of their size is made.

    Raises:
        ValueError: they cannot.
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
        ValueError: they are no integers of three axes, or there are none.
    """
    if codes.ndim != 3 or 0 in codes.shape or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(
            "codes: expected integers of shape (streams, codebooks, frames), none of them 0, "
            f"got {codes.dtype} of shape {codes.shape}"
        )
    streams, codebooks, frames = codes.shape
    return streams, codebooks, frames


def in_words(codebook_sizes: Sequence[int]) -> str:
    """Return codebooks in words, such as "8 of 256 entries"; of very many unlike ones the first."""
    sizes = codebook_sizes if len(set(codebook_sizes)) > 1 else codebook_sizes[:1]
    return f"{len(codebook_sizes)} of {', '.join(map(str, sizes))[:100]} entries"


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


def parse_object(content: str | bytes) -> dict[str, Any]:
    """Parse a JSON object. Its texts may be names of files that are no valid text, which `Record.parse` refuses.

    Raises:
        ValueError: it is none.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError too
        raise ValueError("not JSON") from error
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    return found
