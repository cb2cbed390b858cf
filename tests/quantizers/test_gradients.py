"""Gradients of vector quantization against their formulas, finite differences and vector-quantize-pytorch."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor
from vector_quantize_pytorch.vector_quantize_pytorch import directional_reparam

from discrete_ae.quantizers import FactorizedVectorQuantizer, SimVectorQuantizer, VectorQuantizer
from discrete_ae.quantizers.base import straight_through
from discrete_ae.quantizers.gradients import GRADIENTS, MOVES_ENTRIES, diveq, mste, nsvq

B, K, D, T = 3, 2, 4, 5  # vectors lie along D
VARIANCE = 1e-3  # of the noise of DiVeQ


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or (B, K, D, T), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Noise that torch.randn_like returns, also for vectors along the last axis."""
    known = noise(2)
    monkeypatch.setattr(torch, "randn_like", lambda like: known if like.shape == known.shape else known.mT)
    return known


def pulled(upstream: Tensor, emitted: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(emitted, inputs, upstream)


# Straight-through -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own
def test_straight_through_emits_the_value_and_is_the_identity_to_every_transform():
    z, value, tangent = noise(0), noise(1).round() / 3, noise(2)
    emitted, forward = torch.func.jvp(lambda x: straight_through(x, value), (z,), (tangent,))
    assert torch.equal(emitted, value)
    assert torch.equal(forward, tangent)
    by_item = torch.func.vmap(lambda x, e: straight_through(x, e))(z, value)
    assert torch.equal(by_item, value)
    (gradient,) = torch.func.vjp(lambda x: straight_through(x, value), z)[1](tangent)
    assert torch.equal(gradient, tangent)
    # The square of what is emitted has the gradient 2 value, and that the gradient 2 times the identity.
    of_sum = torch.func.grad(lambda x: straight_through(x, value).square().sum())
    assert torch.equal(of_sum(z), 2 * value)
    (second,) = torch.func.vjp(of_sum, z)[1](tangent)
    assert torch.equal(second, 2 * tangent)
    infinite = torch.full((1,), math.inf)
    assert torch.equal(straight_through(infinite, torch.ones(1)), torch.ones(1))


# DiVeQ and NSVQ -------------------------------------------------------------------------------------------------------


def test_diveq_is_the_directional_reparametrization_of_the_library(drawn: Tensor):
    ours = noise(0).requires_grad_(), noise(1).requires_grad_()
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    found = diveq(*ours)
    expected = directional_reparam(*(x.mT for x in theirs), noise_variance=VARIANCE).mT
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    upstream = noise(3)
    torch.testing.assert_close(pulled(upstream, found, *ours), pulled(upstream, expected, *theirs))


@pytest.mark.parametrize("method", [diveq, nsvq])
def test_a_fixed_direction_times_the_length_of_the_error(method, drawn: Tensor):
    # x = v + |e - v| u with u held fast, so dx = dv + u (e - v) (de - dv) / |e - v|.
    vectors, entries, upstream = noise(0).requires_grad_(), noise(1).requires_grad_(), noise(3)
    found = method(vectors, entries)
    v, e, n, g = (x.detach().numpy() for x in (vectors, entries, drawn, upstream))
    error = e - v
    length = np.linalg.norm(error, axis=2, keepdims=True)
    u = error + math.sqrt(VARIANCE) * n if method is diveq else n
    u = u / np.linalg.norm(u, axis=2, keepdims=True)
    np.testing.assert_allclose(found.detach().numpy(), v + length * u, rtol=1e-12, atol=1e-12)
    of_entries = (g * u).sum(2, keepdims=True) * error / length
    for gradient, expected in zip(pulled(upstream, found, vectors, entries), (g - of_entries, of_entries), strict=True):
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_nsvq_has_the_gradient_of_finite_differences(drawn: Tensor):
    assert torch.autograd.gradcheck(nsvq, (noise(0).requires_grad_(), noise(1).requires_grad_()))


@pytest.mark.parametrize("method", [diveq, nsvq])
def test_emitted_points_are_as_far_from_the_vector_as_the_entry(method):
    torch.default_generator.manual_seed(7)
    vectors, entries = noise(0, 1, 1, D, 20_000), noise(1, 1, 1, D, 20_000)
    moved = method(vectors, entries) - vectors
    error = entries - vectors
    torch.testing.assert_close(moved.norm(dim=2), error.norm(dim=2))
    if method is diveq:
        # |a/|a| - b/|b|| <= 2 |a - b| / |b|: no further from the entry than twice the noise, of which 4 variances of
        # chi-square with 4 degrees are the square. One in 1e9 is longer than that.
        furthest = math.sqrt(VARIANCE * chi2.isf(1e-9, D))
        assert (moved - error).norm(dim=2).max() <= 2 * furthest
        assert (moved - error).norm(dim=2).mean() > math.sqrt(VARIANCE)  # and there is noise in every channel
    else:
        # A uniform direction: mean 0, covariance 1/d, and nothing in common with that of the error.
        u, d = (x[0, 0] / x[0, 0].norm(dim=0) for x in (moved, error))
        assert u.mean(dim=1).abs().max() < 4.5 * math.sqrt(1 / D / 20_000)
        # cos^2 of a uniform angle in 4 dimensions has mean 1/4 and second moment 3 / (4 * 6): variance 1/16.
        assert (u.square().mean(dim=1) - 1 / D).abs().max() < 4.5 * math.sqrt(1 / 16 / 20_000)
        assert (u * d).sum(dim=0).mean().abs() < 4.5 * math.sqrt(1 / D / 20_000)


@pytest.mark.parametrize("method", GRADIENTS)
def test_a_vector_that_is_its_entry_has_a_finite_gradient(method):
    vectors, entries = noise(0).requires_grad_(), noise(0).requires_grad_()
    emitted = GRADIENTS[method](vectors, entries)
    torch.testing.assert_close(emitted, entries)
    emitted.square().sum().backward()
    assert vectors.grad.isfinite().all()
    assert entries.grad is None or entries.grad.isfinite().all()


# Modified straight-through --------------------------------------------------------------------------------------------


def test_mste_adds_to_the_gradient_what_the_error_gains_by_the_spread():
    vectors, entries, upstream = noise(0).requires_grad_(), noise(1).requires_grad_(), noise(3)
    with torch.no_grad():
        vectors[:, 1] = 3 * vectors[:, 1] + 2  # each codebook has a spread of its own
    found = mste(vectors, entries)
    assert torch.equal(found, entries)
    (gradient,) = pulled(upstream, found, vectors)
    assert torch.autograd.grad(found.sum(), entries, allow_unused=True) == (None,)
    v, e, g = (x.detach().numpy() for x in (vectors, entries, upstream))
    expected = g.copy()
    for k in range(K):
        sigma = v[:, k].std()
        slope = (v[:, k] - v[:, k].mean()) / (v[:, k].size * sigma)  # d sigma / d v
        expected[:, k] += (g[:, k] * (e - v)[:, k]).sum() / sigma * slope
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_mste_has_the_gradient_of_finite_differences():
    vectors, upstream = noise(0).requires_grad_(), noise(3)
    entries = vectors.detach().round()
    (gradient,) = pulled(upstream, mste(vectors, entries), vectors)
    with torch.no_grad():
        error, spread = entries - vectors, vectors.std(dim=(0, 2, 3), correction=0, keepdim=True)

    def soft(v: Tensor) -> Tensor:  # what is differentiated, with its constants held fast
        return ((v + error * v.std(dim=(0, 2, 3), correction=0, keepdim=True) / spread) * upstream).sum()

    step, numeric = 1e-6, torch.zeros_like(gradient)
    for i in range(vectors.numel()):
        change = torch.zeros(vectors.numel(), dtype=torch.float64)
        change[i] = step
        change = change.view_as(vectors)
        with torch.no_grad():
            numeric.view(-1)[i] = (soft(vectors + change) - soft(vectors - change)) / (2 * step)
    torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-7)


def test_mste_of_latents_without_spread_is_straight_through():
    vectors, upstream = torch.ones(B, K, D, T, requires_grad=True), noise(3).float()
    (gradient,) = pulled(upstream, mste(vectors, vectors.detach() + 0.3), vectors)
    torch.testing.assert_close(gradient, upstream)


def test_an_encoder_gains_nothing_by_larger_latents():
    # The error counts as noise in proportion to the latents: to scale them is to scale what is emitted, the entries.
    vectors, entries = noise(0), noise(1)
    centred = vectors - vectors.mean(dim=(0, 2, 3), keepdim=True)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(mste(scale * centred, entries).square().sum(), scale)
    assert slope.item() == pytest.approx(2 * entries.square().sum().item(), rel=1e-9)  # of |scale e|^2


# In a quantizer -------------------------------------------------------------------------------------------------------


BUILDERS = {
    "vq": functools.partial(VectorQuantizer, 16, K, D),
    "simvq": functools.partial(SimVectorQuantizer, 16, K, D),
    "factorized": functools.partial(FactorizedVectorQuantizer, 16, K, D, 6),
}


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("name", BUILDERS)
def test_quantizers_emit_entries_and_lose_a_commitment_unless_the_gradient_moves_both(name, gradient):
    torch.default_generator.manual_seed(0)
    quantizer = BUILDERS[name](gradient=gradient)
    latents = noise(4, 2, quantizer.dim, 30).float().requires_grad_()
    out = quantizer(latents)
    decoded = quantizer.decode(out.codes)
    moves = gradient in MOVES_ENTRIES
    assert quantizer.matches_evaluation != moves
    assert set(out.losses) == (set() if moves else {"commitment"})
    assert torch.allclose(out.latents, decoded, rtol=0, atol=1e-5) != moves
    of_latents, *of_parameters = torch.autograd.grad(
        out.latents.square().sum(), [latents, *quantizer.parameters()], allow_unused=True
    )
    assert (of_latents.abs().amax(dim=(0, 2)) > 0).all()
    if moves:
        assert all(found is not None and found.any() for found in of_parameters)
    elif name != "factorized":  # its way out has a gradient of its own
        assert of_parameters == [None]
