"""The list of a folder of codes, `manifest.jsonl`: which file came of which recording, and how it is found intact.

One JSON object a line, sorted by path, so that two runs over the same recordings write the same bytes. Where several
processes share the work, each appends to a part of its own, `manifest-<share>-of-<shares>.jsonl`; whoever reads the
manifest reads the parts too, and `update_manifest` makes one file of all. No torch here.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

import numpy as np
from pydantic import AfterValidator, model_validator

from discrete_ae.codes.code_file import (
    SYMBOLS_PER_BYTE,
    CodeFile,
    Codes,
    CodesInfo,
    Count,
    Sha256,
    check_room,
    parse_object,
)
from discrete_ae.codes.container import read_codes, read_npy
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.errors import DataError
from discrete_ae.writing import written_whole

MANIFEST_NAME = "manifest.jsonl"
PART_PATTERN = "manifest-*-of-*.jsonl"


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
        check_room(self.shape, self.bytes, 1 if self.path.endswith((".npz", ".npy")) else SYMBOLS_PER_BYTE)
        return self

    def to_json(self, **more: Any) -> str:
        """Return one line, after `more`: ASCII, so that any name of a file, also one that is no valid text, is kept."""
        front = {"path": self.path, "source": self.source, "duration_s": self.duration_s}
        return json.dumps({**more, **front, **self.model_dump()})


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
    size, sha256 = _fingerprint(path)
    names = {"path": path.relative_to(folder).as_posix(), "source": source.as_posix()}
    return ManifestEntry.of({**code_file.info, **names, "bytes": size, "sha256": sha256})


def read_entry(
    folder: Path, entry: ManifestEntry, entropy_model: EntropyModel | None = None, *, verify: bool = False
) -> Codes:
    """Return codes (S, K, T) of the file of an entry, of any format.

    Args:
        folder: that of the manifest.
        entry: which file.
        entropy_model: of files that are entropy-coded.
        verify: whether the file must be the one that was encoded, byte for byte.

    Raises:
        OSError: the file cannot be read.
        DataError: it is damaged, does not hold what the entry says, or needs another entropy model.
    """
    path = folder / entry.path
    if verify and _fingerprint(path)[1] != entry.sha256:
        raise DataError(f"{path}: not the file of the manifest (its SHA-256 differs); encode the recording again")
    if path.suffix == ".npy":  # which holds the codes alone
        codes = read_npy(path)
        fits = codes.shape[1] == entry.codebooks and bool((codes < np.array(entry.codebook_sizes)[:, None]).all())
    else:
        code_file = read_codes(path, entropy_model)
        codes = code_file.codes
        fits = (code_file.codebook_sizes, code_file.model_hash) == (entry.codebook_sizes, entry.model_hash)
    if not fits or codes.shape != entry.shape:
        raise DataError(f"{path}: does not hold what the manifest says; encode the recording again")
    return codes


def write_manifest(folder: Path, entries: Iterable[ManifestEntry]) -> None:
    """Write the manifest of a folder, whole or not at all; OSError if that cannot be done."""
    ordered = sorted(entries, key=lambda entry: entry.path)
    with written_whole(folder / MANIFEST_NAME) as path, path.open("w", encoding="ascii", newline="\n") as stream:
        stream.writelines(f"{entry.to_json()}\n" for entry in ordered)


def append_entry(folder: Path, share: int, shares: int, entry: ManifestEntry) -> None:
    """Append to the part of a manifest that one of several processes writes, `share` from 1 to `shares`.

    A last line that a killed process left unfinished goes.
    """
    path = folder / f"manifest-{share}-of-{shares}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        stream.seek(max(stream.tell() - 1, 0))
        if stream.read(1) not in (b"", b"\n"):
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.write(f"{entry.to_json()}\n".encode("ascii"))


def has_manifest(folder: Path) -> bool:
    """Return whether a folder has a manifest, or a part of one."""
    return bool(_files(folder))


def update_manifest(folder: Path, entries: Sequence[ManifestEntry]) -> list[tuple[ManifestEntry, str]]:
    """Write the manifest with these entries, and those of other files that are still there, those of earlier runs.

    A recording is in the manifest once: where one of these entries has the source of an earlier one, by another format
    or another place in the folder, the earlier one goes. Its file stays. Sources are compared as absolute paths; a
    relative one is meant from the current folder, as when it was given. Parts of the manifest are joined to it.

    Returns:
        The entries that went so, each with the path of the file that its recording is in now.

    Raises:
        OSError: if it cannot be written, or the one that is there cannot be read.
        DataError: the one that is there is damaged.
    """
    files = _files(folder)
    real_path = cache(os.path.realpath)

    def place(source: str) -> tuple[str, str]:
        """Where a recording lies: links to folders are followed, and a file that is a link is one of its own."""
        parent, name = os.path.split(source)
        return real_path(parent), name

    paths, by_place = {entry.path for entry in entries}, {place(entry.source): entry.path for entry in entries}
    kept, superseded = [], []
    for entry in _newest(files).values():
        if entry.path in paths or not os.path.isfile(folder / entry.path):  # noqa: PTH113  of any name
            continue
        if by := by_place.get(place(entry.source)):
            superseded.append((entry, by))
        else:
            kept.append(entry)
    write_manifest(folder, [*kept, *entries])
    for path in files:
        if path.name != MANIFEST_NAME:
            path.unlink(missing_ok=True)
    return superseded


def read_manifest(path: str | Path) -> list[ManifestEntry]:
    """Read and check a manifest; of several entries of one path the newest counts.

    Args:
        path: the file; or the folder in which it is `manifest.jsonl`, or parts of it are.

    Raises:
        OSError: it cannot be read.
        DataError: a line of it is no entry, but for a last one that a killed process cut short.
    """
    path = Path(path)
    files = _files(path) or [path / MANIFEST_NAME] if path.is_dir() else [path]
    return list(_newest(files).values())


def one_set(entries: Sequence[ManifestEntry], folder: Path) -> ManifestEntry:
    """Return an entry whose model and codebooks are those of all: an embedding, or a language model, needs no more.

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
    return first


def _files(folder: Path) -> list[Path]:
    """The manifest of a folder and its parts, the one that was written last at the end."""
    found = [path for pattern in (MANIFEST_NAME, PART_PATTERN) for path in folder.glob(pattern)]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def _newest(files: Iterable[Path]) -> dict[str, ManifestEntry]:
    """The entries of several files by path; a later one takes the place of an earlier."""
    entries: dict[str, ManifestEntry] = {}
    for path in files:
        content = path.read_bytes()
        lines = content.splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                entry = ManifestEntry.of(parse_object(line))
            except ValueError as error:
                if number == len(lines) and not content.endswith(b"\n"):
                    break
                raise DataError(
                    f"{path}, line {number}: not an entry of a manifest: {error}; encode the folder again"
                ) from error
            entries[entry.path] = entry
    return entries


def _fingerprint(path: Path) -> tuple[int, str]:
    """Length and SHA-256."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return stream.tell(), sha256
