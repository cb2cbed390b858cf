"""Write a folder of codes as Parquet, for pyarrow, pandas, DuckDB and Hugging Face's `datasets`. No torch here.

`codes-000000.parquet`, … have a row for each stream of a recording: `key`, `stream`, `codes` (K, T) as nested lists of
the smallest unsigned integers, and the fields of the recording's entry in the manifest. `index.json` is the same as for
other shards (shards.py).

Axes: K codebooks, T frames.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from discrete_ae.codes.code_file import Codes, codes_dtype
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.manifest import ManifestEntry, read_entry
from discrete_ae.codes.shards import INDEX_NAME, OWN_FILES, keyed_entries, write_index
from discrete_ae.writing import whole_folder

ROW_GROUP_BYTES = 2**24
"""Size of the codes in a row group, uncompressed; readers load one row group at a time."""


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
    codes in a file. Bytes of names that are not UTF-8 are written like \\\\xff.
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
