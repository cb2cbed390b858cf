"""Files of codes: integers to bytes and back, audio to integers and back.

Names are imported when they are first used: the container needs numpy and the range coder, the codec needs torch.
"""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "CodesDataset": "discrete_ae.codec.dataset",
    "read_manifest": "discrete_ae.codec.manifest",
    "write_memory_map": "discrete_ae.codec.shards",
    "write_tar_shards": "discrete_ae.codec.shards",
    "CodeFile": "discrete_ae.codec.container",
    "read_npz": "discrete_ae.codec.container",
    "write_npz": "discrete_ae.codec.container",
    "read_codes": "discrete_ae.codec.container",
    "read_daec": "discrete_ae.codec.container",
    "read_daec_header": "discrete_ae.codec.container",
    "read_npy": "discrete_ae.codec.container",
    "write_codes": "discrete_ae.codec.container",
    "write_daec": "discrete_ae.codec.container",
    "write_npy": "discrete_ae.codec.container",
    "DaecHeader": "discrete_ae.codec.container",
    "decode_file": "discrete_ae.codec.codec",
    "decode_files": "discrete_ae.codec.codec",
    "encode_file": "discrete_ae.codec.codec",
    "encode_files": "discrete_ae.codec.codec",
}

__all__ = [
    "CodeFile",
    "CodesDataset",
    "DaecHeader",
    "decode_file",
    "decode_files",
    "encode_file",
    "encode_files",
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
