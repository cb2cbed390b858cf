"""Dropout of codebooks that lie side by side: what it leaves out, how often, and what it leaves alone."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from discrete_ae.quantizers import (
    FactorizedVectorQuantizer,
    GumbelSoftmaxQuantizer,
    LookupFreeQuantizer,
    ProductQuantizer,
    Quantized,
    ScalarQuantizer,
    SimVectorQuantizer,
    VectorQuantizer,
)
from discrete_ae.rounding import Sigmoid, StraightThrough, UniformNoise
from discrete_ae.schedules import Schedule, follow_schedules
from tests.refusals import assert_refused

K, D = 4, 3
BUILDERS: dict[str, Callable[..., ProductQuantizer]] = {
    "scalar": functools.partial(ScalarQuantizer, [4, 3, 2], K, StraightThrough()),
    "scalar-soft": functools.partial(ScalarQuantizer, [4, 3, 2], K, Sigmoid(hard=False)),
    "scalar-noise": functools.partial(ScalarQuantizer, [4, 3, 2], K, UniformNoise()),
    "scalar-dither": functools.partial(ScalarQuantizer, [4, 3, 2], K, StraightThrough(), dither=True),
    "vq": functools.partial(VectorQuantizer, 8, K, D),
    "vq-ema": functools.partial(VectorQuantizer, 8, K, D, ema_decay=0.9, dead_code_threshold=0.5),
    "diveq": functools.partial(VectorQuantizer, 8, K, D, "diveq"),
    "simvq": functools.partial(SimVectorQuantizer, 8, K, D),
    "factorized": functools.partial(FactorizedVectorQuantizer, 8, K, 2, D),
    "lfq": functools.partial(LookupFreeQuantizer, 8, K, inverse_temperature=1.0),
    "bsq": functools.partial(LookupFreeQuantizer, 8, K, spherical=True, inverse_temperature=1.0),
    "gumbel": functools.partial(GumbelSoftmaxQuantizer, 8, K, D),
    "gumbel-soft": functools.partial(GumbelSoftmaxQuantizer, 8, K, D, hard=False),
    "reinmax": functools.partial(GumbelSoftmaxQuantizer, 8, K, D, reinmax=True),
}
every = pytest.mark.parametrize("name", BUILDERS)


def build(name: str, dropout: float | Schedule = 1.0) -> ProductQuantizer:
    torch.default_generator.manual_seed(0)
    return BUILDERS[name](dropout=dropout)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(quantizer: ProductQuantizer, latents: Tensor) -> Quantized:
    torch.default_generator.manual_seed(3)
    return quantizer(latents)


def counts(decoded: Tensor) -> Tensor:
    """Return the number of codebooks (B,) of items (B, K d, T); the other channels must be exactly 0."""
    there = decoded.detach().unflatten(1, (K, D)).flatten(2).any(dim=2)
    assert torch.equal(there, there.long().cummin(dim=1).values.bool())  # the first ones
    return there.sum(dim=1)


@every
def test_items_are_decoded_from_their_first_codebooks_and_nothing_else_changes(name):
    dropping, whole = build(name), build(name, 0.0)
    assert not dropping.matches_evaluation
    latents, upstream = noise(40, K * D, 5).requires_grad_(), noise(40, K * D, 5, seed=1)
    found, expected = seeded(dropping, latents), seeded(whole, latents)
    n = counts(found.latents)
    assert set(n.tolist()) == {1, 2, 3, 4}
    there = (torch.arange(K * D) < D * n[:, None])[..., None]
    assert torch.equal(found.latents, torch.where(there, expected.latents, 0.0))
    assert torch.equal(found.codes, expected.codes)
    torch.testing.assert_close(found.losses, expected.losses, rtol=0, atol=0)
    torch.testing.assert_close(dropping.state_dict(), whole.state_dict(), rtol=0, atol=0)  # averages, too

    inputs = ([latents, *dropping.parameters()], [latents, *whole.parameters()])
    settings = {"allow_unused": True, "materialize_grads": True}
    gradients = torch.autograd.grad(found.latents, inputs[0], upstream, retain_graph=True, **settings)
    # As if the channels that are not there had no gradient: none for what made them.
    references = torch.autograd.grad(expected.latents, inputs[1], upstream * there, retain_graph=True, **settings)
    torch.testing.assert_close(gradients, references, rtol=1e-5, atol=1e-6)
    assert not torch.where(there, 0.0, gradients[0]).any()
    assert gradients[0].any()
    for loss in found.losses:  # and losses have all of theirs
        one = torch.autograd.grad(found.losses[loss], inputs[0], retain_graph=True, **settings)
        other = torch.autograd.grad(expected.losses[loss], inputs[1], retain_graph=True, **settings)
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@every
def test_with_dropout_any_number_of_codebooks_decodes(name):
    dropping, whole = build(name).eval(), build(name, 0.0)
    assert dropping.decodable_counts == (1, 2, 3, 4)
    assert whole.decodable_counts == (4,)
    latents = noise(3, K * D, 6)
    codes = dropping.encode(latents)
    everything = dropping.decode(codes)
    assert torch.equal(dropping(latents).latents, everything)
    assert torch.equal(whole.decode(codes), everything)
    for n in range(1, K + 1):
        first = dropping.encode(latents, n)
        assert torch.equal(first, codes[:, :n])
        decoded = dropping.decode(first)
        torch.testing.assert_close(decoded[:, : n * D], everything[:, : n * D], rtol=0, atol=1e-6)
        assert not decoded[:, n * D :].any()
    with pytest.raises(ValueError, match=r"^num_codebooks: expected all 4 together, got 2; .* quantizer\.dropout"):
        whole.encode(latents, 2)


@pytest.mark.parametrize("name", ["scalar", "vq", "lfq", "gumbel"])
@pytest.mark.parametrize("dropout", [1.0, 0.5, Schedule("linear", 0.0, 1.0)], ids=str)
def test_a_share_of_the_items_has_a_uniform_number_of_codebooks(name, dropout):
    quantizer, items = build(name, dropout), 4000
    follow_schedules(quantizer, 1, 2)
    assert quantizer.decodable_counts == (1, 2, 3, 4)  # also of a schedule that begins at 0
    frequency = torch.bincount(counts(seeded(quantizer, noise(items, K * D, 1)).latents), minlength=K + 1) / items
    share = 1.0 if dropout == 1.0 else 0.5
    p = torch.tensor([0.0] + [share / K] * K) + torch.tensor([0, 0, 0, 0, 1 - share])
    assert ((frequency - p).abs() <= 4.5 * (p * (1 - p) / items).sqrt()).all()


@every
def test_dropout_outside_its_range_is_refused(name):
    assert_refused(BUILDERS[name], {"dropout": (-0.1, 1.1, float("nan"), "some", Schedule("linear", 0.0, 1.5))})
