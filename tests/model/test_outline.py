"""Outlines against PyTorch's own meta device, which computes all shapes and types itself."""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from discrete_ae.build import build_model
from discrete_ae.cli.overrides import compose_config
from discrete_ae.model.outline import without_memory

ROOT = Path(__file__).parents[2]
CONFIGS = [
    f"{group}={path.relative_to(ROOT / 'conf' / group).with_suffix('').as_posix()}"
    for group in ("quantizer", "model")
    for path in sorted((ROOT / "conf" / group).rglob("*.yaml"))
]
WEIGHT_NORM = "experiment=dac_like"


@functools.cache
def config_of(override: str) -> Any:
    return OmegaConf.to_container(compose_config([override]).model, resolve=True)


def described(tensors: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype, torch.device]]:
    return {name: (tensor.shape, tensor.dtype, tensor.device) for name, tensor in tensors.items()}


def shapes(model: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype, torch.device]]:
    return described(dict(model.state_dict()) | dict(model.named_buffers()))


@pytest.mark.parametrize("override", [*CONFIGS, WEIGHT_NORM])
def test_an_outline_has_the_shapes_and_types_of_pytorchs_own(override: str) -> None:
    with torch.device("meta"):
        expected = shapes(build_model(config_of(override)))
    with without_memory():
        assert shapes(build_model(config_of(override))) == expected


def test_results_have_the_shapes_and_types_of_pytorchs_own() -> None:
    def made() -> dict[str, Tensor]:
        whole, half = torch.arange(1, 8, 2), torch.rand(3, 1, dtype=torch.float16)
        single, double = torch.randn(4), torch.arange(4, dtype=torch.float64)
        found = [
            whole,
            half,
            single,
            double,
            torch.arange(0.0, 1.0, 0.25),
            whole + 1,
            whole / 2,
            whole > 2,
            half * single,
        ]
        found += [single * double, double[0] * single, torch.where(whole > 2, half, 0.5), half.add(single, alpha=2)]
        found += [torch.complex(single, single), torch.cat([half, half], dim=1), torch.cat([half, half], dim=-2)]
        found += [torch.cat([single, double]), torch.cat([whole]), torch.norm_except_dim(torch.randn(5, 3, 2), 2, 0)]
        found += [
            torch.norm_except_dim(torch.randn(5, 3, 2), 2, 2),
            torch.ops.aten.norm(torch.randn(3, 2), 2, [-1]),
            torch.ops.aten.norm(torch.complex(single, single), 2, [-1]),
            single.clamp(max=1),
        ]
        return {str(place): tensor for place, tensor in enumerate(found)}

    with torch.device("meta"):
        expected = described(made())
    with without_memory():
        assert described(made()) == expected


def test_what_does_not_fit_is_refused() -> None:
    with without_memory(), pytest.raises((ValueError, RuntimeError)):
        torch.rand(3) + torch.rand(4)


def test_an_outline_of_any_configuration_needs_no_compiler() -> None:
    code = (
        "import json, sys\n"
        "from discrete_ae.build import build_model\n"
        "from discrete_ae.model.outline import without_memory\n"
        "for config in json.load(sys.stdin):\n"
        "    with without_memory(): build_model(config)\n"
        "    assert not {'torch._dynamo', 'sympy'} & set(sys.modules), config"
    )
    configs = json.dumps([config_of(override) for override in (*CONFIGS, WEIGHT_NORM)])
    done = subprocess.run([sys.executable, "-c", code], input=configs, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
