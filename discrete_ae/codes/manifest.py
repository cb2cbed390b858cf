"""The list of a folder of codes, `manifest.jsonl`: which file came of which recording, and how it is found intact.

One JSON object a line, sorted by path, so that two runs over the same recordings write the same bytes. Where several
processes share the work, each appends to a part of its own, `manifest-<share>-of-<shares>.jsonl`; whoever reads the
manifest reads the parts too, and `update_manifest` makes one file of all. No torch here.
"""

import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from discrete_ae.codes.entry import ManifestEntry, entry_json, parse_entry
from discrete_ae.errors import DataError
from discrete_ae.writing import written_whole

MANIFEST_NAME = "manifest.jsonl"
PART_PATTERN = "manifest-*-of-*.jsonl"


class Superseded(NamedTuple):
    """An entry that left the manifest, since its recording was encoded again to another file."""

    entry: ManifestEntry
    by: str
    """The path of the other."""


class CodeSet(NamedTuple):
    """What the codes of one set have in common: an embedding, or a language model, needs no more."""

    model_hash: str
    codebook_sizes: tuple[int, ...]


def write_manifest(folder: Path, entries: Iterable[ManifestEntry]) -> Path:
    """Write the manifest of a folder, whole or not at all, and return its path; OSError if that cannot be done."""
    ordered = sorted(entries, key=lambda entry: entry.path)
    target = folder / MANIFEST_NAME
    with written_whole(target) as temporary, temporary.open("w", encoding="ascii", newline="\n") as stream:
        stream.writelines(f"{entry_json(entry)}\n" for entry in ordered)
    return target


def manifest_part(folder: Path, share: int, shares: int) -> Path:
    """Return the path of the part of a manifest that one of several processes writes, `share` from 1 to `shares`."""
    return folder / f"manifest-{share}-of-{shares}.jsonl"


def append_entries(path: Path, entries: Iterable[ManifestEntry]) -> None:
    """Append entries to a part of a manifest; a last line that a killed process left unfinished goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        stream.seek(max(stream.tell() - 1, 0))
        if stream.read(1) not in (b"", b"\n"):
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.write("".join(f"{entry_json(entry)}\n" for entry in entries).encode("ascii"))


def has_manifest(folder: Path) -> bool:
    """Return whether a folder has a manifest, or a part of one."""
    return bool(_files(folder))


def update_manifest(folder: Path, entries: Sequence[ManifestEntry]) -> list[Superseded]:
    """Write the manifest with these entries, and those of other files that are still there, those of earlier runs.

    A recording is in the manifest once: where one of these entries has the source of an earlier one, by another format
    or another place in the folder, the earlier one goes. Its file stays. Sources are compared as absolute paths; a
    relative one is meant from the current folder, as when it was given. Parts of the manifest are joined to it.

    Returns:
        The entries that went so.

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
            superseded.append(Superseded(entry, by))
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
                entry = parse_entry(line)
            except ValueError as error:
                if number == len(lines) and not content.endswith(b"\n"):
                    break
                raise DataError(
                    f"{path}, line {number}: not an entry of a manifest: {error}; encode the folder again"
                ) from error
            entries[entry.path] = entry
    return entries


def one_set(entries: Sequence[ManifestEntry], folder: Path) -> CodeSet:
    """Return what all entries have in common.

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
