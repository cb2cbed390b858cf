"""What every set of shards has, of tars or one array: `index.json`, written last, and all files or none of them."""

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from discrete_ae.codes import fields
from discrete_ae.codes.manifest import CodeSet
from discrete_ae.errors import DataError

INDEX_NAME = "index.json"
ARRAY_NAME = "codes.mmap"
RECORDINGS_NAME = "recordings.jsonl"
SHARD_PATTERN = "codes-*.tar"
FORMAT = "discrete-ae codes"
FORMAT_VERSION = 1


class ShardKind(StrEnum):
    """How the codes of a folder are put together."""

    TAR = "tar"
    MMAP = "mmap"


@dataclass(frozen=True)
class ShardIndex:
    """What a set of shards holds."""

    kind: ShardKind
    code_set: CodeSet
    recordings: int
    frames: int
    """Of all streams of all recordings."""
    files: tuple[str, ...]
    """The names of the tars in order, or of the array."""


def write_index(folder: Path, index: ShardIndex) -> Path:
    """Write `index.json` into a folder and return its path; OSError if that cannot be done."""
    target = folder / INDEX_NAME
    said = asdict(index)
    code_set = said.pop("code_set")
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, **code_set._asdict(), **said}
    target.write_text(json.dumps(content, indent=1) + "\n", encoding="ascii")
    return target


def read_index(folder: Path) -> ShardIndex:
    """Read and check `index.json`.

    Raises:
        DataError: it is missing, of a later version, or damaged, or a file that it names is missing.
    """
    path = folder / INDEX_NAME
    try:
        found = fields.parse_object(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); give the folder that discrete-ae encode --shards wrote"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: damaged; write the shards again") from error
    if found.get("format") != FORMAT:
        raise DataError(f"{path}: not the index of shards; give the folder that discrete-ae encode --shards wrote")
    if found.get("format_version") != FORMAT_VERSION:
        version = fields.shown(found.get("format_version"))
        raise DataError(
            f"{path}: has format version {version}, this program reads {FORMAT_VERSION}; update discrete-ae"
        )
    try:
        index = _parsed(found)
        for name in index.files:
            if not (folder / name).is_file():
                raise DataError(
                    f"{folder / name}: missing, though the index names it; copy it again, or write the shards"
                )
    except (OSError, ValueError) as error:  # OSError of a name that is too long
        raise DataError(f"{path}: damaged ({fields.shown(error)}); write the shards again") from error
    return index


def _parsed(found: dict[str, Any]) -> ShardIndex:
    kind = ShardKind(fields.text(found, "kind"))
    names = fields.texts(found, "files")
    if not names or (kind is ShardKind.MMAP and len(names) > 1):
        raise ValueError(f"files: expected one array, or at least one tar, got {len(names)}")
    if wrong := [name for name in names if Path(name).name != name or "\0" in name or not name.isprintable()]:
        raise ValueError(f"files: expected names of files beside the index, got {wrong[0]!r}")
    sizes = fields.integers(found, "codebook_sizes")
    fields.check_sizes(sizes)
    return ShardIndex(
        kind=kind,
        code_set=CodeSet(fields.text(found, "model_hash"), sizes),
        recordings=fields.integer(found, "recordings"),
        frames=fields.integer(found, "frames"),
        files=names,
    )


@contextmanager
def whole_set(out: Path, overwrite: bool) -> Iterator[Path]:
    """A folder to write a set into, whose files go to `out` together; nothing of it stays if that fails.

    Raises:
        DataError: `out` holds a set already and is not to be overwritten, or it cannot be written.
    """
    staging = out / f".{uuid.uuid4().hex}.tmp"
    try:
        # The index goes first and comes last, so that no set with a part of its files looks whole.
        patterns = (INDEX_NAME, ARRAY_NAME, RECORDINGS_NAME, SHARD_PATTERN)
        old = [path for pattern in patterns for path in sorted(out.glob(pattern))]
        if old and not overwrite:
            raise DataError(f"{old[0]}: exists already; use --force to overwrite it")
        staging.mkdir(parents=True)
        try:
            yield staging
            for path in old:
                path.unlink()
            for path in sorted(staging.iterdir(), key=lambda path: path.name == INDEX_NAME):
                path.replace(out / path.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{error.filename or out}: cannot be written ({error.strerror}); give another output"
        ) from error
