"""What a file of codes says, as one checked record, and the codes themselves.

Axes: S streams (what the model coded one after the other: the channels of the recording for a mono model, otherwise
the whole recording), K codebooks, T frames.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field

from discrete_ae.checks import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from discrete_ae.codes.arrays import Codes, check_codes, checked_shape
from discrete_ae.codes.entropy.tables import SYMBOLS_PER_BYTE
from discrete_ae.records import Record

MAX_GAIN_DB = 200.0
MAX_QUANTIZER_LENGTH = 100


def _printable(text: str) -> str:
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
    """What every file and every list of codes says of the codes (S, K, T) of a recording."""

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
    """The model that made the codes: SHA-256, 64 hexadecimal digits."""

    @property
    def codebooks(self) -> int:
        """K."""
        return len(self.codebook_sizes)

    @property
    def duration_s(self) -> float:
        """Length of the recording in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def bits_per_frame(self) -> float:
        """Nominal, of all streams together."""
        return self.streams * sum(math.log2(size) for size in self.codebook_sizes)

    def check_room(self, num_bytes: int, symbols_per_byte: int = SYMBOLS_PER_BYTE) -> None:
        """Check that so many bytes can hold the codes, before anything of their size is made.

        Raises:
            ValueError: they cannot.
        """
        if self.streams * self.codebooks * self.frames > symbols_per_byte * num_bytes:
            raise ValueError(
                f"{num_bytes} bytes cannot hold {self.frames} frames of {self.codebooks} codebooks and "
                f"{self.streams} streams"
            )


class FileInfo(CodesInfo):
    """What a file of codes says beside its codes."""

    model_sample_rate: Hz
    """The rate at which the model heard the recording."""
    gain_db: Annotated[float, Field(ge=-MAX_GAIN_DB, le=MAX_GAIN_DB)] = 0.0
    """Gain that was applied to the recording before it was coded; decoding takes it back."""
    quantizer: Annotated[str, Field(max_length=MAX_QUANTIZER_LENGTH), AfterValidator(_printable)] = ""
    """The class of the quantizer that made the codes, for people."""


@dataclass(frozen=True, eq=False)
class CodeFile:
    """The codes of one recording, and what is needed to make audio of them again: the fields of `FileInfo`.

    Raises:
        ValueError: if the fields do not fit one another.
    """

    codes: Codes
    """(S, K, T) integers, 0 <= codes[:, k] < codebook_sizes[k]."""
    sample_rate: int
    num_samples: int
    model_sample_rate: int
    codebook_sizes: tuple[int, ...]
    model_hash: str
    gain_db: float = 0.0
    quantizer: str = ""

    def __post_init__(self) -> None:
        check_codes(self.codes, self.info.codebook_sizes)

    @classmethod
    def of(cls, codes: Codes, said: Mapping[str, Any]) -> Self:
        """Return codes with what a file says of them, of whatever types.

        Raises:
            ValueError: as `CodeFile`, and for a field that is missing.
        """
        streams, _, frames = checked_shape(codes)
        info = FileInfo.of({**said, "streams": streams, "frames": frames})
        return cls(codes, **info.model_dump(exclude={"streams", "frames"}))

    @cached_property
    def info(self) -> FileInfo:
        """All fields but the codes, and their shape."""
        streams, _, frames = checked_shape(self.codes)
        return FileInfo.of({**vars(self), "streams": streams, "frames": frames})

    @property
    def num_model_samples(self) -> int:
        """Length in samples per channel at the model's rate, at least 1."""
        return num_model_samples(self.num_samples, self.sample_rate, self.model_sample_rate)

    @property
    def duration_s(self) -> float:
        """Length of the recording in seconds."""
        return self.info.duration_s

    @property
    def bits_per_frame(self) -> float:
        """Nominal, of all streams together."""
        return self.info.bits_per_frame


def num_model_samples(num_samples: int, sample_rate: int, model_sample_rate: int) -> int:
    """Return how many samples at the model's rate cover `num_samples` at `sample_rate`: rounded up, so never 0 of 1."""
    return -(-num_samples * model_sample_rate // sample_rate)


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
