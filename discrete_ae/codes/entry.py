"""One file of codes as the manifest of its folder lists it: of which recording it came, and what it holds. No torch
here.
"""

import hashlib
import json
import os
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

import numpy as np
from pydantic import AfterValidator, model_validator

from discrete_ae.codes.arrays import Codes
from discrete_ae.codes.code_file import CodeFile, CodesInfo, Count, Sha256, parse_object
from discrete_ae.codes.container import read_codes, read_npy
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.entropy.tables import SYMBOLS_PER_BYTE
from discrete_ae.errors import DataError


def _file_name(name: str) -> str:
    if b"\0" in os.fsencode(name):  # UnicodeEncodeError, which is a ValueError, for a text that no name can be
        raise ValueError("expected the name of a file")
    return name


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts:
        raise ValueError("expected a path inside the manifest's folder")
    return path


FileName = Annotated[str, AfterValidator(_file_name)]


class ManifestEntry(CodesInfo):
    """One file of codes."""

    path: Annotated[FileName, AfterValidator(_inside)]
    """The file of codes: a POSIX path relative to the manifest's folder, which it does not leave."""
    source: FileName
    """The recording, as it was found."""
    bytes: Count
    """Length of the file of codes."""
    sha256: Sha256
    """Of the file of codes."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        # Of a file that is not entropy-coded, a code is a byte or more.
        self.check_room(self.bytes, 1 if self.path.endswith((".npz", ".npy")) else SYMBOLS_PER_BYTE)
        return self

    def fields(self) -> dict[str, Any]:
        """Return the fields of a line of a manifest, in their order."""
        front = {"path": self.path, "source": self.source, "duration_s": self.duration_s}
        return {**front, **self.model_dump()}


def describe(code_file: CodeFile, path: Path, folder: Path, source: Path) -> ManifestEntry:
    """Return the entry of a file of codes that was written.

    Args:
        code_file: what it holds.
        path: where it lies, below `folder`.
        folder: that of the manifest.
        source: the recording.

    Raises:
        OSError: the file cannot be read.
    """
    names = {"path": path.relative_to(folder).as_posix(), "source": source.as_posix()}
    return ManifestEntry.of({**code_file.info.model_dump(), **names, **_fingerprint(path)})


def entry_json(entry: ManifestEntry) -> str:
    """Return one line of a manifest: ASCII, so that any name of a file, also one that is no valid text, is kept."""
    return json.dumps(entry.fields())


def parse_entry(line: str | bytes) -> ManifestEntry:
    """Return the entry that `entry_json` wrote.

    Raises:
        ValueError: if it is none.
    """
    return ManifestEntry.of(parse_object(line))


def verify(folder: Path, entry: ManifestEntry) -> None:
    """Check that the file of an entry is the one that was encoded, byte for byte.

    Raises:
        OSError: it cannot be read.
        DataError: it is another.
    """
    if _fingerprint(folder / entry.path)["sha256"] != entry.sha256:
        raise DataError(
            f"{folder / entry.path}: not the file of the manifest (its SHA-256 differs); encode the recording again"
        )


def read_entry(folder: Path, entry: ManifestEntry, entropy_model: EntropyModel | None = None) -> Codes:
    """Return codes (S, K, T) of the file of an entry, of any format.

    Raises:
        OSError: the file cannot be read.
        DataError: it is damaged, does not hold what the entry says, or needs another entropy model.
    """
    path = folder / entry.path
    if path.suffix == ".npy":  # which holds the codes alone
        codes = read_npy(path)
        fits = codes.shape[1] == entry.codebooks and bool((codes < np.array(entry.codebook_sizes)[:, None]).all())
    else:
        code_file = read_codes(path, entropy_model)
        codes = code_file.codes
        fits = (code_file.codebook_sizes, code_file.model_hash) == (entry.codebook_sizes, entry.model_hash)
    if not fits or codes.shape != (entry.streams, entry.codebooks, entry.frames):
        raise DataError(f"{path}: does not hold what the manifest says; encode the recording again")
    return codes


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"bytes": stream.tell(), "sha256": sha256}
