"""Names of run folders, which are the names of runs in TensorBoard: quantizer, rate, seed, and what else was varied."""

import math
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from discrete_ae.build import build_model
from discrete_ae.errors import UserError


def register() -> None:
    """Make `${run_name:}` known to configurations, and `${run_name:KEY,...}`, which adds values of keys and groups."""
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)


def _run_name(*keys: str, _root_: DictConfig) -> str:
    choices = _root_.hydra.runtime.choices
    parts = [choices.quantizer, _rate(_root_), f"seed{_root_.seed}"]
    for key in keys:
        value = choices[key] if key in choices else OmegaConf.select(_root_, key)
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        # One folder, whatever the value is.
        parts.append(f"{key.rpartition('.')[2]}={shown}".replace("/", "_"))
    return "-".join(parts)


def _rate(config: DictConfig) -> str:
    """Return the nominal bitrate, such as "3.2kbps"."""
    try:
        with torch.device("meta"):
            model = build_model(cast(dict[str, Any], OmegaConf.to_container(config.model, resolve=True)))
    except (UserError, OmegaConfBaseException, RuntimeError):
        return "invalid"  # which the run itself will say in full
    return f"{model.bitrate_bps / 1000:.3g}kbps" if math.isfinite(model.bitrate_bps) else "unquantized"
