"""Vector quantizers against vector-quantize-pytorch and numpy."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor
from vector_quantize_pytorch import LFQ, SimVQ, VectorQuantize

from discrete_ae.quantizers import LookupFreeQuantizer, Quantizer, SimVectorQuantizer, VectorQuantizer
from tests.refusals import assert_refused

S, K, D = 16, 3, 4  # entries, codebooks, channels of one codebook: 2^4 = 16 serves the signs as well
BUILDERS = {
    "vq": functools.partial(VectorQuantizer, S, K, D, gradient="straight_through"),
    "vq-rotation": functools.partial(VectorQuantizer, S, K, D),  # the default
    "vq-ema": functools.partial(VectorQuantizer, S, K, D, gradient="straight_through", ema_decay=0.9),
    "simvq": functools.partial(SimVectorQuantizer, S, K, D, gradient="straight_through"),
    "simvq-rotation": functools.partial(SimVectorQuantizer, S, K, D),
    "lfq": functools.partial(LookupFreeQuantizer, S, K, inverse_temperature=1.0),
    "bsq": functools.partial(LookupFreeQuantizer, S, K, spherical=True, inverse_temperature=1.0),
}
every = pytest.mark.parametrize("name", BUILDERS)


def build(name: str, **more) -> Quantizer:
    torch.default_generator.manual_seed(0)
    return BUILDERS[name](**more)


def some_latents(batch: int = 2, frames: int = 50, seed: int = 1) -> Tensor:
    return torch.randn(batch, K * D, frames, generator=torch.Generator().manual_seed(seed))


def entries(quantizer: Quantizer) -> Tensor:
    """Every entry of every codebook, (K, S, d): what decode makes of each code."""
    size = quantizer.codebook_sizes[0]
    codes = torch.arange(size).expand(1, K, size).contiguous()
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)
    return quantizer.decode(codes)[0].detach().unflatten(0, (K, -1)).mT


def by_codebook(tensor: Tensor) -> Tensor:
    """(B, K d, T) to (B, K, T, d)."""
    return tensor.detach().unflatten(1, (K, -1)).mT


# Codes ----------------------------------------------------------------------------------------------------------------


def test_signs_by_hand():
    quantizer = LookupFreeQuantizer(8, 1)
    latents = torch.tensor([[[0.3, -1.0, 0.0], [-0.2, -2.0, 5.0], [9.0, -3.0, -0.1]]])
    # 4 + 1; none; 0 counts as negative, so 2.
    assert quantizer.encode(latents).tolist() == [[[5, 0, 2]]]
    assert quantizer.eval()(latents).latents[0].T.tolist() == [[1, -1, 1], [-1, -1, -1], [-1, 1, -1]]
    third = LookupFreeQuantizer(8, 1, spherical=True).eval()(latents).latents.abs()
    torch.testing.assert_close(third, torch.full_like(third, 1 / math.sqrt(3)), rtol=1e-6, atol=0)


# Training -------------------------------------------------------------------------------------------------------------


@every
def test_training_emits_the_entries_and_evaluation_passes_the_gradient(name):
    quantizer = build(name)
    before = entries(quantizer)
    latents, upstream = some_latents().requires_grad_(), some_latents(seed=3)
    out = quantizer(latents)
    assert torch.equal(by_codebook(out.latents), before[torch.arange(K)[:, None], out.codes])
    (straight,) = torch.autograd.grad(quantizer.eval()(latents).latents, latents, upstream)
    torch.testing.assert_close(straight, upstream, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["vq-rotation", "simvq-rotation"])
def test_rotation_trick_is_finite_where_no_rotation_is_defined(name):
    quantizer = build(name)
    assert quantizer.gradient == "rotation"  # by default
    entry = entries(quantizer)[:, :1].mT.flatten(0, 1)[None]
    for latents in (0 * entry, -entry, entry):
        out = quantizer(latents.requires_grad_())
        (out.latents.sum() + out.losses["commitment"]).backward()
        assert out.latents.isfinite().all()
        assert latents.grad.isfinite().all()


# Losses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "diversity", "inverse_temperature"),
    [(16, 0.0, 1.0), (16, 1.0, 100.0), (16, 1.0, 0.0), (8, 2.5, 0.3), (2, 0.5, 1.0), (32, 1.0, 0.3)],
)
@pytest.mark.parametrize("spherical", [False, True])
def test_entropy_is_that_of_the_soft_assignment(spherical, size, diversity, inverse_temperature):
    quantizer = LookupFreeQuantizer(size, K, spherical, inverse_temperature, diversity)
    latents = torch.randn(2, quantizer.dim, 50, generator=torch.Generator().manual_seed(1))
    z = by_codebook(latents).double().numpy()
    z = z / np.linalg.norm(z, axis=-1, keepdims=True) if spherical else z
    # Minus the squared distance is 2 z e up to a constant of the frame.
    scores = 2 * inverse_temperature * np.einsum("bktd,ksd->bkts", z, entries(quantizer).double().numpy())
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    expected = entropy(p, axis=-1).mean() - diversity * entropy(p.mean(axis=(0, 2)), axis=-1).mean()
    assert quantizer(latents).losses["entropy"].item() == pytest.approx(expected, abs=1e-5)
    certain = (1e4 * latents).requires_grad_()
    quantizer(certain).losses["entropy"].backward()
    assert certain.grad.isfinite().all()


# vector-quantize-pytorch ----------------------------------------------------------------------------------------------


Output = tuple[Tensor, Tensor, dict[str, Tensor]]  # values (B, D, T), codes (B, K, T), losses


def library_vq(quantizer: VectorQuantizer) -> VectorQuantize:
    learned = quantizer.ema_decay is None
    library = VectorQuantize(
        K * D,
        S,
        D,
        heads=K,
        separate_codebook_per_head=True,
        rotation_trick=quantizer.gradient == "rotation",
        learnable_codebook=learned,
        ema_update=not learned,
        decay=0.99 if learned else quantizer.ema_decay,
        threshold_ema_dead_code=quantizer.dead_code_threshold,
    )
    library._codebook.embed.data.copy_(quantizer.codebooks)
    if not learned:
        library._codebook.embed_avg.copy_(quantizer.sums)
    if hasattr(quantizer, "counts"):
        library._codebook.cluster_size.copy_(quantizer.counts)
    return library.train(quantizer.training)


def by_library_vq(quantizer: VectorQuantizer, latents: Tensor) -> tuple[Output, list[Tensor]]:
    library = library_vq(quantizer)
    values, codes, _, losses = library(latents.mT, return_loss_breakdown=True)
    return (values.mT, codes.mT, {"commitment": losses.commitment}), list(library.parameters())


def by_library_simvq(quantizer: SimVectorQuantizer, latents: Tensor) -> tuple[Output, list[Tensor]]:
    libraries = [SimVQ(D, S, rotation_trick=quantizer.gradient == "rotation") for _ in range(K)]
    for library, fixed, weight in zip(libraries, quantizer.fixed, quantizer.maps, strict=True):
        library.frozen_codebook.copy_(fixed)
        library.code_transform.weight.data.copy_(weight)
    parts = latents.mT.split(D, dim=-1)
    outs = [library(part.contiguous()) for library, part in zip(libraries, parts, strict=True)]
    values, codes, losses = zip(*outs, strict=True)
    found = torch.cat(values, dim=-1).mT, torch.stack(codes, dim=1), {"commitment": sum(losses) / K}
    return found, [library.code_transform.weight for library in libraries]


def by_library_signs(quantizer: LookupFreeQuantizer, latents: Tensor) -> tuple[Output, list[Tensor]]:
    library = LFQ(codebook_size=S, num_codebooks=K, spherical=quantizer.spherical, commitment_loss_weight=1.0)
    library.train(quantizer.training)
    (values, codes, _), losses = library(latents.mT, quantizer.inverse_temperature, return_loss_breakdown=True)
    loss = losses.per_sample_entropy - quantizer.diversity * losses.batch_entropy
    return (values.mT, codes.mT, {"entropy": loss, "commitment": quantizer.commitment * losses.commitment}), []


LIBRARY = {VectorQuantizer: by_library_vq, SimVectorQuantizer: by_library_simvq, LookupFreeQuantizer: by_library_signs}


@every
def test_codes_values_losses_and_gradients_are_the_librarys(name):
    quantizer = build(name)
    # So soft that nothing is less likely than 1e-5, below which the library takes no logarithm.
    latents, upstream = 0.3 * some_latents().requires_grad_(), some_latents(seed=3)
    for training in (False, True):
        expected, weights = LIBRARY[type(quantizer)](quantizer.train(training), latents)
        found = quantizer(latents)
        assert torch.equal(found.codes, expected[1].long())
        torch.testing.assert_close(found.latents, expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.losses, expected[2], rtol=1e-5, atol=1e-5)
    gradients = []
    for (values, _, losses, *_), own in ((found, list(quantizer.parameters())), (expected, weights)):
        total = (values * upstream).sum() + sum(100 * loss for loss in losses.values())
        of_latents, *of_weights = torch.autograd.grad(total, [latents, *own])
        gradients.append((of_latents, torch.stack(of_weights).flatten() if of_weights else None))
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("ema_decay", "threshold"), [(0.0, 0), (0.9, 0.02), (0.99, 0.02)])
def test_moving_averages_are_the_librarys(ema_decay, threshold):
    quantizer = build("vq-ema", ema_decay=ema_decay, dead_code_threshold=threshold)
    library = library_vq(quantizer)
    for seed in range(3):
        latents = some_latents(batch=4, frames=100, seed=seed)
        # Every entry is chosen about 25 times, and none is ever dead.
        assert torch.equal(quantizer(latents).codes, library(latents.mT)[1].mT)
        found = quantizer.counts, quantizer.sums, quantizer.codebooks
        expected = library._codebook.cluster_size, library._codebook.embed_avg, library._codebook.embed
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, check_stride=False)
    assert list(quantizer.parameters()) == []
    before = quantizer.codebooks.clone()
    quantizer.encode(latents)
    quantizer.eval()(latents)
    assert torch.equal(quantizer.codebooks, before)


@pytest.mark.parametrize(("ema_decay", "threshold"), [(None, 0.195), (0.7, 2.9)])
def test_the_entries_that_are_replaced_are_the_librarys(ema_decay, threshold):
    quantizer = build("vq", ema_decay=ema_decay, dead_code_threshold=threshold)
    library = library_vq(quantizer)
    latents, before = 0.3 * some_latents(batch=4, frames=100), quantizer.codebooks.clone()
    codes = quantizer(latents).codes
    library(latents.mT)
    chosen = torch.stack([torch.bincount(codes[:, k].flatten(), minlength=S) for k in range(K)])
    # Counts begin at 0: that of an entry is then (1 - decay) n.
    replaced = chosen < threshold / (1 - (0.99 if ema_decay is None else ema_decay))
    assert 3 <= replaced.sum() <= K * S - 3
    torch.testing.assert_close(quantizer.counts[replaced], torch.full((int(replaced.sum()),), threshold))
    torch.testing.assert_close(quantizer.counts, library._codebook.cluster_size, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(quantizer.codebooks[~replaced], library._codebook.embed[~replaced])
    assert torch.equal(quantizer.codebooks[~replaced], before[~replaced]) == (ema_decay is None)
    for k, vectors in enumerate(by_codebook(latents).transpose(0, 1).flatten(1, 2)):  # with latents, each another one
        values = quantizer.codebooks[k, replaced[k]]
        assert (values[:, None] == vectors).all(-1).any(1).all()
        assert len(values.unique(dim=0)) == len(values)
    if ema_decay is not None:
        torch.testing.assert_close(quantizer.sums[replaced], threshold * quantizer.codebooks[replaced])


def test_gradient_is_of_the_entries_before_they_are_replaced():
    gradients = []
    for threshold in (0, 2):
        quantizer = build("vq", dead_code_threshold=threshold)
        out = quantizer(some_latents())
        gradients += torch.autograd.grad(out.losses["commitment"], quantizer.codebooks)
    assert torch.equal(*gradients)


# Moving codebooks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema_decay", [None, 0.99])
def test_codebooks_that_replace_entries_start_from_latents(ema_decay):
    torch.default_generator.manual_seed(0)
    quantizer = VectorQuantizer(S, 1, D, ema_decay=ema_decay, dead_code_threshold=0.5)
    latents = torch.randn(4, D, 100) * 0.1 + 5  # far from the first entries
    for _ in range(2):
        quantizer(latents)
    learned = quantizer.decode(torch.arange(S)[None, None])[0]
    # Latents, or with moving averages means of them, but for what gradients alone move: the entry first chosen by all.
    within = (learned >= latents.amin(dim=(0, 2))[:, None]) & (learned <= latents.amax(dim=(0, 2))[:, None])
    assert within.all(dim=0).sum() >= (S if ema_decay else S - 1)


def test_first_entries_are_of_the_size_of_the_latents_of_unit_length():
    # Mean 1 of a chi-square of D = 4 over 4, whose standard deviation is sqrt(2 / 4); 48 of them.
    squared = entries(build("vq")).square().sum(-1)
    assert squared.mean().item() == pytest.approx(1, abs=4.5 * math.sqrt(0.5 / (K * S)))


# Wrong arguments ------------------------------------------------------------------------------------------------------

SIZES = {"codebook_size": (1, 0, 2.5, math.nan, "many"), "num_codebooks": (0, -1, 1.5, math.nan, "eight")}
DIMS = SIZES | {"codebook_dim": (0, -1, 1.5, math.nan, "wide")}
NUMBERS = dict.fromkeys(("inverse_temperature", "diversity", "commitment"), (-0.1, math.nan, math.inf, "warm"))
AVERAGES = {"ema_decay": (1.0, 1.1, -0.1, math.nan, "slow"), "dead_code_threshold": (-1, math.nan, "few")}
WRONG = {
    VectorQuantizer: DIMS | AVERAGES,
    SimVectorQuantizer: DIMS,
    LookupFreeQuantizer: SIZES | NUMBERS | {"codebook_size": (1, 2.5, 3, 100, 257)},
}


@pytest.mark.parametrize("cls", WRONG, ids=lambda cls: cls.__name__)
def test_wrong_arguments_are_refused_by_name(cls):
    dims = {} if cls is LookupFreeQuantizer else {"codebook_dim": 3}
    assert_refused(cls, WRONG[cls], codebook_size=8, num_codebooks=2, **dims)
