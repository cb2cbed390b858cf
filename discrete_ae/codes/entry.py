"""One file of codes as the manifest of its folder lists it: of which recording it came, and what it holds. No torch
here.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from discrete_ae.codes import fields
from discrete_ae.codes.container import CodeFile, Codes, read_codes, read_npy
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.entropy.tables import SYMBOLS_PER_BYTE
from discrete_ae.errors import DataError


@dataclass(frozen=True)
class ManifestEntry:
    """One file of codes.

    Raises:
        ValueError: if a field is not what it should be.
    """

    path: str
    """The file of codes: a POSIX path relative to the manifest's folder, which it does not leave."""
    source: str
    """The recording, as it was found."""
    duration_s: float
    """Of the recording."""
    sample_rate: int
    """Of the recording, in Hz."""
    num_samples: int
    """Of the recording, per channel."""
    streams: int
    """Coded one after the other: the channels of the recording for a mono model, otherwise 1."""
    codebook_sizes: tuple[int, ...]
    """Entries of each of the K codebooks in the file."""
    frames: int
    """Of one stream."""
    model_hash: str
    """The model that made the codes."""
    bytes: int
    """Length of the file of codes."""
    sha256: str
    """Of the file of codes, 64 hexadecimal digits."""

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or PurePosixPath(self.path).is_absolute() or ".." in parts:
            raise ValueError(f"path: expected one inside the manifest's folder, got {fields.shown(repr(self.path))}")
        for name in ("path", "source"):
            if not _can_be_a_name(getattr(self, name)):
                raise ValueError(f"{name}: expected the name of a file, got {fields.shown(ascii(getattr(self, name)))}")
        for name in ("sample_rate", "num_samples", "streams", "frames", "bytes"):
            if not 1 <= getattr(self, name) <= fields.MAX_INTEGER:
                shown = fields.shown(getattr(self, name))
                raise ValueError(f"{name}: expected at least 1, and below 2^63, got {shown}")
        if not (math.isfinite(self.duration_s) and self.duration_s > 0):
            raise ValueError(f"duration_s: expected seconds above 0, got {self.duration_s}")
        fields.check_sizes(self.codebook_sizes)
        # Of a file that is not entropy-coded, a code is a byte or more.
        most = (1 if PurePosixPath(self.path).suffix in (".npz", ".npy") else SYMBOLS_PER_BYTE) * self.bytes
        if self.streams * self.codebooks * self.frames > most:
            raise ValueError(
                f"bytes: {self.bytes} cannot hold {self.frames} frames of {self.codebooks} codebooks and "
                f"{self.streams} streams"
            )
        for name in ("model_hash", "sha256"):
            if not re.fullmatch("[0-9a-f]{64}", getattr(self, name)):
                shown = fields.shown(repr(getattr(self, name)))
                raise ValueError(f"{name}: expected 64 hexadecimal digits, got {shown}")

    @property
    def codebooks(self) -> int:
        """K."""
        return len(self.codebook_sizes)

    @property
    def bits_per_frame(self) -> float:
        """Nominal, of all streams together."""
        return self.streams * sum(math.log2(size) for size in self.codebook_sizes)


def describe(code_file: CodeFile, path: Path, folder: Path, source: Path) -> ManifestEntry:
    """The entry of a file of codes that was written.

    Args:
        code_file: what it holds.
        path: where it lies, below `folder`.
        folder: that of the manifest.
        source: the recording.

    Raises:
        DataError: the file cannot be read.
    """
    streams, _, frames = code_file.codes.shape
    return ManifestEntry(
        path=path.relative_to(folder).as_posix(),
        source=source.as_posix(),
        duration_s=code_file.duration_s,
        sample_rate=code_file.sample_rate,
        num_samples=code_file.num_samples,
        streams=streams,
        codebook_sizes=code_file.codebook_sizes,
        frames=frames,
        model_hash=code_file.model_hash,
        **_fingerprint(path),
    )


def entry_json(entry: ManifestEntry) -> str:
    """One line of a manifest: ASCII, so that any name of a file, also one that is no valid text, is kept."""
    return json.dumps(asdict(entry))


def parse_entry(line: str | bytes) -> ManifestEntry:
    """The entry that `entry_json` wrote.

    Raises:
        ValueError: if it is none.
    """
    return entry_of(fields.parse_object(line))


def entry_of(found: Mapping[str, Any]) -> ManifestEntry:
    """The entry of these fields; others are left out, so that later versions may have more of them.

    Raises:
        ValueError: if it is none.
    """
    texts = {name: fields.text(found, name) for name in ("path", "source", "model_hash", "sha256")}
    counts = ("sample_rate", "num_samples", "streams", "frames", "bytes")
    said: dict[str, Any] = {**texts, **{name: fields.integer(found, name) for name in counts}}
    sizes = fields.integers(found, "codebook_sizes")
    return ManifestEntry(duration_s=fields.number(found, "duration_s"), codebook_sizes=sizes, **said)


def verify(folder: Path, entry: ManifestEntry) -> None:
    """Check that the file of an entry is the one that was encoded, byte for byte.

    Raises:
        DataError: it is missing, or another.
    """
    if _fingerprint(folder / entry.path)["sha256"] != entry.sha256:
        raise DataError(
            f"{folder / entry.path}: not the file of the manifest (its SHA-256 differs); encode the recording again"
        )


def read_entry(folder: Path, entry: ManifestEntry, entropy_model: EntropyModel | None = None) -> Codes:
    """Codes (S, K, T) of the file of an entry, of any format.

    Raises:
        DataError: the file is missing or damaged, does not hold what the entry says, or needs another entropy model.
    """
    path = folder / entry.path
    try:
        if path.suffix == ".npy":  # which holds the codes alone
            codes = read_npy(path)
            fits = codes.shape[1] == entry.codebooks and bool((codes < np.array(entry.codebook_sizes)[:, None]).all())
        else:
            code_file = read_codes(path, entropy_model)
            codes = code_file.codes
            fits = (code_file.codebook_sizes, code_file.model_hash) == (entry.codebook_sizes, entry.model_hash)
    except OSError as error:  # of a name that is too long, for one
        raise _unreadable(path, error) from error
    if not fits or codes.shape != (entry.streams, entry.codebooks, entry.frames):
        raise DataError(f"{path}: does not hold what the manifest says; encode the recording again")
    return codes


def _fingerprint(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            return {"bytes": stream.tell(), "sha256": sha256}
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror}); encode the recording again")


def _can_be_a_name(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False
