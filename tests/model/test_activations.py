"""Snake and ELU against their formulas and autograd, and what they keep for the backward."""

import pytest
import torch
from torch import Tensor

from discrete_ae.model import activations
from discrete_ae.model.activations import ELU, Snake


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 50, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    above = torch.randn(3, 4, 50, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.tensor([0.3, 1.0, 2.0, -1.5], dtype=torch.float64), above


def of(alpha: Tensor) -> Snake:
    module = Snake(len(alpha)).to(alpha.dtype)
    with torch.no_grad():
        module.alpha.copy_(alpha)
    return module


def plain(x: Tensor, alpha: Tensor) -> Tensor:
    return x + torch.sin(alpha[:, None] * x).square() / alpha[:, None]


def value_and_gradients(function, x: Tensor, alpha: Tensor, above: Tensor) -> list[Tensor]:
    y = function(x)
    return [y.detach(), *torch.autograd.grad(y, (x, alpha), above)]


@pytest.mark.parametrize("piece", [1, 100, 10**6])  # one row at a time, some, all
def test_value_and_gradients_are_those_of_the_formula(monkeypatch, piece):
    monkeypatch.setattr(activations, "PIECE", piece)
    x, alpha, above = inputs()
    module, reference = of(alpha), alpha.clone().requires_grad_()
    found = value_and_gradients(module, x, module.alpha, above)
    expected = value_and_gradients(lambda x: plain(x, reference), x, reference, above)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)  # 1e-9 is added to alpha
    strided, apart = (torch.stack([t, t], dim=-1).detach()[..., 0] for t in (x, above))
    assert not strided.is_contiguous()
    again = value_and_gradients(module, strided.requires_grad_(), module.alpha, apart)
    assert all(torch.equal(*pair) for pair in zip(again, found, strict=True))


def test_alpha_of_zero_is_the_identity():
    x = torch.tensor([[[-2.0, 0.0, 3.0]]], requires_grad=True)
    module = of(torch.zeros(1))
    y = module(x)
    assert torch.equal(y, x)
    of_x, of_alpha = torch.autograd.grad(y.sum(), (x, module.alpha))
    assert torch.equal(of_x, torch.ones_like(x))
    assert torch.isfinite(of_alpha).all()


def test_one_activation_is_kept():
    x, alpha, _ = inputs(torch.float32)
    snake, kept = of(alpha.float()), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        snake(x)
        y = ELU()(x)
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr(), snake.alpha.data_ptr(), y.data_ptr()]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, alpha, above = inputs(dtype)
    module = of(alpha.float())
    found = value_and_gradients(module, x, module.alpha, above)
    single = x.detach().float().requires_grad_()
    expected = value_and_gradients(module, single, module.alpha, above.float())
    assert found[0].dtype == dtype
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        assert torch.equal(ours, theirs.to(dtype))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not be instantiated")  # in Dynamo
@pytest.mark.filterwarnings("ignore:.torch.jit.script.* is deprecated:DeprecationWarning")
def test_compiled_is_the_same_with_its_gradients():
    tolerances = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}
    given = {dtype: inputs(dtype) for dtype in tolerances}
    modules = [of(alpha.to(torch.promote_types(dtype, torch.float32))) for dtype, (_, alpha, _) in given.items()]

    def each(*signals: Tensor) -> list[Tensor]:  # one compilation for all of them
        return [module(x) for module, x in zip(modules, signals, strict=True)]

    signals, _, above = zip(*given.values(), strict=True)
    values = torch.compile(each, fullgraph=True)(*signals)
    for module, x, y, gradient, tolerance in zip(modules, signals, values, above, tolerances.values(), strict=True):
        found = [y.detach(), *torch.autograd.grad(y, (x, module.alpha), gradient, retain_graph=True)]
        expected = value_and_gradients(module, x, module.alpha, gradient)
        torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_elu_is_pytorchs_with_its_gradient(dtype):
    x = torch.linspace(-4, 4, 81, dtype=dtype, requires_grad=True)
    above = torch.linspace(-1, 2, 81, dtype=dtype)
    y, expected = ELU()(x), torch.nn.functional.elu(x)
    assert torch.equal(y, expected)
    found, wanted = (torch.autograd.grad(value, x, above)[0] for value in (y, expected))
    # Theirs computes exp(x), ours y + 1.
    torch.testing.assert_close(found, wanted, atol=5e-3 if dtype == torch.bfloat16 else 1e-6, rtol=0)
