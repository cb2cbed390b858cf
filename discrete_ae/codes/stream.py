"""Codes as a stream of bytes for pipes: one header line, then frame after frame. No torch here.

The line is a JSON object with the fields of `StreamInfo`, where `discrete_ae_codes` is the version, 1. Each frame
follows as integers (streams, codebooks), little-endian, in the smallest type that holds every code: one byte up to 256
entries, two up to 65536. The stream ends with the last frame. The header has no length, which is unknown at the start.
"""

import json
import shlex
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from discrete_ae.codes.code_file import (
    MAX_QUANTIZER_LENGTH,
    CodebookSizes,
    Codes,
    Count,
    Hz,
    Sha256,
    check_codes,
    codes_dtype,
    printable,
)
from discrete_ae.errors import DataError
from discrete_ae.records import Record

FIRST = b"{"
"""First byte of a stream; no other file of codes begins with this byte."""
MAX_LINE = 2**20
MAX_FRAME = 2**24
_READ = 2**16


class StreamInfo(Record):
    """Fields of the first line of a stream."""

    discrete_ae_codes: Annotated[int, Field(ge=1, le=1)]
    """Version of the format."""
    sample_rate: Hz
    """Sample rate of the recording; decoding restores it."""
    model_sample_rate: Hz
    """Sample rate of the model, to which the recording was resampled."""
    streams: Count
    """S, as in a file of codes."""
    codebook_sizes: CodebookSizes
    """Number of entries of each of the K codebooks."""
    model_hash: Sha256
    """Hash of the model that made the codes."""
    quantizer: Annotated[str, Field(max_length=MAX_QUANTIZER_LENGTH), AfterValidator(printable)] = ""
    """Class of the quantizer, for information only."""

    @property
    def dtype(self) -> np.dtype[np.integer]:
        """Type of a code in the stream."""
        return codes_dtype(self.codebook_sizes).newbyteorder("<")

    @property
    def frame_bytes(self) -> int:
        """Size of one frame in bytes."""
        return self.streams * len(self.codebook_sizes) * self.dtype.itemsize


def head_bytes(info: StreamInfo) -> bytes:
    """Return the first line."""
    return json.dumps(info.model_dump(), separators=(",", ":")).encode() + b"\n"


def frames_bytes(info: StreamInfo, codes: Codes) -> bytes:
    """Return codes (S, K, t) as frames."""
    return np.ascontiguousarray(codes.transpose(2, 0, 1), info.dtype).tobytes()


def read_head(stream: BufferedIOBase) -> StreamInfo:
    """Read the first line.

    Raises:
        DataError: the line is not that of a stream of codes.
    """
    line = stream.readline(MAX_LINE)
    try:
        info = StreamInfo.parse(line)
        if info.frame_bytes > MAX_FRAME:
            raise ValueError(f"frames of {info.frame_bytes} bytes, expected at most {MAX_FRAME}")
    except ValueError as error:
        raise DataError(
            f"not a stream of codes: {error}; give the output of discrete-ae encode - -o - --format stream"
        ) from error
    return info


def decode_command(path: str | Path) -> str:
    """Return the command that decodes a saved stream."""
    return f"discrete-ae decode - -o y.wav -c CHECKPOINT < {shlex.quote(str(path))}"


def holds_stream(file: BufferedIOBase) -> bool:
    """Return whether a file begins with the first line of a stream of codes."""
    try:
        read_head(file)
    except DataError:
        return False
    return True


def read_frames(
    stream: BufferedIOBase, info: StreamInfo, doubted: Callable[[str], None] = lambda doubt: None
) -> Iterator[Codes]:
    """Yield codes (S, K, t) int64 as they arrive, at least one frame at a time.

    Args:
        stream: stream of codes, after its first line.
        info: the first line.
        doubted: called after the last frame with a message if the stream ends within a frame.

    Raises:
        DataError: a code is outside of its codebook.
    """
    size, rest, count = info.frame_bytes, b"", 0
    while more := stream.read1(_READ):
        rest += more
        whole = len(rest) - len(rest) % size
        if not whole:
            continue
        found = np.frombuffer(rest[:whole], info.dtype).reshape(-1, info.streams, len(info.codebook_sizes))
        rest = rest[whole:]
        codes = np.ascontiguousarray(found.transpose(1, 2, 0))
        try:
            check_codes(codes, info.codebook_sizes)
        except ValueError as error:
            raise DataError(f"damaged stream: {error}; encode the recording again") from error
        count += len(found)
        yield codes.astype(np.int64)
    if rest:
        doubted(f"truncated in frame {count + 1}, after {len(rest)} of its {size} bytes")
