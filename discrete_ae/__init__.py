"""Discrete audio autoencoders: audio to integer codes and back, with a choice of quantizers.

Names are imported on first use, so that `from discrete_ae import rounding` needs only torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_EXPORTS = {
    "Codec": "discrete_ae.codec",
    "DiscreteAutoencoder": "discrete_ae.model",
    "compare_runs": "discrete_ae.compare.report",
    "decode_corpus": "discrete_ae.codec",
    "encode_corpus": "discrete_ae.codec",
    "evaluate": "discrete_ae.evaluation.evaluate",
    "load": "discrete_ae.build",
}

__all__ = ["Codec", "DiscreteAutoencoder", "compare_runs", "decode_corpus", "encode_corpus", "evaluate", "load"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'discrete_ae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
