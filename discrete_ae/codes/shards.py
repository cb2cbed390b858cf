"""A folder of codes as few large files, for training on codes: tar shards, or one array that is mapped into memory.

Both are written from the manifest, one recording at a time, in the order of the keys; the same codes always give the
same bytes. No torch here.

Tar shards are those of WebDataset: `codes-000000.tar` with `<key>.npy`, the codes (S, K, T), and `<key>.json`, the
recording's entry of the manifest. The array is `codes.mmap`, of shape (K, all frames) in Fortran order: the codes of a
frame lie next to one another, then those of the next frame, so that a recording, and any stretch of it, is one piece of
the file; `recordings.jsonl` says at which frame each begins.

Axes: S streams, K codebooks, T frames.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from discrete_ae.codes.container import Codes, codes_dtype
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.entry import ManifestEntry, entry_json, read_entry, verify
from discrete_ae.codes.manifest import one_set, read_manifest
from discrete_ae.codes.shard_index import (
    ARRAY_NAME,
    INDEX_NAME,
    RECORDINGS_NAME,
    ShardIndex,
    ShardKind,
    whole_set,
    write_index,
)
from discrete_ae.errors import DataError

_BLOCK = 512  # of a tar: a header, and what contents are rounded up to


def write_shards(
    kind: ShardKind,
    folder: str | Path,
    out: str | Path,
    entries: Sequence[ManifestEntry] | None = None,
    *,
    overwrite: bool = False,
    entropy_model: EntropyModel | None = None,
) -> Path:
    """Put the codes of a folder together, as `write_tar_shards` or `write_memory_map` with their defaults."""
    write = {ShardKind.TAR: write_tar_shards, ShardKind.MMAP: write_memory_map}[kind]
    return write(folder, out, entries, overwrite=overwrite, entropy_model=entropy_model)


def write_tar_shards(
    folder: str | Path,
    out: str | Path,
    entries: Sequence[ManifestEntry] | None = None,
    *,
    max_bytes: int = 2**30,
    samples_per_shard: int | None = None,
    overwrite: bool = False,
    entropy_model: EntropyModel | None = None,
) -> Path:
    """Write WebDataset shards and return the path of their index.

    Args:
        folder: the files of codes.
        out: the folder for the shards.
        entries: which files; None takes those of the folder's manifest.
        max_bytes: no shard is larger, unless a single recording makes it so.
        samples_per_shard: recordings in a shard, at most.
        overwrite: whether a set that is there is replaced.
        entropy_model: of files that are entropy-coded.

    Raises:
        DataError: codes of different models or codebooks, two files with one key, a file that is not the one of the
            manifest, or an output that is there or cannot be written.
    """
    folder, out = Path(folder), Path(out)
    keyed = _keyed(folder, entries)
    index = _index(ShardKind.TAR, folder, keyed)
    names: list[str] = []
    with whole_set(out, overwrite) as staging:
        samples = _samples(folder, keyed, entropy_model)
        sample = next(samples, None)
        while sample is not None:
            names.append(f"codes-{len(names):06d}.tar")
            count = 0
            with tarfile.open(staging / names[-1], "w", format=tarfile.PAX_FORMAT) as archive:
                # A tar ends with at most one record of zeros.
                while sample is not None and (
                    count == 0
                    or (count != samples_per_shard and archive.offset + sample.size + tarfile.RECORDSIZE <= max_bytes)
                ):
                    for member, content in sample.members:
                        archive.addfile(member, io.BytesIO(content))
                    count += 1
                    sample = next(samples, None)
        write_index(staging, replace(index, files=tuple(names)))
    return out / INDEX_NAME


def write_memory_map(
    folder: str | Path,
    out: str | Path,
    entries: Sequence[ManifestEntry] | None = None,
    *,
    overwrite: bool = False,
    entropy_model: EntropyModel | None = None,
) -> Path:
    """Write one array of all codes, which `numpy.load(..., mmap_mode="r")` opens, and return the path of its index.

    Arguments and errors are those of `write_tar_shards`.
    """
    folder, out = Path(folder), Path(out)
    keyed = _keyed(folder, entries)
    index = replace(_index(ShardKind.MMAP, folder, keyed), files=(ARRAY_NAME,))
    sizes = index.code_set.codebook_sizes
    dtype = codes_dtype(sizes)
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": True,
        "shape": (len(sizes), index.frames),
    }
    with whole_set(out, overwrite) as staging:
        with (
            (staging / ARRAY_NAME).open("wb") as array,
            (staging / RECORDINGS_NAME).open("w", encoding="ascii", newline="\n") as recordings,
        ):
            np.lib.format.write_array_header_1_0(array, header)
            offset = 0
            for key, entry in keyed:
                codes = _checked(folder, entry, entropy_model)
                array.write(np.ascontiguousarray(codes.transpose(0, 2, 1), dtype).tobytes())
                recordings.write(json.dumps({"key": key, "offset": offset, **asdict(entry)}) + "\n")
                offset += entry.streams * entry.frames
        write_index(staging, index)
    return out / INDEX_NAME


def key_of(path: str) -> str:
    """The WebDataset key of a file of codes: its path without the suffix.

    A key ends at the first dot of the file's name, so that further dots are written %2E, and % itself %25.
    """
    pure = PurePosixPath(path)
    return pure.with_name(pure.stem.replace("%", "%25").replace(".", "%2E")).as_posix()


def keys_of(folder: Path, paths: Iterable[str]) -> list[str]:
    """The keys of the files of codes of a folder.

    Raises:
        DataError: two files have one key.
    """
    found: dict[str, str] = {}
    for path in paths:
        first = found.setdefault(key := key_of(path), path)
        if first != path:
            raise DataError(
                f"{folder}: {first} and {path} have the same name but for the suffix, {key}; remove one of them and "
                "its line in the manifest, or encode to another folder"
            )
    return list(found)


class _Keyed(NamedTuple):
    key: str
    entry: ManifestEntry


def _keyed(folder: Path, entries: Sequence[ManifestEntry] | None) -> list[_Keyed]:
    given = read_manifest(folder) if entries is None else entries
    keys = keys_of(folder, (entry.path for entry in given))
    return sorted(map(_Keyed, keys, given), key=lambda keyed: keyed.key)


class _Sample(NamedTuple):
    members: list[tuple[tarfile.TarInfo, bytes]]
    size: int
    """In a tar, with headers and padding."""


def _samples(folder: Path, keyed: Sequence[_Keyed], entropy_model: EntropyModel | None) -> Iterator[_Sample]:
    for key, entry in keyed:
        stream = io.BytesIO()
        codes = np.ascontiguousarray(_checked(folder, entry, entropy_model), codes_dtype(entry.codebook_sizes))
        np.lib.format.write_array(stream, codes, allow_pickle=False)
        members = []
        for suffix, content in (("npy", stream.getvalue()), ("json", entry_json(entry).encode())):
            member = tarfile.TarInfo(f"{key}.{suffix}")  # by default of owner 0 and time 0: equal codes, equal bytes
            member.size = len(content)
            members.append((member, content))
        size = sum(len(member.tobuf(tarfile.PAX_FORMAT)) + -(-member.size // _BLOCK) * _BLOCK for member, _ in members)
        yield _Sample(members, size)


def _checked(folder: Path, entry: ManifestEntry, entropy_model: EntropyModel | None) -> Codes:
    """Codes of an entry, from a file that is the one of the manifest to the byte."""
    verify(folder, entry)
    return read_entry(folder, entry, entropy_model)


def _index(kind: ShardKind, folder: Path, keyed: Sequence[_Keyed]) -> ShardIndex:
    entries = [entry for _, entry in keyed]
    frames = sum(entry.streams * entry.frames for entry in entries)
    return ShardIndex(kind, one_set(entries, folder), len(entries), frames, files=())
