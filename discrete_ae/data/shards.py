"""Write a folder of recordings as a few large tars in WebDataset's format, without changing a byte of any file."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from discrete_ae.data.files import name_of
from discrete_ae.data.index import find_audio
from discrete_ae.errors import DataError
from discrete_ae.tar_shards import keys_of, write_tars
from discrete_ae.writing import whole_folder


class Written(NamedTuple):
    """Summary of the shards."""

    shards: list[Path]
    recordings: int
    duration_s: float
    num_bytes: int
    """Total size of the shards."""


def write_shards(
    folder: str | Path, out: str | Path, max_bytes: int = 10**9, *, strict: bool = False, overwrite: bool = False
) -> Written:
    """Write the recordings below a folder to `shard-000000.tar`, …, sorted by key; equal inputs give equal bytes.

    A key is the path in the folder without its suffix; other dots in the name become %2E. Files not readable as
    audio are skipped with one warning.

    Args:
        folder: folder of the recordings.
        out: folder for the shards.
        max_bytes: maximum size of a shard, exceeded only by a single larger recording.
        strict: True to raise an error for an unreadable file, instead of skipping it.
        overwrite: True to replace existing shards.

    Raises:
        DataError: no recording is found, two recordings have the same key, or `out` already exists.
        OSError: a file cannot be read or written.
    """
    folder, out = Path(folder).expanduser(), Path(out)
    with whole_folder(out, ["shard-*.tar"], overwrite=overwrite) as staging:
        files = find_audio(folder, strict=strict).files
        if any(file.member for file in files):
            raise DataError(f"{folder}: its recordings are in tars already; index the tars, or give another folder")
        names = [name_of(file, folder) for file in files]
        keyed = sorted(zip(keys_of(folder, names, "rename one of them"), names, strict=True))
        shards = write_tars(staging, "shard", _samples(folder, keyed), max_bytes)
        total = sum((staging / name).stat().st_size for name in shards)
    return Written([out / name for name in shards], len(files), sum(file.duration_s for file in files), total)


def _samples(folder: Path, keyed: Iterable[tuple[str, str]]) -> Iterator[tuple[str, dict[str, BinaryIO]]]:
    for key, name in keyed:
        with (folder / name).open("rb") as file:
            yield key, {PurePosixPath(name).suffix: file}
