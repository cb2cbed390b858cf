"""A folder of recordings as few large files: WebDataset's tars, in which they lie byte for byte as they are."""

import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from discrete_ae.data.files import name_of
from discrete_ae.data.index import find_audio
from discrete_ae.errors import DataError
from discrete_ae.tar_shards import Content, TarShards, keys_of
from discrete_ae.writing import whole_folder

OWN_FILES = ("shard-*.tar",)


class Written(NamedTuple):
    """What was written."""

    shards: list[Path]
    recordings: int
    duration_s: float
    num_bytes: int
    """Of all shards."""


def write_shards(
    folder: str | Path, out: str | Path, max_bytes: int = 10**9, *, strict: bool = False, overwrite: bool = False
) -> Written:
    """Write `shard-000000.tar`, … of the recordings below a folder, sorted by their keys; the same make the same bytes.

    A key is the path in the folder without its suffix, in which further dots are written %2E. Files that cannot be read
    as audio are left out, and named in one warning.

    Args:
        folder: of the recordings.
        out: the folder for the shards.
        max_bytes: no shard is larger, unless a single recording makes it so.
        strict: whether the first file that cannot be read is raised instead.
        overwrite: whether shards that are there are replaced.

    Raises:
        DataError: no recording is found, two have one key, or `out` exists already.
        OSError: a file cannot be read or written.
    """
    folder, out = Path(folder).expanduser(), Path(out)
    with whole_folder(out, OWN_FILES, overwrite=overwrite) as staging:
        files = find_audio(folder, strict=strict).files
        if any(file.member for file in files):
            raise DataError(f"{folder}: its recordings lie in tars already; index these, or give another folder")
        names = [name_of(file, folder) for file in files]
        keyed = sorted(zip(keys_of(folder, names, "rename one of them"), names, strict=True))
        with TarShards(staging, "shard", max_bytes) as shards:
            for key, name in keyed:
                with (folder / name).open("rb") as content:
                    size = os.fstat(content.fileno()).st_size
                    shards.add(key, [Content(PurePosixPath(name).suffix, size, content)])
        total = sum((staging / name).stat().st_size for name in shards.names)
    return Written([out / name for name in shards.names], len(files), sum(file.duration_s for file in files), total)
