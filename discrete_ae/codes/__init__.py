"""Files of codes: integers to bytes and back.

Names are imported on first access: the formats need numpy and the range coder, the data set needs torch.
"""

from importlib import import_module
from typing import Any, Literal

Format = Literal["npz", "npy", "daec"]
"""Format of a file of codes (container.py)."""
ShardKind = Literal["tar", "mmap", "parquet"]
"""Format of shards, which hold all codes of a folder (shards.py, parquet.py)."""

_MODULES = {
    "CodeFile": "code_file",
    "CodesDataset": "dataset",
    "EntropyModel": "entropy",
    "read_codes": "container",
    "read_daec_header": "container",
    "read_manifest": "manifest",
    "read_npy": "container",
    "write_codes": "container",
    "write_memory_map": "shards",
    "write_parquet_shards": "parquet",
    "write_tar_shards": "shards",
}

__all__ = ["Format", "ShardKind", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
