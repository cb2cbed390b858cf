"""Files of codes: integers to bytes and back, audio to integers and back.

Names are imported when they are first used: the container needs numpy alone, the codec needs torch.
"""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "CodeFile": "discrete_ae.codec.container",
    "read_npz": "discrete_ae.codec.container",
    "write_npz": "discrete_ae.codec.container",
    "decode_file": "discrete_ae.codec.codec",
    "encode_file": "discrete_ae.codec.codec",
}

__all__ = ["CodeFile", "decode_file", "encode_file", "read_npz", "write_npz"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
