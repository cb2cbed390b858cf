"""The `.daec` file of codes: as small as it gets, and checked to the last bit.

    4 bytes   magic, "DAEC"
    1 byte    version, 1
    4 bytes   length of the header, little-endian
    header    compact JSON in UTF-8, the fields of `DaecHeader`
    payload   the codes in one of four codings
    4 bytes   CRC-32 of all bytes before, little-endian

"packed" has the same number of bits for each code of a codebook, "radix" joins codes where that is shorter
(codes/entropy/packing.py); "order0" and "context" are range-coded with the entropy model of the checkpoint
(codes/entropy/model.py), whose fingerprint is in the header.
"""

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from discrete_ae.codes.arrays import read_content
from discrete_ae.codes.code_file import CodeFile, Codes
from discrete_ae.codes.entropy import BITS, PREDICTORS, RADIX, EntropyModel
from discrete_ae.codes.entropy.arrays import MAX_CODEBOOKS
from discrete_ae.codes.header import ENTROPY_CODINGS, DaecHeader
from discrete_ae.errors import DataError

MAGIC = b"DAEC"
VERSION = 1

FRONT = struct.Struct("<4sBI")
CRC = struct.Struct("<I")
_PACKINGS = {"packed": BITS, "radix": RADIX}


def write_daec(file: CodeFile, target: str | Path | BinaryIO, entropy_model: EntropyModel | None = None) -> None:
    """Write `file` to a path or a binary stream, in whichever coding is smallest.

    Raises:
        OSError: if the target cannot be written.
        DataError: there are more codebooks than the format allows.
        ValueError: the entropy model is one of other codebooks.
    """
    if len(file.codebook_sizes) > MAX_CODEBOOKS:
        raise DataError(
            f"{len(file.codebook_sizes)} codebooks, a .daec file has at most {MAX_CODEBOOKS}; write .npz instead"
        )
    coding, payload = _smallest(file, entropy_model)
    header = DaecHeader(
        model_hash=file.model_hash,
        quantizer=file.quantizer,
        sample_rate=file.sample_rate,
        model_sample_rate=file.model_sample_rate,
        num_samples=file.num_samples,
        num_streams=file.codes.shape[0],
        num_frames=file.codes.shape[2],
        codebook_sizes=file.codebook_sizes,
        gain_db=file.gain_db,
        coding=coding,
        entropy_model=entropy_model.fingerprint if entropy_model and coding in ENTROPY_CODINGS else "",
        payload_bytes=len(payload),
    ).to_json()
    content = FRONT.pack(MAGIC, VERSION, len(header)) + header + payload
    content += CRC.pack(zlib.crc32(content))
    if isinstance(target, str | Path):
        Path(target).write_bytes(content)
    else:
        target.write(content)


def read_daec(path: str | Path, entropy_model: EntropyModel | None = None) -> CodeFile:
    """Read what `write_daec` wrote, and check it; an entropy-coded file needs the model it was written with.

    Raises:
        DataError: the file is missing, damaged, not a `.daec` file, or entropy-coded with another model.
    """
    return parse_daec(read_content(path), path, entropy_model)


def read_daec_header(path: str | Path) -> DaecHeader:
    """What the file says of its codes; its checksum is held against all of it, the codes are not decoded.

    Raises:
        DataError: the file is missing, damaged, or not a `.daec` file.
    """
    header, _ = _parse_front(read_content(path), path)
    return header


def parse_daec(content: bytes, path: str | Path, entropy_model: EntropyModel | None = None) -> CodeFile:
    """As `read_daec`, of content that was read from `path`."""
    header, payload = _parse_front(content, path)
    if header.coding in ENTROPY_CODINGS and (not entropy_model or entropy_model.fingerprint != header.entropy_model):
        raise DataError(
            f"{path}: needs the entropy model {header.entropy_model} of the model {header.model_hash[:12]}; "
            "give the checkpoint that made it"
        )
    try:
        return CodeFile(
            codes=_decode(header, payload, entropy_model),
            sample_rate=header.sample_rate,
            num_samples=header.num_samples,
            model_sample_rate=header.model_sample_rate,
            codebook_sizes=header.codebook_sizes,
            model_hash=header.model_hash,
            gain_db=header.gain_db,
            quantizer=header.quantizer,
        )
    except ValueError as error:
        raise _invalid(path, error) from error


def _smallest(file: CodeFile, entropy_model: EntropyModel | None) -> tuple[str, bytes]:
    streams, _, frames = file.codes.shape
    # The size of a packing is known before: the one that is not taken is not made.
    coding = min(_PACKINGS, key=lambda name: _PACKINGS[name].num_bytes(streams, frames, file.codebook_sizes))
    found = {coding: _PACKINGS[coding].pack(file.codes, file.codebook_sizes)}
    if entropy_model is not None:
        _check_codebooks(file.codebook_sizes, entropy_model)
        if entropy_model.available:
            found |= {predictor: entropy_model.encode(file.codes, predictor) for predictor in PREDICTORS}
    return min(found.items(), key=lambda item: len(item[1]))


def _decode(header: DaecHeader, payload: bytes, entropy_model: EntropyModel | None) -> Codes:
    if header.coding in _PACKINGS:
        return _PACKINGS[header.coding].unpack(payload, header.num_streams, header.num_frames, header.codebook_sizes)
    assert entropy_model is not None
    _check_codebooks(header.codebook_sizes, entropy_model)
    predictor = next(name for name in PREDICTORS if name == header.coding)
    return entropy_model.decode(
        payload, header.num_streams, header.num_frames, predictor, num_codebooks=len(header.codebook_sizes)
    )


def _check_codebooks(codebook_sizes: tuple[int, ...], entropy_model: EntropyModel) -> None:
    if codebook_sizes != entropy_model.codebook_sizes[: len(codebook_sizes)]:
        raise ValueError(
            f"entropy model: expected one of codebooks of {_shown(codebook_sizes)} entries, "
            f"got one of {_shown(entropy_model.codebook_sizes)}"
        )


def _shown(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes[:16])) + (", …" if len(sizes) > 16 else "")


def _parse_front(content: bytes, path: str | Path) -> tuple[DaecHeader, bytes]:
    """The checked header, and the payload."""
    if not content.startswith(MAGIC):
        raise DataError(f"{path}: damaged, or not a .daec file; give one that discrete-ae encode wrote")
    if len(content) < FRONT.size + CRC.size:
        raise _damaged(path)
    _, version, header_bytes = FRONT.unpack_from(content)
    body = len(content) - CRC.size
    intact = CRC.unpack_from(content, body)[0] == zlib.crc32(memoryview(content)[:body])
    if intact and version != VERSION:
        raise DataError(f"{path}: has format version {version}, this program reads {VERSION}; update discrete-ae")
    start = FRONT.size + header_bytes
    if not intact or start > body:
        raise _damaged(path)
    try:
        header = DaecHeader.from_json(content[FRONT.size : start], body - start)
    except ValueError as error:
        raise _invalid(path, error) from error
    return header, content[start:body]


def _damaged(path: str | Path) -> DataError:
    return DataError(f"{path}: damaged, or cut off; copy it again, or encode the recording again")


def _invalid(path: str | Path, error: ValueError) -> DataError:
    return DataError(f"{path}: not a valid file of codes: {error}; encode the recording again")
