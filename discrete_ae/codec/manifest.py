"""The list of a folder of codes, `manifest.jsonl`: which file came of which recording, and how it is found intact.

One JSON object a line, sorted by path, so that two runs over the same recordings write the same bytes. No torch here.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from discrete_ae.codec.container import CodeFile, Codes, read_codes, read_npy
from discrete_ae.entropy_coding import EntropyModel
from discrete_ae.errors import DataError
from discrete_ae.writing import written_whole

MANIFEST_NAME = "manifest.jsonl"


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
            raise ValueError(f"path: expected one inside the manifest's folder, got {self.path!r}")
        for name in ("sample_rate", "num_samples", "streams", "frames", "bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not (math.isfinite(self.duration_s) and self.duration_s > 0):
            raise ValueError(f"duration_s: expected seconds above 0, got {self.duration_s}")
        if not self.codebook_sizes or min(self.codebook_sizes) < 2:
            raise ValueError(f"codebook_sizes: expected at least 2 entries in each, got {list(self.codebook_sizes)}")
        for name in ("model_hash", "sha256"):
            if not re.fullmatch("[0-9a-f]{64}", getattr(self, name)):
                raise ValueError(f"{name}: expected 64 hexadecimal digits, got {getattr(self, name)!r}")

    @property
    def codebooks(self) -> int:
        """K."""
        return len(self.codebook_sizes)

    @property
    def bits_per_frame(self) -> float:
        """Nominal, of all streams together."""
        return self.streams * sum(math.log2(size) for size in self.codebook_sizes)


class CodeSet(NamedTuple):
    """What the codes of one set have in common: an embedding, or a language model, needs no more."""

    model_hash: str
    codebook_sizes: tuple[int, ...]


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


def write_manifest(folder: Path, entries: Iterable[ManifestEntry]) -> Path:
    """Write the manifest of a folder, whole or not at all, and return its path.

    Raises:
        DataError: if it cannot be written.
    """
    ordered = sorted(entries, key=lambda entry: entry.path)
    target = folder / MANIFEST_NAME
    with written_whole(target) as temporary, temporary.open("w", encoding="ascii", newline="\n") as stream:
        stream.writelines(f"{entry_json(entry)}\n" for entry in ordered)
    return target


def update_manifest(folder: Path, entries: Sequence[ManifestEntry]) -> Path:
    """As `write_manifest`, and keep the entries of other files that are still there, those of earlier runs.

    Raises:
        DataError: if it cannot be written, or the one that is there cannot be read.
    """
    earlier = read_manifest(folder) if (folder / MANIFEST_NAME).is_file() else []
    new = {entry.path for entry in entries}
    kept = [entry for entry in earlier if entry.path not in new and (folder / entry.path).is_file()]
    return write_manifest(folder, [*kept, *entries])


def entry_json(entry: ManifestEntry) -> str:
    """One line of a manifest: ASCII, so that any name of a file, also one that is no valid text, is kept."""
    return json.dumps(asdict(entry))


def read_manifest(path: str | Path) -> list[ManifestEntry]:
    """Read and check a manifest.

    Args:
        path: the file, or the folder in which it is `manifest.jsonl`.

    Raises:
        DataError: it is missing, or a line of it is no entry or names a file a second time.
    """
    path = Path(path)
    path = path / MANIFEST_NAME if path.is_dir() else path
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); give the folder that discrete-ae encode wrote for a folder"
        ) from error
    entries: dict[str, ManifestEntry] = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = parse_entry(line)
            if entry.path in entries:
                raise ValueError(f"{entry.path} stands in it twice")
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: not an entry of a manifest: {error}; encode the folder again"
            ) from error
        entries[entry.path] = entry
    return list(entries.values())


def parse_entry(line: str | bytes) -> ManifestEntry:
    """The entry that `entry_json` wrote.

    Raises:
        ValueError: if it is none.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError too
        raise ValueError("not JSON") from error
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    return entry_of(found)


def entry_of(found: Mapping[str, Any]) -> ManifestEntry:
    """The entry of these fields; others are left out, so that later versions may have more of them.

    Raises:
        ValueError: if it is none.
    """
    return ManifestEntry(
        **{name: _typed(found, name, str) for name in ("path", "source", "model_hash", "sha256")},
        **{name: _typed(found, name, int) for name in ("sample_rate", "num_samples", "streams", "frames", "bytes")},
        duration_s=float(_typed(found, "duration_s", (int, float))),
        codebook_sizes=tuple(_integer(size, "codebook_sizes") for size in _typed(found, "codebook_sizes", list)),
    )


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


def one_set(entries: Sequence[ManifestEntry], folder: Path) -> CodeSet:
    """What all entries have in common.

    Raises:
        DataError: there are none, or their codes are of different models or codebooks: equal integers would mean
            different things.
    """
    if not entries:
        raise DataError(f"{folder}: its manifest is empty; encode a folder of recordings first")
    first = entries[0]
    for entry in entries:
        if entry.model_hash != first.model_hash:
            raise DataError(
                f"{folder}: {first.path} and {entry.path} are codes of different models ({first.model_hash[:12]} and "
                f"{entry.model_hash[:12]}); encode all recordings with one checkpoint"
            )
        if entry.codebook_sizes != first.codebook_sizes:
            raise DataError(
                f"{folder}: {first.path} has {first.codebooks} codebooks and {entry.path} {entry.codebooks}, or of "
                "other sizes; encode all recordings with the same number of codebooks"
            )
    return CodeSet(first.model_hash, first.codebook_sizes)


def _fingerprint(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            return {"bytes": stream.tell(), "sha256": sha256}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); encode the recording again") from error


def _typed(found: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    if name not in found:
        raise ValueError(f"{name} missing")
    value = found[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name}: got {value!r:.60}")
    return value


def _integer(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name}: expected integers, got {value!r:.60}")
    return value
