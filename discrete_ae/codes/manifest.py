"""The manifest of a folder of codes, `manifest.jsonl`: the recording and the checksum of each file of codes.

It has one JSON object per line, sorted by path, so that two runs over the same recordings write the same bytes. Several
processes each append to their own part, `manifest-<share>-of-<shares>.jsonl`. Readers of the manifest read the parts
too, and `update_manifest` merges all into one file. No torch here.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

import numpy as np
from pydantic import AfterValidator, model_validator

from discrete_ae.codes.code_file import (
    SYMBOLS_PER_BYTE,
    Codes,
    CodesInfo,
    Count,
    FileInfo,
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
    if b"\0" in os.fsencode(name):  # fsencode raises a ValueError (UnicodeEncodeError) for an impossible name
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
    """POSIX path of the file of codes, relative to the manifest's folder and inside of it."""
    source: FileName
    """Path of the recording, as found."""
    bytes: Count
    """Length of the file of codes."""
    sha256: Sha256
    """SHA-256 of the file of codes."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        # Without entropy coding, a code takes at least one byte.
        check_room(self.shape, self.bytes, 1 if self.path.endswith((".npz", ".npy")) else SYMBOLS_PER_BYTE)
        return self

    def to_json(self, **more: Any) -> str:
        """Return one line in ASCII, with the fields of `more` first; escapes keep names that are not valid Unicode."""
        front = {"path": self.path, "source": self.source, "duration_s": self.duration_s}
        return json.dumps({**more, **front, **self.model_dump()})


def describe(info: FileInfo, path: Path, folder: Path, source: Path) -> ManifestEntry:
    """Return the entry of a written file of codes.

    Args:
        info: contents of the file, or its header.
        path: path of the file, below `folder`.
        folder: folder of the manifest.
        source: path of the recording.

    Raises:
        OSError: the file cannot be read.
    """
    size, sha256 = _fingerprint(path)
    names = {"path": path.relative_to(folder).as_posix(), "source": source.as_posix()}
    return ManifestEntry.of({**info.info, **names, "bytes": size, "sha256": sha256})


def read_entry(
    folder: Path, entry: ManifestEntry, entropy_model: EntropyModel | None = None, *, verify: bool = False
) -> Codes:
    """Read the codes (S, K, T) of an entry's file, in any format.

    Args:
        folder: folder of the manifest.
        entry: entry of the file.
        entropy_model: entropy model of entropy-coded files.
        verify: True to check the SHA-256 of the file.

    Raises:
        OSError: the file cannot be read.
        DataError: the file is damaged, does not match the entry, or needs another entropy model.
    """
    path = folder / entry.path
    if verify and _fingerprint(path)[1] != entry.sha256:
        raise DataError(f"{path}: its SHA-256 differs from the manifest's; encode the recording again")
    if path.suffix == ".npy":  # holds the codes alone
        codes = read_npy(path)
        fits = codes.shape[1] == entry.codebooks and bool((codes < np.array(entry.codebook_sizes)[:, None]).all())
    else:
        code_file = read_codes(path, entropy_model)
        codes = code_file.codes
        fits = (code_file.codebook_sizes, code_file.model_hash) == (entry.codebook_sizes, entry.model_hash)
    if not fits or codes.shape != entry.shape:
        raise DataError(f"{path}: does not match the manifest; encode the recording again")
    return codes


def write_manifest(folder: Path, entries: Iterable[ManifestEntry]) -> None:
    """Write the manifest of a folder, whole or not at all.

    Raises:
        OSError: the manifest cannot be written.
    """
    ordered = sorted(entries, key=lambda entry: entry.path)
    with written_whole(folder / MANIFEST_NAME) as path, path.open("w", encoding="ascii", newline="\n") as stream:
        stream.writelines(f"{entry.to_json()}\n" for entry in ordered)


def append_entry(folder: Path, share: int, shares: int, entry: ManifestEntry) -> None:
    """Append an entry to the part of the manifest of one process: number `share`, from 1 to `shares`.

    An incomplete last line, left by a killed process, is removed.
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
    """Write the manifest with these entries, and with entries of earlier runs whose files still exist.

    The manifest lists each recording once. If a new entry has the same source as an earlier entry, but another format
    or another place in the folder, the earlier entry is dropped; its file stays. Sources are compared as absolute
    paths, where a relative source is relative to the current folder. Parts of the manifest are merged into the file.

    Returns:
        The dropped entries, each with the path of the new file of its recording.

    Raises:
        OSError: the manifest cannot be written, or the existing one cannot be read.
        DataError: the existing manifest is damaged.
    """
    kept, superseded = entries_beside(folder, {entry.path: entry.source for entry in entries})
    write_manifest(folder, [*kept, *entries])
    for path in _files(folder):
        if path.name != MANIFEST_NAME:
            path.unlink(missing_ok=True)
    return superseded


def entries_beside(
    folder: Path, sources: Mapping[str, str]
) -> tuple[list[ManifestEntry], list[tuple[ManifestEntry, str]]]:
    """Return the entries of earlier runs that `update_manifest` keeps, and those that it drops.

    Args:
        folder: folder of the manifest.
        sources: sources of the new entries, by path.

    Raises:
        OSError: the manifest cannot be read.
        DataError: the manifest is damaged.
    """
    real_path = cache(os.path.realpath)

    def place(source: str) -> tuple[str, str]:
        """Return the folder of a recording, with links resolved, and the name there, which is not resolved."""
        parent, name = os.path.split(source)
        return real_path(parent), name

    by_place = {place(source): path for path, source in sources.items()}
    kept, superseded = [], []
    for entry in _newest(_files(folder)).values():
        if entry.path in sources or not os.path.isfile(folder / entry.path):  # noqa: PTH113  of any name
            continue
        if by := by_place.get(place(entry.source)):
            superseded.append((entry, by))
        else:
            kept.append(entry)
    return kept, superseded


def read_manifest(path: str | Path) -> list[ManifestEntry]:
    """Read and check a manifest; of several entries with the same path, the newest is taken.

    A recording that was encoded again in another format has two paths that differ only in the suffix, until the parts
    of the manifest are merged. Of these entries too, the newest is taken.

    Args:
        path: path of a manifest, or of the folder that holds `manifest.jsonl` or its parts.

    Raises:
        OSError: the manifest cannot be read.
        DataError: a line is not an entry. An incomplete last line, left by a killed process, is ignored.
    """
    path = Path(path)
    files = _files(path) or [path / MANIFEST_NAME] if path.is_dir() else [path]
    newest = _newest(files).values()
    return list({(PurePosixPath(entry.path).with_suffix(""), entry.source): entry for entry in newest}.values())


def one_set(entries: Sequence[ManifestEntry], folder: Path) -> ManifestEntry:
    """Check that all entries have the same model and codebooks, and return the first entry.

    Raises:
        DataError: there are no entries, or their models or codebooks differ, so that equal codes would have different
            meanings.
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
                f"{folder}: {first.path} has {first.codebooks} codebooks and {entry.path} has {entry.codebooks}, or "
                "their sizes differ; encode all recordings with the same number of codebooks"
            )
    return first


def _files(folder: Path) -> list[Path]:
    """Return the manifest of a folder and its parts, the most recently written last."""
    found = [path for pattern in (MANIFEST_NAME, PART_PATTERN) for path in folder.glob(pattern)]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def _newest(files: Iterable[Path]) -> dict[str, ManifestEntry]:
    """Return the entries of several files by path, the newest last; a later entry replaces an earlier one."""
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
                    f"{path}, line {number}: not a valid entry: {error}; encode the folder again"
                ) from error
            entries.pop(entry.path, None)  # so that the entry comes last
            entries[entry.path] = entry
    return entries


def _fingerprint(path: Path) -> tuple[int, str]:
    """Return the length and SHA-256 of a file."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return stream.tell(), sha256
