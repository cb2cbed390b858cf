"""Write a folder of codes as a few large files for training: tar shards, or one memory-mapped array.

Parquet has its own module (parquet.py), since it needs pyarrow. All formats are written from the manifest, one
recording at a time, in the order of the keys; the same codes always give the same bytes. `index.json` describes the
set. No torch here.

Tar shards have WebDataset's format: `codes-000000.tar` with `<key>.npy`, the codes (S, K, T), and `<key>.json`, the
recording's entry in the manifest. The memory-mapped array is `codes.mmap`, of shape (K, all frames) in Fortran order:
frame after frame, with the codes of a frame next to one another. Any stretch of a stream is therefore one range of the
file; `recordings.jsonl` gives the first frame of each recording.

Axes: S streams, K codebooks, T frames.
"""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import numpy as np
from pydantic import Field

from discrete_ae import tar_shards
from discrete_ae.codes import ShardKind
from discrete_ae.codes.code_file import CodebookSizes, Count, Sha256, codes_dtype
from discrete_ae.codes.container import in_smallest_type, npy_bytes
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.manifest import ManifestEntry, one_set, read_entry, read_manifest
from discrete_ae.records import Record
from discrete_ae.tar_shards import write_tars
from discrete_ae.writing import whole_folder

INDEX_NAME = "index.json"
ARRAY_NAME = "codes.mmap"
RECORDINGS_NAME = "recordings.jsonl"
OWN_FILES = (INDEX_NAME, ARRAY_NAME, RECORDINGS_NAME, "codes-*.tar", "codes-*.parquet")


class ShardIndex(Record):
    """Contents of `index.json`."""

    format: Literal["discrete-ae codes"] = "discrete-ae codes"
    format_version: Literal[1] = 1
    model_hash: Sha256
    codebook_sizes: CodebookSizes
    kind: ShardKind
    recordings: Count
    frames: Count
    """Number of frames in all streams of all recordings."""
    files: tuple[str, ...]
    """Names of the tars or Parquet files in order, or of the array."""


class ShardRow(ManifestEntry):
    """A line of `recordings.jsonl`."""

    key: str
    offset: Annotated[int, Field(ge=0)]
    """First frame of the first stream in the array; the other streams follow."""


def write_tar_shards(
    folder: str | Path,
    out: str | Path,
    entries: Sequence[ManifestEntry] | None = None,
    *,
    max_bytes: int = 2**30,
    overwrite: bool = False,
    entropy_model: EntropyModel | None = None,
) -> Path:
    """Write WebDataset shards of the codes of a folder, and return the path of their index.

    Args:
        folder: folder of the files of codes.
        out: folder for the shards.
        entries: entries of the files to include; None for all entries of the folder's manifest.
        max_bytes: maximum size of a shard, exceeded only by a single larger recording.
        overwrite: True to replace an existing set.
        entropy_model: entropy model of entropy-coded files.

    Raises:
        OSError: a file cannot be read or written.
        DataError: models or codebooks differ, two files have the same key, a file differs from its entry in the
            manifest, or the output exists.
    """
    keyed = keyed_entries(Path(folder), entries)

    def samples() -> Iterator[tuple[str, dict[str, BinaryIO]]]:
        for key, entry in keyed:
            codes = in_smallest_type(read_entry(Path(folder), entry, entropy_model, verify=True), entry.codebook_sizes)
            yield key, {".npy": io.BytesIO(npy_bytes(codes)), ".json": io.BytesIO(entry.to_json().encode())}

    with whole_folder(Path(out), OWN_FILES, overwrite=overwrite) as staging:
        write_index(staging, "tar", keyed, write_tars(staging, "codes", samples(), max_bytes))
    return Path(out, INDEX_NAME)


def write_memory_map(
    folder: str | Path,
    out: str | Path,
    entries: Sequence[ManifestEntry] | None = None,
    *,
    overwrite: bool = False,
    entropy_model: EntropyModel | None = None,
) -> Path:
    """Write one array of all codes for `numpy.load(..., mmap_mode="r")`, and return the path of its index.

    Arguments and errors are those of `write_tar_shards`.
    """
    keyed = keyed_entries(Path(folder), entries)
    with whole_folder(Path(out), OWN_FILES, overwrite=overwrite) as staging:
        index = write_index(staging, "mmap", keyed, [ARRAY_NAME])
        header = {
            "descr": np.lib.format.dtype_to_descr(codes_dtype(index.codebook_sizes)),
            "fortran_order": True,
            "shape": (len(index.codebook_sizes), index.frames),
        }
        with (
            (staging / ARRAY_NAME).open("wb") as array,
            (staging / RECORDINGS_NAME).open("w", encoding="ascii", newline="\n") as recordings,
        ):
            np.lib.format.write_array_header_1_0(array, header)
            offset = 0
            for key, entry in keyed:
                codes = read_entry(Path(folder), entry, entropy_model, verify=True)
                array.write(in_smallest_type(codes.transpose(0, 2, 1), index.codebook_sizes).tobytes())
                recordings.write(entry.to_json(key=key, offset=offset) + "\n")
                offset += entry.streams * entry.frames
    return Path(out, INDEX_NAME)


def keys_of(folder: Path, paths: Iterable[str]) -> list[str]:
    """Return the WebDataset keys of the files of codes of a folder.

    Raises:
        DataError: two files have the same key.
    """
    advice = "remove one of them and its line in the manifest, or encode to another folder"
    return tar_shards.keys_of(folder, paths, advice)


def keyed_entries(folder: Path, entries: Sequence[ManifestEntry] | None) -> list[tuple[str, ManifestEntry]]:
    """Return entries with their keys, sorted by key; None for all entries of the folder's manifest.

    Raises:
        OSError: the manifest cannot be read.
        DataError: models or codebooks differ, or two files have the same key.
    """
    entries = read_manifest(folder) if entries is None else entries
    one_set(entries, folder)  # check before the long work
    keys = keys_of(folder, (entry.path for entry in entries))
    return sorted(zip(keys, entries, strict=True), key=lambda keyed: keyed[0])


def write_index(
    staging: Path, kind: ShardKind, keyed: Sequence[tuple[str, ManifestEntry]], files: Sequence[str]
) -> ShardIndex:
    """Write the index of a set into `staging`, and return the index."""
    index = ShardIndex(
        model_hash=keyed[0][1].model_hash,
        codebook_sizes=keyed[0][1].codebook_sizes,
        kind=kind,
        recordings=len(keyed),
        frames=sum(entry.streams * entry.frames for _, entry in keyed),
        files=tuple(files),
    )
    (staging / INDEX_NAME).write_text(json.dumps(index.model_dump(), indent=1) + "\n", encoding="ascii")
    return index
