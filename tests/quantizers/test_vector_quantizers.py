"""Vector quantizers against vector-quantize-pytorch, brute force in float64, and numpy."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from vector_quantize_pytorch import LFQ, SimVQ, VectorQuantize

from discrete_ae.quantizers import LookupFreeQuantizer, Quantizer, SimVectorQuantizer, VectorQuantizer
from tests.refusals import assert_refused

S, K, D = 16, 3, 4  # entries, codebooks, channels of one codebook: 2^4 = 16 serves the signs as well
BUILDERS = {
    "vq": functools.partial(VectorQuantizer, S, K, D, rotation_trick=False),
    "vq-rotation": functools.partial(VectorQuantizer, S, K, D),  # the default
    "vq-ema": functools.partial(VectorQuantizer, S, K, D, rotation_trick=False, ema_decay=0.9),
    "simvq": functools.partial(SimVectorQuantizer, S, K, D, rotation_trick=False),
    "simvq-rotation": functools.partial(SimVectorQuantizer, S, K, D),
    "lfq": functools.partial(LookupFreeQuantizer, S, K, inverse_temperature=1.0),
    "bsq": functools.partial(LookupFreeQuantizer, S, K, spherical=True, inverse_temperature=1.0),
}
every = pytest.mark.parametrize("name", BUILDERS)
every_nearest = pytest.mark.parametrize("name", [name for name in BUILDERS if "vq" in name])
every_signs = pytest.mark.parametrize("name", ["lfq", "bsq"])


def build(name: str, **more) -> Quantizer:
    torch.default_generator.manual_seed(0)
    return BUILDERS[name](**more)


def some_latents(batch: int = 2, frames: int = 50, seed: int = 1) -> Tensor:
    return torch.randn(batch, K * D, frames, generator=torch.Generator().manual_seed(seed))


def entries(quantizer: Quantizer) -> np.ndarray:
    """Every entry of every codebook, (K, S, D), float64: what decode makes of each code."""
    codes = torch.arange(S).expand(1, K, S).contiguous()
    return quantizer.decode(codes)[0].detach().double().unflatten(0, (K, D)).mT.numpy()


def by_codebook(tensor: Tensor) -> np.ndarray:
    """(B, K D, T) to (B, K, T, D), float64."""
    return tensor.detach().double().unflatten(1, (K, D)).transpose(2, 3).numpy()


# Codes ----------------------------------------------------------------------------------------------------------------


@every_nearest
def test_the_code_is_the_nearest_entry(name):
    quantizer = build(name)
    latents = some_latents(batch=4, frames=500)
    distances = np.linalg.norm(by_codebook(latents)[..., None, :] - entries(quantizer)[:, None], axis=-1)
    ranked = np.sort(distances, axis=-1)
    clear = ranked[..., 1] - ranked[..., 0] > 1e-5  # float32 may choose the other one at a tie
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(quantizer.encode(latents).numpy()[clear], distances.argmin(-1)[clear])


@every_signs
def test_the_code_is_the_signs_first_channel_most_significant(name):
    quantizer = build(name)
    latents = some_latents()
    bits = by_codebook(latents) > 0
    np.testing.assert_array_equal(quantizer.encode(latents).numpy(), (bits * [8, 4, 2, 1]).sum(-1))
    values = by_codebook(quantizer.eval()(latents).latents)
    # On the sphere a vector of D signs has the length 1: 1 / sqrt(4) = 1/2, exact.
    np.testing.assert_array_equal(values, np.where(bits, 1, -1) * (0.5 if name == "bsq" else 1.0))


def test_signs_by_hand():
    quantizer = LookupFreeQuantizer(8, 1)
    latents = torch.tensor([[[0.3, -1.0, 0.0], [-0.2, -2.0, 5.0], [9.0, -3.0, -0.1]]])
    # 4 + 1; none; 0 counts as negative, so 2.
    assert quantizer.encode(latents).tolist() == [[[5, 0, 2]]]
    assert quantizer.eval()(latents).latents[0].T.tolist() == [[1, -1, 1], [-1, -1, -1], [-1, 1, -1]]
    third = LookupFreeQuantizer(8, 1, spherical=True).eval()(latents).latents.abs()
    torch.testing.assert_close(third, torch.full_like(third, 1 / math.sqrt(3)), rtol=1e-6, atol=0)


@every
def test_entries_encode_to_themselves(name):
    quantizer = build(name)
    codes = torch.arange(S).expand(1, K, S).contiguous()
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


# Training -------------------------------------------------------------------------------------------------------------


@every
def test_training_emits_the_entries_and_passes_the_gradient(name):
    quantizer = build(name)
    before = torch.tensor(entries(quantizer))
    latents, upstream = some_latents().requires_grad_(), some_latents(seed=3)
    out = quantizer(latents)
    values = before[torch.arange(K)[:, None], out.codes].transpose(2, 3).flatten(1, 2).float()
    assert torch.equal(out.latents.detach(), values)
    (gradient,) = torch.autograd.grad(out.latents, latents, upstream)
    if name == "bsq":  # the derivative of z / |z| is a projection off z, divided by its length
        z, g = by_codebook(latents), by_codebook(upstream)
        length = np.linalg.norm(z, axis=-1, keepdims=True)
        along = (g * z).sum(-1, keepdims=True) * z / length**2
        np.testing.assert_allclose(by_codebook(gradient), (g - along) / length, rtol=1e-4, atol=1e-5)
    elif "rotation" not in name:
        torch.testing.assert_close(gradient, upstream, rtol=1e-6, atol=1e-7)
    (straight,) = torch.autograd.grad(quantizer.eval()(latents).latents, latents, upstream)
    torch.testing.assert_close(straight, upstream, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["vq-rotation", "simvq-rotation"])
def test_rotation_trick_rotates_and_scales_the_gradient(name):
    quantizer = build(name)
    assert quantizer.rotation_trick  # by default
    latents, upstream = some_latents().requires_grad_(), some_latents(seed=3)
    out = quantizer(latents)
    (gradient,) = torch.autograd.grad(out.latents, latents, upstream)
    e, z = by_codebook(out.latents), by_codebook(latents)
    ratio = np.linalg.norm(e, axis=-1) / np.linalg.norm(z, axis=-1)
    # The map from z to e is a rotation times |e| / |z|: the gradient has the upstream's length times that, and the
    # part of it along z is the upstream's part along e.
    g, u = by_codebook(gradient), by_codebook(upstream)
    np.testing.assert_allclose(np.linalg.norm(g, axis=-1), ratio * np.linalg.norm(u, axis=-1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose((g * z).sum(-1), (u * e).sum(-1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["vq-rotation", "simvq-rotation"])
def test_rotation_trick_is_finite_where_no_rotation_is_defined(name):
    quantizer = build(name)
    entry = torch.tensor(entries(quantizer)[:, :1], dtype=torch.float32).mT.flatten(0, 1)[None]
    for latents in (0 * entry, -entry, entry):
        out = quantizer(latents.requires_grad_())
        (out.latents.sum() + out.losses["commitment"]).backward()
        assert out.latents.isfinite().all()
        assert latents.grad.isfinite().all()


# Losses ---------------------------------------------------------------------------------------------------------------


@every
def test_commitment_is_the_mean_squared_distance(name):
    quantizer = build(name)
    latents = some_latents().requires_grad_()
    before = entries(quantizer)
    out = quantizer(latents)
    z, e = by_codebook(latents), before[np.arange(K)[:, None], out.codes.numpy()]
    z = z / np.linalg.norm(z, axis=-1, keepdims=True) if name == "bsq" else z
    # SimVQ moves the entries by the whole of it and the latents by a quarter: a sum of two terms of the same value.
    weight = 1.25 if "simvq" in name else 0.25 if name in ("lfq", "bsq") else 1.0
    assert out.losses["commitment"].item() == pytest.approx(weight * ((z - e) ** 2).mean(), rel=1e-5)
    (gradient,) = torch.autograd.grad(out.losses["commitment"], latents)
    if name != "bsq":
        moving = 0.25 if "simvq" in name or name == "lfq" else 1.0
        np.testing.assert_allclose(by_codebook(gradient), moving * 2 * (z - e) / z.size, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("diversity", "inverse_temperature"), [(0.0, 1.0), (1.0, 100.0), (1.0, 0.0), (2.5, 0.3)])
@every_signs
def test_entropy_is_that_of_the_soft_assignment(name, diversity, inverse_temperature):
    quantizer = build(name, diversity=diversity, inverse_temperature=inverse_temperature)
    latents = some_latents()
    z = by_codebook(latents)
    z = z / np.linalg.norm(z, axis=-1, keepdims=True) if name == "bsq" else z
    # Minus the squared distance is 2 z e up to a constant of the frame.
    scores = 2 * inverse_temperature * np.einsum("bktd,ksd->bkts", z, entries(quantizer))
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)

    def entropy(p):
        return -(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum(-1)

    expected = entropy(p).mean() - diversity * entropy(p.mean(axis=(0, 2))).mean()
    assert quantizer(latents).losses["entropy"].item() == pytest.approx(expected, abs=1e-5)
    if inverse_temperature == 0:  # all 16 entries alike
        assert expected == pytest.approx((1 - diversity) * math.log(16), abs=1e-12)


@every_signs
def test_entropy_of_an_odd_number_of_channels_and_of_certain_choices(name):
    for size in (2, 8, 32):
        # One frame: its own distribution is the mean, so that the two entropies are one number.
        quantizer = LookupFreeQuantizer(size, K, spherical=name == "bsq", inverse_temperature=0.3, diversity=0.0)
        latents = torch.randn(1, quantizer.dim, 1, generator=torch.Generator().manual_seed(1))
        assert 0 < quantizer(latents).losses["entropy"] < math.log(size)
        quantizer.diversity = 1.0
        assert quantizer(latents).losses["entropy"].item() == pytest.approx(0, abs=1e-6)
    latents = (1e4 * some_latents()).requires_grad_()
    build(name, inverse_temperature=100.0)(latents).losses["entropy"].backward()
    assert latents.grad.isfinite().all()


# vector-quantize-pytorch ----------------------------------------------------------------------------------------------


class Peer(NamedTuple):
    """What the library made of latents."""

    latents: Tensor  # (B, D, T)
    codes: Tensor  # (B, K, T)
    losses: dict[str, Tensor]


def library_vq(quantizer: VectorQuantizer) -> VectorQuantize:
    learned = quantizer.ema_decay is None
    library = VectorQuantize(
        K * D,
        S,
        D,
        heads=K,
        separate_codebook_per_head=True,
        rotation_trick=quantizer.rotation_trick,
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
    return library


def by_library_vq(quantizer: VectorQuantizer) -> tuple[Callable[[Tensor], Peer], list[Tensor]]:
    library = library_vq(quantizer).train(quantizer.training)

    def run(latents: Tensor) -> Peer:
        values, codes, _, losses = library(latents.mT, return_loss_breakdown=True)
        return Peer(values.mT, codes.mT, {"commitment": losses.commitment})

    return run, list(library.parameters())


def by_library_simvq(quantizer: SimVectorQuantizer) -> tuple[Callable[[Tensor], Peer], list[Tensor]]:
    libraries = [SimVQ(D, S, rotation_trick=quantizer.rotation_trick) for _ in range(K)]
    for library, fixed, weight in zip(libraries, quantizer.fixed, quantizer.maps, strict=True):
        library.frozen_codebook.copy_(fixed)
        library.code_transform.weight.data.copy_(weight)

    def run(latents: Tensor) -> Peer:
        parts = latents.mT.split(D, dim=-1)
        outs = [library(part.contiguous()) for library, part in zip(libraries, parts, strict=True)]
        values, codes, losses = zip(*outs, strict=True)
        return Peer(torch.cat(values, dim=-1).mT, torch.stack(codes, dim=1), {"commitment": sum(losses) / K})

    return run, [library.code_transform.weight for library in libraries]


def by_library_signs(quantizer: LookupFreeQuantizer) -> tuple[Callable[[Tensor], Peer], list[Tensor]]:
    library = LFQ(codebook_size=S, num_codebooks=K, spherical=quantizer.spherical, commitment_loss_weight=1.0)
    library.train(quantizer.training)

    def run(latents: Tensor) -> Peer:
        (values, codes, _), losses = library(latents.mT, quantizer.inverse_temperature, return_loss_breakdown=True)
        entropy = losses.per_sample_entropy - quantizer.diversity * losses.batch_entropy
        return Peer(values.mT, codes.mT, {"entropy": entropy, "commitment": quantizer.commitment * losses.commitment})

    return run, []


PEERS = {VectorQuantizer: by_library_vq, SimVectorQuantizer: by_library_simvq, LookupFreeQuantizer: by_library_signs}


@every
def test_codes_values_losses_and_gradients_are_the_librarys(name):
    quantizer = build(name)
    # So soft that nothing is less likely than 1e-5, below which the library takes no logarithm.
    latents, upstream = 0.3 * some_latents().requires_grad_(), some_latents(seed=3)
    for training in (False, True):
        run, weights = PEERS[type(quantizer)](quantizer.train(training))
        found, expected = quantizer(latents), run(latents)
        assert torch.equal(found.codes, expected.codes.long())
        torch.testing.assert_close(found.latents, expected.latents, rtol=0, atol=1e-5)
    assert found.losses.keys() == expected.losses.keys()
    gradients = []
    for out, own in ((found, list(quantizer.parameters())), (expected, weights)):
        total = (out.latents * upstream).sum() + sum(100 * loss for loss in out.losses.values())
        of_latents, *of_weights = torch.autograd.grad(total, [latents, *own])
        gradients.append((of_latents, torch.stack(of_weights).flatten() if of_weights else None))
    for key, loss in found.losses.items():
        torch.testing.assert_close(loss, expected.losses[key], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threshold", [0, 0.02])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9, 0.99])
def test_moving_averages_are_the_librarys(ema_decay, threshold):
    quantizer = build("vq-ema", ema_decay=ema_decay, dead_code_threshold=threshold)
    library = library_vq(quantizer).train()
    for seed in range(3):
        latents = some_latents(batch=4, frames=100, seed=seed)
        # Every entry is chosen about 25 times, and none is ever dead.
        assert torch.equal(quantizer(latents).codes, library(latents.mT)[1].mT)
        codebook = library._codebook
        torch.testing.assert_close(quantizer.counts, codebook.cluster_size, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(quantizer.sums, codebook.embed_avg, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(quantizer.codebooks, codebook.embed, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("ema_decay", "threshold"), [(None, 0.195), (0.7, 2.9)])
def test_the_entries_that_are_replaced_are_the_librarys(ema_decay, threshold):
    quantizer = build("vq", ema_decay=ema_decay, dead_code_threshold=threshold)
    library = library_vq(quantizer).train()
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
    vectors = latents.unflatten(1, (K, D)).permute(1, 0, 3, 2).flatten(1, 2)
    for k in range(K):  # with latents, each with another one
        values = quantizer.codebooks[k, replaced[k]]
        assert (values[:, None] == vectors[k]).all(-1).any(1).all()
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


def test_no_more_entries_are_replaced_than_there_are_latents():
    quantizer = build("vq", dead_code_threshold=2)
    before, latents = quantizer.codebooks.clone(), some_latents(batch=1, frames=5)
    quantizer(latents)
    changed = (quantizer.codebooks != before).any(dim=-1)
    assert changed.sum(dim=1).tolist() == [5] * K
    vectors = latents.unflatten(1, (K, D))[0].mT
    assert torch.equal(quantizer.codebooks[changed].sort(dim=0).values, vectors.flatten(0, 1).sort(dim=0).values)


# Moving codebooks -----------------------------------------------------------------------------------------------------


def test_a_moving_average_moves_the_entries_without_a_gradient():
    quantizer = VectorQuantizer(S, 1, D, ema_decay=0.9)
    assert list(quantizer.parameters()) == []
    codes = torch.arange(S)[None, None]
    before = quantizer.decode(codes)[0].T
    count, point = 7, before[3] + 0.05
    latents = point[None, :, None].expand(1, D, count)
    assert (quantizer.encode(latents) == 3).all()
    assert torch.equal(quantizer.decode(codes)[0].T, before)  # encoding moves nothing
    with torch.no_grad():
        quantizer(latents)
    after = quantizer.decode(codes)[0].T
    # Sum and count start as the entry and 1, and decay by 0.9: (0.9 e + 0.1 * 7 x) / (0.9 + 0.1 * 7); 1e-4 for the
    # smoothing of the counts. An entry that is not chosen stays.
    torch.testing.assert_close(after[3], (0.9 * before[3] + 0.7 * point) / 1.6, rtol=0, atol=1e-4)
    others = torch.arange(S) != 3
    torch.testing.assert_close(after[others], before[others], rtol=0, atol=1e-3)
    for _ in range(200):
        quantizer(latents)
    torch.testing.assert_close(quantizer.decode(codes)[0].T[3], point, rtol=0, atol=1e-3)
    frozen = quantizer.eval().decode(codes)
    quantizer(latents)
    assert torch.equal(quantizer.decode(codes), frozen)


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
    squared = (entries(build("vq")) ** 2).sum(-1)
    # Mean 1 of a chi-square of D = 4 over 4, whose standard deviation is sqrt(2 / 4); 48 of them.
    assert squared.mean() == pytest.approx(1, abs=4.5 * math.sqrt(0.5 / (K * S)))


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
