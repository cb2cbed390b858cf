"""The `.daec` file of codes: the smallest format, protected by a checksum. No torch here.

    4 bytes   magic, "DAEC"
    1 byte    version, 1
    4 bytes   length of the header, little-endian
    header    compact JSON in UTF-8, the fields of `DaecHeader` by the names in `KEYS`
    payload   the codes in one of four codings
    4 bytes   CRC-32 of all bytes before, little-endian

"packed" has a fixed number of bits for each code of a codebook; "radix" joins several codes in one word if that takes
fewer bits (packing.py).
"order0" and "context" are range-coded with the entropy model of the checkpoint (entropy.py), whose fingerprint is in
the header.
"""

import itertools
import json
import struct
import zlib
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from discrete_ae.codes.code_file import CodebookSizes, CodeFile, FileInfo, check_room, parse_object
from discrete_ae.codes.entropy import MAX_CODEBOOKS, PREDICTORS, EntropyModel
from discrete_ae.codes.packing import BITS, RADIX
from discrete_ae.errors import DataError

MAGIC = b"DAEC"
VERSION = 1

FRONT = struct.Struct("<4sBI")
CRC = struct.Struct("<I")
PACKINGS = {"packed": BITS, "radix": RADIX}

KEYS = {
    "model": "model_hash",
    "quantizer": "quantizer",
    "coding": "coding",
    "entropy_model": "entropy_model",
    "sample_rate": "sample_rate",
    "model_sample_rate": "model_sample_rate",
    "samples": "num_samples",
    "streams": "streams",
    "frames": "frames",
    "payload": "payload_bytes",
    "codebooks": "codebook_sizes",
    "gain_db": "gain_db",
}
"""Names in the file, in the order of the file, with the fields of `DaecHeader`. The file has codebooks as pairs [size,
count]."""


class DaecHeader(FileInfo):
    """The header of a `.daec` file."""

    codebook_sizes: Annotated[CodebookSizes, Field(max_length=MAX_CODEBOOKS)]
    coding: Literal["packed", "radix", "order0", "context"]
    entropy_model: Annotated[str, Field(pattern="^([0-9a-f]{16})?$")] = ""
    """Fingerprint of the entropy model that coded the payload; empty for other codings."""
    payload_bytes: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.coding in PREDICTORS) != bool(self.entropy_model):
            raise ValueError(f"entropy_model: got {self.entropy_model!r} with coding {self.coding}")
        check_room(self.shape, self.payload_bytes + 8)  # a range coder omits up to 8 bytes
        return self

    def check_entropy_model(self, entropy_model: EntropyModel | None) -> None:
        """Check that this entropy model, or none, can decode the payload.

        Raises:
            DataError: the payload is entropy-coded with another model.
        """
        if self.entropy_model not in ("", entropy_model and entropy_model.fingerprint):
            raise DataError(
                f"needs the entropy model {self.entropy_model} of the model {self.model_hash[:12]}; give the "
                "checkpoint that made the codes"
            )

    def to_json(self) -> bytes:
        """Return compact JSON in UTF-8, without fields that are empty or 0.0."""
        said = {key: getattr(self, name) for key, name in KEYS.items()}
        said["codebooks"] = [[size, len(list(run))] for size, run in itertools.groupby(self.codebook_sizes)]
        said = {key: value for key, value in said.items() if value not in ("", 0.0)}
        return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "DaecHeader":
        """Return the header from the JSON of `to_json`.

        Raises:
            ValueError: the content is not a header, or its fields are inconsistent.
        """
        said = parse_object(content)
        if unknown := set(said) - set(KEYS):
            raise ValueError(f"unknown entry {min(unknown)[:80]!r} in the header")
        fields = {KEYS[key]: value for key, value in said.items()}
        return cls.of({**fields, "codebook_sizes": _sizes_of(said.get("codebooks"))})


def daec_bytes(file: CodeFile, entropy_model: EntropyModel | None = None) -> bytes:
    """Return the content of a `.daec` file of codes, in the smallest coding; raise the errors of `smallest_coding`."""
    coding, payload = smallest_coding(file, entropy_model)
    said = file.info | {"coding": coding, "payload_bytes": len(payload)}
    if entropy_model and coding in PREDICTORS:
        said["entropy_model"] = entropy_model.fingerprint
    header = DaecHeader.of(said).to_json()
    content = FRONT.pack(MAGIC, VERSION, len(header)) + header + payload
    return content + CRC.pack(zlib.crc32(content))


def smallest_coding(file: CodeFile, entropy_model: EntropyModel | None) -> tuple[str, bytes]:
    """Return the name of the coding that makes the smallest payload, and the payload.

    Raises:
        DataError: there are more codebooks than the format allows.
        ValueError: the entropy model is for other codebooks.
    """
    if len(file.codebook_sizes) > MAX_CODEBOOKS:
        raise DataError(
            f"expected at most {MAX_CODEBOOKS} codebooks in a .daec file, got {len(file.codebook_sizes)}; write .npz "
            "instead"
        )
    streams, _, frames = file.codes.shape
    # The sizes of both packings are known in advance: only the smaller one is made.
    coding = min(PACKINGS, key=lambda name: PACKINGS[name].num_bytes(streams, frames, file.codebook_sizes))
    found = {coding: PACKINGS[coding].pack(file.codes, file.codebook_sizes)}
    if entropy_model is not None:
        entropy_model.check_codebooks(file.codebook_sizes)
        if entropy_model.available:
            found |= {predictor: entropy_model.encode(file.codes, predictor) for predictor in PREDICTORS}
    return min(found.items(), key=lambda item: len(item[1]))


def parse_daec(content: bytes, entropy_model: EntropyModel | None = None) -> CodeFile:
    """Parse and check the content of a `.daec` file; entropy-coded content needs the entropy model that coded it.

    Raises:
        DataError: the content is damaged, not a `.daec` file, or entropy-coded with another model.
    """
    header, payload = parse_front(content)
    header.check_entropy_model(entropy_model)
    shape = header.streams, header.frames
    try:
        if entropy_model and header.entropy_model:
            entropy_model.check_codebooks(header.codebook_sizes)
            codes = entropy_model.decode(payload, *shape, header.coding, header.codebooks)
        else:
            codes = PACKINGS[header.coding].unpack(payload, *shape, header.codebook_sizes)
        return CodeFile.of({**header.model_dump(), "codes": codes})
    except ValueError as error:
        raise DataError(f"not a valid file of codes: {error}; encode the recording again") from error


def parse_front(content: bytes) -> tuple[DaecHeader, bytes]:
    """Check the checksum of a `.daec` file, and return its header and payload.

    Raises:
        DataError: the content is damaged, or not a `.daec` file.
    """
    if not content.startswith(MAGIC):
        raise DataError("damaged, or not a .daec file; give one written by discrete-ae encode")
    damaged = DataError("damaged or truncated; copy it again, or encode the recording again")
    body = len(content) - CRC.size
    if body < FRONT.size:
        raise damaged
    _, version, header_bytes = FRONT.unpack_from(content)
    start = FRONT.size + header_bytes
    if CRC.unpack_from(content, body)[0] != zlib.crc32(memoryview(content)[:body]):
        raise damaged
    if version != VERSION:
        raise DataError(f"has format version {version}, this program reads {VERSION}; update discrete-ae")
    try:
        header = DaecHeader.from_json(content[FRONT.size : start])
        if header.payload_bytes != body - start:
            raise ValueError(f"payload: expected {header.payload_bytes} bytes by the header, got {body - start}")
    except ValueError as error:
        raise DataError(f"not a valid file of codes: {error}; encode the recording again") from error
    return header, content[start:body]


def _sizes_of(runs: Any) -> list[int]:
    """Expand [[size, count], ...] to sizes; limit their number, so that a short text cannot take much memory."""
    if not isinstance(runs, list) or not all(
        isinstance(run, list) and len(run) == 2 and type(run[1]) is int and run[1] > 0 for run in runs
    ):
        raise ValueError("codebooks: expected pairs of a size and a count")
    if (number := sum(count for _, count in runs)) > MAX_CODEBOOKS:
        raise ValueError(f"codebooks: expected at most {MAX_CODEBOOKS}, got {number}")
    return [size for size, count in runs for _ in range(count)]
