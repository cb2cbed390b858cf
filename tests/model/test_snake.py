"""Snake against its formula and autograd, and what it keeps for the backward."""

import pytest
import torch
from torch import Tensor

from discrete_ae.model import activations
from discrete_ae.model.activations import Snake


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


@pytest.mark.parametrize("piece", [1, 100, 10**6])  # one row at a time, some, all
def test_value_and_gradients_are_those_of_the_formula(monkeypatch, piece):
    monkeypatch.setattr(activations, "PIECE", piece)
    x, alpha, above = inputs()
    module, reference = of(alpha), alpha.clone().requires_grad_()
    y, expected = module(x), plain(x, reference)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-8)  # 1e-9 is added to alpha
    found = torch.autograd.grad(y, (x, module.alpha), above)
    wanted = torch.autograd.grad(expected, (x, reference), above)
    for pair in zip(found, wanted, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-6, atol=1e-7)


def test_alpha_of_zero_is_the_identity():
    x = torch.tensor([[[-2.0, 0.0, 3.0]]], requires_grad=True)
    module = of(torch.zeros(1))
    y = module(x)
    assert torch.equal(y, x)
    of_x, of_alpha = torch.autograd.grad(y.sum(), (x, module.alpha))
    assert torch.equal(of_x, torch.ones_like(x))
    assert torch.isfinite(of_alpha).all()


def test_the_only_activation_kept_is_the_input():
    x, alpha, _ = inputs(torch.float32)
    module, kept = of(alpha.float()), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        module(x)
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr(), module.alpha.data_ptr()]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, alpha, above = inputs(dtype)
    module = of(alpha.float())
    y = module(x)
    single = x.detach().float().requires_grad_()
    expected = module(single)
    assert y.dtype == dtype
    assert torch.equal(y, expected.to(dtype))
    assert torch.equal(
        torch.autograd.grad(y, x, above)[0], torch.autograd.grad(expected, single, above.float())[0].to(dtype)
    )


def test_what_is_not_contiguous_gives_the_same():
    x, alpha, above = inputs()
    module = of(alpha)
    strided = torch.stack([x, x], dim=-1).detach()[..., 0].requires_grad_()
    assert not strided.is_contiguous()
    assert torch.equal(module(strided), module(x))
    apart = torch.stack([above, above], dim=-1)[..., 0]
    assert torch.equal(
        torch.autograd.grad(module(strided), strided, apart)[0], torch.autograd.grad(module(x), x, above)[0]
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not be instantiated")  # in Dynamo
@pytest.mark.filterwarnings("ignore:.torch.jit.script.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_compiled_is_the_same_with_its_gradients(dtype):
    x, alpha, above = inputs(dtype)
    module = of(alpha.to(torch.promote_types(dtype, torch.float32)))
    compiled = torch.compile(module, fullgraph=True)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(compiled(x), module(x), rtol=tolerance, atol=tolerance)
    found = torch.autograd.grad(compiled(x), (x, module.alpha), above)
    wanted = torch.autograd.grad(module(x), (x, module.alpha), above)
    for pair in zip(found, wanted, strict=True):
        torch.testing.assert_close(*pair, rtol=tolerance, atol=10 * tolerance)
