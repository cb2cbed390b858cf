"""Training with Lightning.

Names are imported when they are first used: `train --help` and a sweep's folders need no Lightning.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "AdversarialModule": "adversarial",
    "AutoencoderModule": "module",
    "TrainingRun": "parts",
    "build_training": "parts",
    "train": "run",
    "typed_config": "parts",
}

__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
