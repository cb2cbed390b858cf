"""ELU against PyTorch's, and what it keeps for the backward."""

import pytest
import torch

from discrete_ae.model.activations import ELU


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_value_and_gradient_are_pytorchs(dtype):
    x = torch.linspace(-4, 4, 81, dtype=dtype, requires_grad=True)
    above = torch.linspace(-1, 2, 81, dtype=dtype)
    y, expected = ELU()(x), torch.nn.functional.elu(x)
    assert torch.equal(y, expected)
    found, wanted = (torch.autograd.grad(value, x, above)[0] for value in (y, expected))
    # Theirs computes exp(x), ours y + 1.
    torch.testing.assert_close(found, wanted, atol=5e-3 if dtype == torch.bfloat16 else 1e-6, rtol=0)


def test_the_only_tensor_kept_is_the_result():
    x, kept = torch.randn(3, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        y = ELU()(x)
    assert [tensor.data_ptr() for tensor in kept] == [y.data_ptr()]
