"""Write a folder of codes as Parquet, for pyarrow, pandas, DuckDB and Hugging Face's `datasets`. No torch here.

`codes-000000.parquet`, … have a row for each stream of a recording: `key`, `stream`, `codes` (K, T) as nested lists of
the smallest unsigned integers, and the fields of the recording's entry in the manifest. `index.json` is the same as for
other shards (shards.py).

Axes: K codebooks, T frames.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow.parquet import ParquetFile, ParquetWriter

from discrete_ae.codes.code_file import Codes, check_codes, codes_dtype
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.manifest import ManifestEntry, read_entry
from discrete_ae.codes.shards import INDEX_NAME, OWN_FILES, keyed_entries, write_index
from discrete_ae.errors import DataError
from discrete_ae.writing import whole_folder

ROW_GROUP_BYTES = 2**24
"""Size of the codes in a row group, uncompressed; readers load one row group at a time."""
_AGAIN = "copy it again, or write the shards again"


def write_parquet_shards(
    folder: str | Path,
    out: str | Path,
    entries: Sequence[ManifestEntry] | None = None,
    *,
    max_bytes: int = 2**28,
    overwrite: bool = False,
    entropy_model: EntropyModel | None = None,
) -> Path:
    """Write Parquet files of the codes of a folder, and return the path of their index.

    Arguments and errors are those of `write_tar_shards`, except that `max_bytes` limits the uncompressed size of the
    codes in a file. Bytes in names that are not UTF-8 are escaped, such as \\\\xff.
    """
    folder = Path(folder)
    keyed = keyed_entries(folder, entries)
    names: list[str] = []
    with whole_folder(Path(out), OWN_FILES, overwrite=overwrite) as staging:
        with ExitStack() as last:
            written = 0
            for rows in _row_groups(folder, keyed, entropy_model, min(max_bytes, ROW_GROUP_BYTES)):
                table = _table(rows, codes_dtype(keyed[0][1].codebook_sizes))
                size = sum(row["codes"].nbytes for row in rows)
                if not names or written + size > max_bytes:
                    last.close()
                    names.append(f"codes-{len(names):06d}.parquet")
                    written = 0
                    writer = last.enter_context(ParquetWriter(staging / names[-1], table.schema, compression="zstd"))
                writer.write_table(table)
                written += size
        write_index(staging, "parquet", keyed, names)
    return Path(out, INDEX_NAME)


class ParquetCodes:
    """The codes of Parquet files; a whole row group is read for any stretch of a stream.

    Args:
        folder: folder of the files.
        names: names of the files, in order.

    Raises:
        DataError: a file is damaged or missing.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.entries: list[ManifestEntry] = []
        self.keys: list[str] = []
        self._places: list[list[tuple[Path, int, int]]] = []  # file, row group and row of each stream
        for path in (folder / name for name in names):
            with _opened(path) as file:
                columns = [name for name in file.schema_arrow.names if name != "codes"]
                for group in range(file.num_row_groups):
                    rows = file.read_row_group(group, columns, use_threads=False).to_pylist()
                    for row, fields in enumerate(rows):
                        if fields["stream"] == 0:
                            self.entries.append(ManifestEntry.parse(json.dumps(fields)))
                            self.keys.append(str(fields["key"]))
                            self._places.append([])
                        expected, got = (len(self._places[-1]), self.keys[-1]), (fields["stream"], fields["key"])
                        if expected != got:
                            raise ValueError("expected stream {} of {}, got stream {} of {}".format(*expected, *got))
                        self._places[-1].append((path, group, row))
        for entry, places in zip(self.entries, self._places, strict=True):
            if len(places) != entry.streams:
                raise DataError(f"{folder}: found {len(places)} of {entry.streams} streams of {entry.path}; {_AGAIN}")

    def read(self, recording: int, stream: int, start: int, stop: int) -> Codes:
        """Return codes (K, stop - start) of a stream of a recording, from frame `start` on.

        Raises:
            DataError: the file is damaged or missing.
        """
        path, group, row = self._places[recording][stream]
        entry = self.entries[recording]
        with _opened(path) as file:
            found = file.read_row_group(group, ["codes"], use_threads=False)["codes"][row].values
            if found.value_lengths().to_pylist() != [entry.frames] * entry.codebooks:
                raise ValueError(f"expected {entry.codebooks} codebooks of {entry.frames} codes")
            codes: Codes = found.flatten().to_numpy().reshape(entry.codebooks, entry.frames)
            check_codes(codes[None], entry.codebook_sizes)
        return codes[:, start:stop]


@contextmanager
def _opened(path: Path) -> Iterator[ParquetFile]:
    """Open a file of the set only for the block, so that worker processes keep no file open."""
    try:
        with ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged or missing ({' '.join(str(error).split())[:200]}); {_AGAIN}") from error


def _row_groups(
    folder: Path, keyed: Sequence[tuple[str, ManifestEntry]], entropy_model: EntropyModel | None, max_bytes: int
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of all streams in lists with up to `max_bytes` of codes; a larger stream has a list of its own."""
    rows: list[dict[str, Any]] = []
    size = 0
    for key, entry in keyed:
        dtype = codes_dtype(entry.codebook_sizes)
        for stream, codes in enumerate(read_entry(folder, entry, entropy_model, verify=True).astype(dtype)):
            row = {"key": key, "stream": stream, "codes": codes, "duration_s": entry.duration_s, **entry.model_dump()}
            if rows and size + codes.nbytes > max_bytes:
                yield rows
                rows, size = [], 0
            rows.append(row)
            size += codes.nbytes
    yield rows


def _table(rows: Sequence[dict[str, Any]], dtype: np.dtype[Any]) -> pa.Table:
    columns = {name: pa.array([_plain(row[name]) for row in rows]) for name in rows[0] if name != "codes"}
    columns["codes"] = _nested([row["codes"] for row in rows], dtype)
    return pa.table({name: columns[name] for name in rows[0]})


def _nested(codes: Sequence[Codes], dtype: np.dtype[Any]) -> pa.Array:
    """Return the codes (K, T) of several streams as lists of K lists of T integers."""
    frames = pa.array(np.cumsum([0, *(one.shape[1] for one in codes for _ in one)]), pa.int32())
    rows = pa.array(np.cumsum([0, *(len(one) for one in codes)]), pa.int32())
    values = pa.array(np.concatenate([one.reshape(-1) for one in codes]), pa.from_numpy_dtype(dtype))
    return pa.ListArray.from_arrays(rows, pa.ListArray.from_arrays(frames, values))


def _plain(value: Any) -> Any:
    """Return the value, with escapes for file names that are not valid Unicode, which Arrow does not accept."""
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return value
