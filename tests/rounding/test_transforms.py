"""torch.func through every rounding: vmap is the loop, jvp the slope times the tangent, grad of grad its derivative."""

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian, jvp, vmap

from discrete_ae.rounding import EXAMPLES, CustomGradient, Rounding, base, soft_round_inverse

# torch's own: what it imports for forward derivatives.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script.* is deprecated:DeprecationWarning")

OWN = CustomGradient(lambda x: x - torch.sin(2 * torch.pi * x) / (2 * torch.pi))
BUILT = {str(OWN): OWN} | {
    f"{cls.__name__}-{arguments}-hard={hard}": cls(**arguments, hard=hard)
    for cls, arguments in EXAMPLES
    for hard in (True, False)
}
every_rounding = pytest.mark.parametrize("name", BUILT)
in_both_modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Without gradients a tensor is done in pieces; here in several."""
    monkeypatch.setattr(base, "PIECE", 5)


def draws(rounding: Rounding, x: Tensor) -> bool:
    return rounding.training and not torch.equal(rounding(x), rounding(x))


@in_both_modes
@every_rounding
def test_vmap_is_the_loop(name, training):
    rounding = BUILT[name].train(training)
    x = torch.linspace(-2.3, 2.4, 24).view(2, 3, 4)
    if draws(rounding, x):
        with pytest.raises(RuntimeError, match="randomness"):
            vmap(rounding)(x)
        values = vmap(rounding, randomness="different")(torch.full((2, 1000), 0.3))
        assert values.shape == (2, 1000)
        assert not torch.equal(values[0], values[1])
        same = vmap(rounding, randomness="same")(torch.full((2, 1000), 0.3))
        assert torch.equal(same[0], same[1])
        return
    for with_gradients in (True, False):
        with torch.set_grad_enabled(with_gradients):
            for dim in range(3):
                expected = torch.stack([rounding(part) for part in x.unbind(dim)], dim)
                torch.testing.assert_close(vmap(rounding, dim, dim)(x), expected, rtol=1e-6, atol=1e-6)


@in_both_modes
@every_rounding
def test_derivatives_in_both_directions_are_the_slope(name, training):
    rounding = BUILT[name].train(training)
    x = torch.linspace(-2.3, 2.4, 24, dtype=torch.float64)
    tangent = torch.linspace(-1, 2, 24, dtype=torch.float64)
    slope = rounding.slope(x)
    for with_gradients in (True, False):
        with torch.set_grad_enabled(with_gradients):
            torch.testing.assert_close(jvp(rounding, (x,), (tangent,))[1], slope * tangent)
            torch.testing.assert_close(vmap(grad(rounding), randomness="different")(x), slope)
    rows, row_tangents = x.view(4, 6), tangent.view(4, 6)
    pushed = vmap(lambda x, t: jvp(rounding, (x,), (t,))[1], randomness="different")(rows, row_tangents)
    torch.testing.assert_close(pushed, slope.view(4, 6) * row_tangents)


@every_rounding
def test_second_derivatives_are_the_change_of_the_slope(name):
    rounding = BUILT[name].train()
    # Off the multiples of 1/20, where ramps have kinks.
    x, h = torch.arange(-20, 20, dtype=torch.float64) / 10 + 0.037, 1e-5
    expected = (rounding.slope(x + h) - rounding.slope(x - h)) / (2 * h)
    tolerance = {"rtol": 1e-4, "atol": 1e-5}  # h^2 / 6 times the third derivative, up to (2 pi 5)^3 100
    forward_over_reverse = lambda f: lambda x: jvp(grad(f), (x,), (torch.ones_like(x),))[1]  # noqa: E731
    for second in (lambda f: grad(grad(f)), forward_over_reverse):
        found = vmap(second(rounding), randomness="different")(x)
        torch.testing.assert_close(found, expected, **tolerance)
    if not draws(rounding, x):
        found = hessian(lambda x: rounding(x).sum())(x)
        torch.testing.assert_close(found, torch.diag(expected), **tolerance)


def test_the_inverse_of_the_soft_round_too():
    y = torch.linspace(-1.37, 1.41, 12, dtype=torch.float64)
    inverse = lambda y: soft_round_inverse(y, 5.0)  # noqa: E731
    assert torch.equal(vmap(inverse)(y.view(3, 4)), inverse(y).view(3, 4))
    numerical = (inverse(y + 1e-6) - inverse(y - 1e-6)) / 2e-6
    torch.testing.assert_close(jvp(inverse, (y,), (torch.ones_like(y),))[1], numerical, rtol=1e-6, atol=1e-6)
