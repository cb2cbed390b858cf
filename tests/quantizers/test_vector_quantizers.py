"""The adapters of vector-quantize-pytorch against that library, brute force in float64, and numpy."""

import functools
import math

import numpy as np
import pytest
import torch
import vector_quantize_pytorch
from torch import Tensor, nn

from discrete_ae.quantizers import (
    LookupFreeQuantizer,
    Quantizer,
    ResidualQuantizer,
    SimVectorQuantizer,
    VectorQuantizer,
)

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


def chosen(quantizer: Quantizer, codes: Tensor) -> np.ndarray:
    return entries(quantizer)[np.arange(K)[:, None], codes.numpy()]


# Codes ----------------------------------------------------------------------------------------------------------------


@every
def test_codes_and_values_in_eval_are_the_librarys(name):
    quantizer = build(name).eval()
    latents = some_latents()
    out = quantizer(latents)
    if isinstance(quantizer.inner, nn.ModuleList):
        parts = zip(quantizer.inner, latents.mT.split(D, dim=-1), strict=True)
        values, codes, _ = zip(*(inner(part) for inner, part in parts), strict=True)
        value, code = torch.cat(values, dim=-1), torch.stack(codes, dim=-1)
    else:
        value, code, _ = quantizer.inner(latents.mT)
    assert torch.equal(out.codes, code.mT.long())
    torch.testing.assert_close(out.latents, value.mT, rtol=0, atol=1e-6)


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
def test_channels_of_a_codebook_lie_next_to_one_another(name):
    quantizer = build(name)
    latents, others = some_latents(), some_latents(seed=2)
    codes, other_codes = quantizer.encode(latents), quantizer.encode(others)
    for k in range(K):
        block = slice(k * D, (k + 1) * D)
        mixed, mixed_codes = latents.clone(), codes.clone()
        mixed[:, block], mixed_codes[:, k] = others[:, block], other_codes[:, k]
        assert torch.equal(quantizer.encode(mixed), mixed_codes)
        decoded = quantizer.decode(codes)
        decoded[:, block] = quantizer.decode(other_codes)[:, block]
        assert torch.equal(quantizer.decode(mixed_codes), decoded)


@every
def test_entries_encode_to_themselves(name):
    quantizer = build(name)
    codes = torch.arange(S).expand(1, K, S).contiguous()
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


@every
def test_no_code_is_ever_minus_one(name):
    # The library marks dropped quantizers and masked frames by -1.
    quantizer = ResidualQuantizer(functools.partial(build, name), 4, dropout=1.0)
    for training in (True, False):
        codes = quantizer.train(training)(some_latents(batch=20)).codes
        assert codes.min() >= 0
        assert codes.max() < S


# Training -------------------------------------------------------------------------------------------------------------


@every
def test_training_emits_the_entries_and_passes_the_gradient(name):
    quantizer = build(name)
    before = torch.tensor(entries(quantizer))
    latents, upstream = some_latents().requires_grad_(), some_latents(seed=3)
    out = quantizer(latents)
    values = before[torch.arange(K)[:, None], out.codes].transpose(2, 3).flatten(1, 2).float()
    torch.testing.assert_close(out.latents.detach(), values, rtol=0, atol=1e-5)
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


@pytest.mark.parametrize("explicit", [{}, {"rotation_trick": True}], ids=["default", "explicit"])
def test_rotation_trick_is_the_default_and_its_gradient_the_librarys(explicit):
    latents, upstream = some_latents().requires_grad_(), some_latents(seed=3)

    def gradient(out: Tensor) -> Tensor:
        return torch.autograd.grad(out, latents, upstream)[0]

    quantizer = build("vq-rotation", **explicit)
    library = vector_quantize_pytorch.VectorQuantize(
        K * D,
        S,
        D,
        heads=K,
        separate_codebook_per_head=True,
        rotation_trick=True,
        learnable_codebook=True,
        ema_update=False,
    )
    library._codebook.embed.data.copy_(torch.tensor(entries(quantizer)))
    torch.testing.assert_close(
        gradient(quantizer(latents).latents), gradient(library(latents.mT)[0].mT), rtol=1e-5, atol=1e-6
    )

    simvq = build("simvq-rotation", **explicit)
    outs = []
    for k, part in enumerate(latents.split(D, dim=1)):
        library = vector_quantize_pytorch.SimVQ(D, S, codebook_transform=nn.Identity(), rotation_trick=True)
        library.frozen_codebook.copy_(torch.tensor(entries(simvq)[k]))
        outs.append(library(part.mT)[0].mT)
    torch.testing.assert_close(gradient(simvq(latents).latents), gradient(torch.cat(outs, dim=1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["vq-rotation", "simvq-rotation"])
@pytest.mark.parametrize("place", ["zero", "opposite", "entry"])
def test_rotation_trick_is_finite_where_no_rotation_is_defined(name, place):
    quantizer = build(name)
    entry = torch.tensor(entries(quantizer)[:, :1], dtype=torch.float32).mT.flatten(0, 1)[None]
    latents = {"zero": 0 * entry, "opposite": -entry, "entry": entry}[place].requires_grad_()
    out = quantizer(latents)
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


@pytest.mark.parametrize("name", ["vq", "vq-rotation"])
def test_commitment_moves_the_entries_to_the_mean_of_their_latents(name):
    quantizer = build(name)
    latents = some_latents()
    out = quantizer(latents)
    (gradient,) = torch.autograd.grad(out.losses["commitment"], quantizer.inner.codebook)
    z, codes, e = by_codebook(latents), out.codes.numpy(), entries(quantizer)
    expected = np.zeros((K, S, D))
    for k in range(K):
        for code in range(S):
            expected[k, code] = 2 * (e[k, code] - z[:, k][codes[:, k] == code]).sum(0) / z.size
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("inverse_temperature", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("diversity", [0.0, 1.0, 2.5])
@every_signs
def test_entropy_is_that_of_the_soft_assignment(name, diversity, inverse_temperature):
    quantizer = build(name, diversity=diversity, inverse_temperature=inverse_temperature)
    latents = some_latents()
    z = by_codebook(latents)
    z = z / np.linalg.norm(z, axis=-1, keepdims=True) if name == "bsq" else z
    # Minus the squared distance is 2 z e up to a constant of the frame.
    scores = 2 * inverse_temperature * np.einsum("bktd,ksd->bkts", z, entries(quantizer))
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)

    def entropy(p):
        return -(p * np.log(p)).sum(-1)

    expected = entropy(p).mean() - diversity * entropy(p.mean(axis=(0, 2))).mean()
    # The library takes no logarithm below that of 1e-5: each of the 16 terms may be off by 1e-5 / e.
    assert quantizer(latents).losses["entropy"].item() == pytest.approx(expected, abs=1e-4 * (1 + diversity))
    if inverse_temperature == 0:  # all 16 entries alike
        assert expected == pytest.approx((1 - diversity) * math.log(16), abs=1e-12)


@every
def test_losses_are_there_in_training_alone_and_are_named(name):
    quantizer = build(name)
    names = {"commitment", "entropy"} if name in ("lfq", "bsq") else {"commitment"}
    assert set(quantizer(some_latents()).losses) == names
    assert quantizer.eval()(some_latents()).losses == {}


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
    # library's smoothing of the counts. An entry that is not chosen stays.
    torch.testing.assert_close(after[3], (0.9 * before[3] + 0.7 * point) / 1.6, rtol=0, atol=1e-4)
    others = torch.arange(S) != 3
    torch.testing.assert_close(after[others], before[others], rtol=0, atol=1e-3)
    for _ in range(200):
        quantizer(latents)
    torch.testing.assert_close(quantizer.decode(codes)[0].T[3], point, rtol=0, atol=1e-3)
    frozen = quantizer.eval().decode(codes)
    quantizer(latents)
    assert torch.equal(quantizer.decode(codes), frozen)


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_entries_that_are_not_used_are_replaced_by_latents(ema_decay):
    torch.default_generator.manual_seed(0)
    quantizer = VectorQuantizer(S, 1, D, ema_decay=ema_decay, dead_code_threshold=2)
    latents = torch.randn(4, D, 100) * 0.1 + 5  # far from the first entries, all of which but one are never the nearest
    assert quantizer.encode(latents).unique().numel() < 6
    for _ in range(10):
        quantizer(latents)
    assert quantizer.encode(latents).unique().numel() > 12


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_no_entry_is_replaced_by_default(ema_decay):
    torch.default_generator.manual_seed(0)
    quantizer = VectorQuantizer(S, 1, D, ema_decay=ema_decay)
    codes = torch.arange(S)[None, None]
    latents, before = torch.randn(4, D, 100) * 0.1 + 5, quantizer.decode(codes)
    used = quantizer.encode(latents).unique()
    unused = torch.tensor([code not in used for code in range(S)])
    quantizer(latents)
    torch.testing.assert_close(quantizer.decode(codes)[..., unused], before[..., unused], rtol=0, atol=1e-3)


def test_first_entries_are_of_the_size_of_the_latents_of_unit_length():
    squared = (entries(build("vq")) ** 2).sum(-1)
    # Mean 1 of a chi-square of D = 4 over 4, whose standard deviation is sqrt(2 / 4); 48 of them.
    assert squared.mean() == pytest.approx(1, abs=4.5 * math.sqrt(0.5 / (K * S)))


# Wrong arguments ------------------------------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf
SIZES = [
    *[("codebook_size", value) for value in (1, 0, -4, 2.5, NAN, "many")],
    *[("num_codebooks", value) for value in (0, -1, 1.5, NAN, "eight")],
]
DIMS = [("codebook_dim", value) for value in (0, -1, 1.5, NAN, "wide")]
NUMBERS = [(name, value) for name in ("inverse_temperature", "diversity") for value in (-0.1, NAN, INF, "warm")]
WRONG = [
    *[(VectorQuantizer, *wrong) for wrong in SIZES + DIMS],
    *[(VectorQuantizer, "ema_decay", value) for value in (1.0, 1.1, -0.1, NAN, "slow")],
    *[(VectorQuantizer, "dead_code_threshold", value) for value in (-1, 0.5, NAN, "few")],
    *[(SimVectorQuantizer, *wrong) for wrong in SIZES + DIMS],
    *[(LookupFreeQuantizer, *wrong) for wrong in SIZES + NUMBERS],
    *[(LookupFreeQuantizer, "codebook_size", value) for value in (3, 100, 257)],
]


@pytest.mark.parametrize(("cls", "name", "value"), WRONG, ids=str)
def test_wrong_arguments_are_refused_by_name(cls, name, value):
    arguments = {"codebook_size": 8, "num_codebooks": 2}
    arguments |= {} if cls is LookupFreeQuantizer else {"codebook_dim": 3}
    with pytest.raises(ValueError, match=rf"^{name}: expected .*got.*{value}"):
        cls(**arguments | {name: value})
