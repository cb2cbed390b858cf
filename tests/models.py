"""Small models with random weights, as configurations and as checkpoints."""

from pathlib import Path
from typing import Any

import torch

from discrete_ae.saving.checkpoint import KEY, STATE_PREFIX, describe_model

SPECTRAL = {"channels": 1, "hop_length": 320, "dim": 16, "depth": 1}

RESIDUAL = {
    "_target_": "discrete_ae.quantizers.ResidualQuantizer",
    "num_stages": 4,
    "stage": {
        "_target_": "discrete_ae.quantizers.VectorQuantizer",
        "_partial_": True,
        "codebook_size": 16,
        "num_codebooks": 1,
        "codebook_dim": 8,
    },
}


def config(
    hop_length: int = 320, sample_rate: int = 16000, quantizer: Any = None, channels: int = 1, causal: bool = False
) -> dict[str, Any]:
    """Return the configuration of a spectral model, by default with 8 codebooks of 256 entries."""
    coder = SPECTRAL | {"hop_length": hop_length, "channels": channels, "causal": causal}
    return {
        "_target_": "discrete_ae.model.DiscreteAutoencoder",
        "sample_rate": sample_rate,
        "encoder": {"_target_": "discrete_ae.model.SpectralEncoder"} | coder,
        "quantizer": quantizer
        or {
            "_target_": "discrete_ae.quantizers.ScalarQuantizer",
            "levels": [4, 4, 4, 4],
            "num_codebooks": 8,
            "rounding": {"_target_": "discrete_ae.rounding.StraightThrough"},
        },
        "decoder": {"_target_": "discrete_ae.model.SpectralDecoder"} | coder,
    }


def save_checkpoint(path: Path, seed: int = 0, **settings: Any) -> Path:
    """Write a checkpoint of such a model."""
    from discrete_ae.build import build_model

    torch.manual_seed(seed)
    model = build_model(config(**settings))
    state = {STATE_PREFIX + name: tensor for name, tensor in model.state_dict().items()}
    torch.save({KEY: describe_model(model, config(**settings)), "state_dict": state}, path)
    return path
