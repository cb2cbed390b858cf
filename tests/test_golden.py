"""Files of released versions are read to the same integers (tests/golden/README.md)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import discrete_ae

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["checkpoint_v1.ckpt", "bundle_v1"])
def test_models_of_schema_1_give_the_same_codes(name: str) -> None:
    expected = json.loads((GOLDEN / "codes_v1.json").read_text())
    n = np.arange(1000)
    signal = (37 * n * n + 11 * n) % 201 - 100  # whole numbers below 2^7: exact in float32
    model = discrete_ae.load(GOLDEN / name)
    codes = discrete_ae.Codec(model).encode(torch.from_numpy(signal / 128).float()[None, None])
    assert codes.tolist() == expected["codes"]
    assert model.model_hash == expected["model_hash"]
    assert model.entropy_model is not None
    assert model.entropy_model.fingerprint == expected["entropy_model"]
