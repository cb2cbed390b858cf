"""Roundings on a GPU: the values and gradients of a CPU, which the tests of tests/rounding hold to mathematics."""

import inspect

import pytest
import torch
from torch import Tensor

from discrete_ae import rounding
from discrete_ae.rounding import NoiseDropout, Rounding, Stochastic, UniformNoise
from tests.gpu.devices import on_each_device_every

KINDS = dict(
    inspect.getmembers(rounding, lambda kind: inspect.isclass(kind) and issubclass(kind, Rounding) and kind != Rounding)
)
every_rounding = on_each_device_every(list(KINDS), ("Sigmoid", "Fourier", "UniformNoise"))


def values_and_gradient(module: Rounding, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    out = module(x)
    out.sum().backward()
    return out.detach(), x.grad


@every_rounding
@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
def test_values_and_gradients_are_those_of_a_cpu(device: str, name: str, hard: bool) -> None:
    x = 3 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    module = KINDS[name](hard=hard).train()
    expected, expected_gradient = values_and_gradient(module, x)
    found, gradient = values_and_gradient(module.to(device), x.to(device))
    assert found.device.type == gradient.device.type == device
    if KINDS[name] in (NoiseDropout, Stochastic, UniformNoise):  # whose noise is that of the device
        assert (found.cpu() - x).abs().max() <= 1
    else:
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient.cpu(), expected_gradient, rtol=1e-4, atol=1e-4)


@every_rounding
def test_in_evaluation_it_is_exactly_round(device: str, name: str) -> None:
    x = torch.linspace(-4, 4, 8001, device=device)  # with every half
    assert torch.equal(KINDS[name]().to(device).eval()(x), torch.round(x))
