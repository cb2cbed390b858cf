"""Files of codes: integers to bytes and back.

Names are imported when they are first used: the formats need numpy and the range coder, the data set needs torch.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "container": (
        "CodeFile",
        "DaecHeader",
        "read_codes",
        "read_daec",
        "read_daec_header",
        "read_npy",
        "read_npz",
        "write_codes",
        "write_daec",
        "write_npy",
        "write_npz",
    ),
    "dataset": ("CodesDataset",),
    "entropy": ("EntropyModel",),
    "manifest": ("read_manifest",),
    "shards": ("write_memory_map", "write_tar_shards"),
}

__all__ = sorted(name for names in _MODULES.values() for name in names)


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
