"""Files of codes: integers to bytes and back.

Names are imported when they are first used: the formats need numpy and the range coder, the data set needs torch.
"""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "CodesDataset": "discrete_ae.codes.dataset",
    "read_manifest": "discrete_ae.codes.manifest",
    "write_memory_map": "discrete_ae.codes.shards",
    "write_tar_shards": "discrete_ae.codes.shards",
    "CodeFile": "discrete_ae.codes.container",
    "read_npz": "discrete_ae.codes.container",
    "write_npz": "discrete_ae.codes.container",
    "read_codes": "discrete_ae.codes.container",
    "read_daec": "discrete_ae.codes.container",
    "read_daec_header": "discrete_ae.codes.container",
    "read_npy": "discrete_ae.codes.container",
    "write_codes": "discrete_ae.codes.container",
    "write_daec": "discrete_ae.codes.container",
    "write_npy": "discrete_ae.codes.container",
    "DaecHeader": "discrete_ae.codes.container",
}

__all__ = [
    "CodeFile",
    "CodesDataset",
    "DaecHeader",
    "read_codes",
    "read_daec",
    "read_daec_header",
    "read_manifest",
    "read_npy",
    "read_npz",
    "write_codes",
    "write_daec",
    "write_memory_map",
    "write_npy",
    "write_npz",
    "write_tar_shards",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
