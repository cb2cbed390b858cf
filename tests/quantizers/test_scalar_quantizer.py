"""ScalarQuantizer against hand arithmetic, numpy, and FSQ of vector-quantize-pytorch."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit
from torch import Tensor
from vector_quantize_pytorch import FSQ

from discrete_ae.quantizers import ScalarQuantizer
from discrete_ae.rounding import Sigmoid, StraightThrough
from tests.refusals import assert_refused

DISTRIBUTIONS = {"normal": stats.norm, "laplace": stats.laplace, "cauchy": stats.cauchy}
BOUNDS = ("tanh", "sigmoid", "clamp", *DISTRIBUTIONS)
NUMPY_BOUNDS = {
    "tanh": lambda z: (np.tanh(z) + 1) / 2,
    "sigmoid": expit,
    "clamp": lambda z: (np.clip(z, -1, 1) + 1) / 2,
    **{name: distribution.cdf for name, distribution in DISTRIBUTIONS.items()},
}
NUMPY_SLOPES = {
    "tanh": lambda z: (1 - np.tanh(z) ** 2) / 2,
    "sigmoid": lambda z: NUMPY_BOUNDS["sigmoid"](z) * (1 - NUMPY_BOUNDS["sigmoid"](z)),
    "clamp": lambda z: np.full_like(z, 0.5),  # straight through outside as well
    **{name: distribution.pdf for name, distribution in DISTRIBUTIONS.items()},
}
# Into (0, 1) and back: b^-1 of a dequantized value in [-1, 1].
INVERSES = {
    "tanh": torch.atanh,
    "sigmoid": lambda value: torch.logit((value + 1) / 2),
    "clamp": lambda value: value,
    **{
        name: lambda value, distribution=distribution: torch.from_numpy(distribution.ppf((value.double() + 1) / 2))
        for name, distribution in DISTRIBUTIONS.items()
    },
}


def ste(levels: list[int], num_codebooks: int = 1, bound: str = "tanh", **arguments) -> ScalarQuantizer:
    torch.default_generator.manual_seed(0)
    return ScalarQuantizer(levels, num_codebooks, StraightThrough(), bound, **arguments)


def random_latents(*shape: int, scale: float = 1.5) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale


def all_codes(quantizer: ScalarQuantizer) -> Tensor:
    """Every code once, (1, K, size)."""
    return torch.arange(quantizer.codebook_sizes[0]).expand(1, quantizer.num_codebooks, -1).contiguous()


def test_by_hand():
    quantizer = ste([3, 5])
    latents = torch.tensor([[[0.0, 100.0, -100.0], [0.0, -100.0, 100.0]]])
    out = quantizer(latents)
    # u = (2 * 1/2, 4 * 1/2) = (1, 2) in frame 0, code 1 + 3 * 2; then (2, 0), code 2; then (0, 4), code 3 * 4.
    assert out.codes.tolist() == [[[7, 2, 12]]]
    # 2 u / (L - 1) - 1 with these u is 0, 1 and -1 exactly.
    assert out.latents.tolist() == [[[0.0, 1.0, -1.0], [0.0, -1.0, 1.0]]]
    # Four levels have none at 0: u = 1.5 is a tie and goes to the even 2, of value 4/3 - 1.
    assert ste([4])(torch.zeros(1, 1, 1)).codes.item() == 2


@pytest.mark.parametrize("bound", BOUNDS)
def test_codes_and_latents_against_numpy(bound):
    levels, k = [8, 5, 2, 3], 3
    quantizer = ste(levels, k, bound)
    assert quantizer.dim == 12
    assert quantizer.codebook_sizes == (240, 240, 240)
    latents = random_latents(2, 12, 300)
    scale = np.tile(np.array(levels) - 1, k)[:, None]
    u = scale * NUMPY_BOUNDS[bound](latents.double().numpy())
    clear = np.abs(u - np.floor(u) - 0.5) > 1e-4  # float32 may fall on the other side of a tie
    digits = np.rint(u)
    out = quantizer.eval()(latents)
    expected = 2 * digits / scale - 1
    np.testing.assert_allclose(out.latents.numpy()[clear], expected[clear], rtol=0, atol=2e-7)
    radix = np.array([1, 8, 40, 80])
    codes = (digits.reshape(2, k, 4, 300) * radix[:, None]).sum(2)
    whole = clear.reshape(2, k, 4, 300).all(2)
    assert whole.mean() > 0.99
    np.testing.assert_array_equal(out.codes.numpy()[whole], codes[whole])


@pytest.mark.parametrize("levels", [[2], [3], [4, 4, 4, 4], [8, 5, 5], [7, 2, 33]])
def test_dequantized_values_are_the_mixed_radix_digits(levels):
    quantizer = ste(levels, num_codebooks=2)
    values = quantizer.decode(all_codes(quantizer))[0].unflatten(0, (2, len(levels)))
    assert torch.equal(values[0], values[1])
    # numpy's unravel has the last digit least significant, ours the first.
    digits = np.stack(np.unravel_index(np.arange(math.prod(levels)), levels[::-1])[::-1])
    expected = 2 * digits / (np.array(levels) - 1)[:, None] - 1
    np.testing.assert_allclose(values[0].numpy(), expected, rtol=0, atol=1.2e-7)
    for channel in values[0]:
        assert channel.min() == -1  # 0 * 2 / (L - 1) - 1
        assert channel.max() == 1  # (L - 1) * 2 / (L - 1) - 1: the quotient of equal numbers times 2 is exact


@pytest.mark.parametrize("bound", BOUNDS)
def test_encode_is_the_inverse_of_decode_behind_the_bound(bound):
    # Latents lie after the bound, encode's input before it: the fixed point is encode(b^-1(decode(codes))) == codes.
    # At the ends b^-1 is +-inf for tanh and sigmoid, which both send to exactly 0 or 1.
    for levels in ([2], [4, 4, 4, 4], [8, 5, 5]):
        quantizer = ste(levels, 2, bound)
        codes = all_codes(quantizer)
        assert torch.equal(quantizer.encode(INVERSES[bound](quantizer.decode(codes))), codes)


@pytest.mark.parametrize("bound", BOUNDS)
def test_soft_values_and_their_gradient_by_the_chain_rule(bound):
    k = 6.0
    latents = random_latents(2, 3, 50).requires_grad_()
    upstream = random_latents(2, 3, 50, scale=1.0).flip(0)
    out = ScalarQuantizer([4, 7, 2], 1, Sigmoid(k, normalized=True, hard=False), bound)(latents).latents
    (gradient,) = torch.autograd.grad(out, latents, upstream)
    z = latents.detach().double().numpy()
    steps = np.array([3, 6, 1])[:, None]
    u = steps * NUMPY_BOUNDS[bound](z)
    tanh = np.tanh(k * (u - np.floor(u) - 0.5) / 2)
    soft = np.floor(u) + 0.5 + tanh / np.tanh(k / 4) / 2
    np.testing.assert_allclose(out.detach().numpy(), 2 * soft / steps - 1, rtol=0, atol=1e-5)
    slope = (k / 4) * (1 - tanh**2) / np.tanh(k / 4)
    # d latents / d z = 2 / (L - 1) * s'(u) * (L - 1) * b'(z)
    expected = upstream.numpy() * 2 * slope * NUMPY_SLOPES[bound](z)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_slope_at_0_and_far_away(bound):
    z = torch.tensor([[[0.0, 1e8, -1e8, math.inf, -math.inf]]], requires_grad=True)
    out = ste([5], bound=bound)(z)
    assert out.codes.tolist() == [[[2, 4, 0, 4, 0]]]
    assert out.latents.tolist() == [[[0, 1, -1, 1, -1]]]
    (gradient,) = torch.autograd.grad(out.latents[..., :3].sum(), z)
    expected = 2 * NUMPY_SLOPES[bound](z[0, 0].detach().double().numpy()[:3])
    np.testing.assert_allclose(gradient[0, 0, :3].numpy(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bound", DISTRIBUTIONS)
def test_latents_of_the_distribution_use_all_integers_alike_but_the_ends_half_as_often(bound):
    count = 4000
    quantiles = torch.from_numpy(DISTRIBUTIONS[bound].ppf((np.arange(count) + 0.5) / count))
    used = torch.bincount(ste([5], bound=bound).encode(quantiles[None, None]).flatten())
    assert (used - torch.tensor([500, 1000, 1000, 1000, 500])).abs().max() <= 1  # at a tie


# Rotation -------------------------------------------------------------------------------------------------------------


def turned(**arguments) -> tuple[ScalarQuantizer, ScalarQuantizer, Tensor]:
    """A quantizer with rotation, the same without, and the rotation."""
    rotated = ste([4, 3], 3, rotation=True, **arguments)
    plain = ste([4, 3], 3, **arguments)
    plain.load_state_dict({name: value for name, value in rotated.state_dict().items() if name != "rotation"})
    return rotated, plain, rotated.rotation


def test_rotation_is_orthogonal_and_part_of_the_state():
    quantizer, _, r = turned()
    torch.testing.assert_close(r @ r.T, torch.eye(6), rtol=0, atol=1e-6)
    torch.testing.assert_close(r.T @ r, torch.eye(6), rtol=0, atol=1e-6)
    assert (r.abs() > 1e-3).sum() > 30  # it mixes them all
    torch.default_generator.manual_seed(1)
    other = ScalarQuantizer([4, 3], 3, StraightThrough(), rotation=True)
    latents = random_latents(2, 6, 50)
    assert not torch.equal(other.encode(latents), quantizer.encode(latents))
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.encode(latents), quantizer.encode(latents))
    assert list(quantizer.parameters()) == []


@pytest.mark.parametrize("dither", [False, True])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_rotation_is_around_the_quantizer(training, dither):
    rotated, plain, r = turned(dither=dither)
    latents, upstream = random_latents(2, 6, 50).requires_grad_(), random_latents(2, 6, 50).flip(2)
    found, expected = rotated.train(training)(latents), plain.train(training)(r @ latents)
    assert torch.equal(found.codes, expected.codes)
    torch.testing.assert_close(found.latents, r.T @ expected.latents)
    torch.testing.assert_close(found.losses, expected.losses)
    gradients = [torch.autograd.grad(of, latents, upstream) for of in (found.latents, r.T @ expected.latents)]
    torch.testing.assert_close(*gradients)
    assert torch.equal(rotated.encode(latents), found.codes)
    torch.testing.assert_close(rotated.decode(found.codes), r.T @ plain.decode(found.codes))
    # No code depends on other items and frames, whatever kernel multiplies the matrices.
    assert torch.equal(torch.cat([rotated.encode(frame) for frame in latents.split(1, dim=2)], dim=2), found.codes)


def test_fewer_codebooks_of_a_rotated_quantizer_are_0_before_they_are_turned_back():
    rotated, plain, r = turned(dropout=1.0, dither=True)
    latents = random_latents(60, 6, 5)
    codes = rotated.encode(latents)
    prefixes = torch.stack([rotated.decode(codes[:, :n]) for n in (1, 2, 3)])
    for n, prefix in enumerate(prefixes, start=1):
        torch.testing.assert_close(prefix, r.T @ plain.decode(codes[:, :n]))
        assert not plain.decode(codes[:, :n])[:, 2 * n :].any()
    error = (rotated(latents).latents - prefixes).abs().flatten(2).amax(dim=2)
    assert (error.amin(dim=0) < 1e-6).all()
    assert error.argmin(dim=0).unique().tolist() == [0, 1, 2]


# Dither ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", ["tanh", "clamp", "normal"])
def test_dither_is_added_before_rounding_and_subtracted_after_it(bound):
    levels, k = [8, 5, 2], 2
    quantizer = ste(levels, k, bound, dither=True)
    u = quantizer.state_dict()["dither"].double().numpy()
    assert u.shape == (6, 1)
    assert (np.abs(u) <= 0.5).all()
    assert len(np.unique(u)) == 6
    latents = random_latents(2, 6, 300)
    steps = np.tile(np.array(levels) - 1, k)[:, None]
    x = steps * NUMPY_BOUNDS[bound](latents.double().numpy()) + u
    clear = np.abs(x - np.floor(x) - 0.5) > 1e-4
    integers = np.clip(np.rint(x), 0, steps)
    expected = 2 * (integers - u) / steps - 1
    for training in (True, False):
        out = quantizer.train(training)(latents)
        np.testing.assert_allclose(out.latents.numpy()[clear], expected[clear], rtol=0, atol=1e-6)
        codes = (integers.reshape(2, k, 3, 300) * np.array([1, 8, 40])[:, None]).sum(2)
        whole = clear.reshape(2, k, 3, 300).all(2)
        np.testing.assert_array_equal(out.codes.numpy()[whole], codes[whole])
    other = ScalarQuantizer(levels, k, StraightThrough(), bound, dither=True)
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.encode(latents), out.codes)


def test_dither_leaves_the_straight_through_gradient_alone():
    latents = random_latents(2, 6, 50).requires_grad_()
    gradients = [torch.autograd.grad(ste([4, 3], 3, dither=on)(latents).latents.sum(), latents) for on in (True, False)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("latent", [0.0, 0.1, 0.77, -1.0, 5.0])  # clamped, the last two are the first and last integer
def test_over_the_channels_the_error_is_uniform_whatever_the_latents_are(latent):
    count, steps = 20_000, 8
    quantizer = ste([steps + 1], count, "clamp", dither=True)
    out = quantizer(torch.full((1, count, 1), latent))
    errors = ((out.latents - max(-1.0, min(latent, 1.0))) * steps / 2).flatten().double().numpy()  # in steps
    assert abs(errors.mean()) < 4.5 * math.sqrt(1 / 12 / count)
    # The variance of the square of a uniform number is 1/80 - 1/144.
    assert abs((errors**2).mean() - 1 / 12) < 4.5 * math.sqrt((1 / 80 - 1 / 144) / count)
    assert stats.kstest(errors, stats.uniform(-0.5, 1).cdf).pvalue > 1e-5


def test_the_largest_dither_rounds_to_no_integer_that_is_not_there():
    # In float32 3 + (1/2 - 2^-24) is 3.5, which is rounded to 4: there are 4 levels, 0 to 3.
    quantizer = ste([4], bound="clamp", dither=True)
    for dither, highest in ((0.5 - 2**-24, 3), (-0.5, 2)):  # 5/2 is a tie and goes to the even 2
        quantizer.dither.fill_(dither)
        assert quantizer.encode(torch.tensor([[[1.0, 9.0, -1.0, -9.0]]])).tolist() == [[[highest, highest, 0, 0]]]


# Entropy of the codes -------------------------------------------------------------------------------------------------


def test_code_entropy_by_hand():
    quantizer = ste([3, 5], bound="clamp")
    # u = (z + 1) (L - 1) / 2. Channel 0: 0, 1/2, 1/2, 2, so that levels count 2, 1, 1 of 4: 1.5 bits.
    # Channel 1: 1, 1, 3, 3, so that two levels count a half each: 1 bit.
    latents = torch.tensor([[[-1.0, -0.5, -0.5, 1.0], [-0.5, -0.5, 0.5, 0.5]]])
    for batch in (latents, torch.cat(latents.split(2, dim=2))):  # the same over two items
        assert quantizer(batch).losses["code_entropy"].item() == pytest.approx(1.5 + 1.0, rel=1e-6)
    quantizer = ste([8, 5, 2], 2, bound="clamp")  # one level alone has none, every code once the nominal rate
    for values, expected in ((torch.ones(2, 6, 50), 0), (quantizer.decode(all_codes(quantizer)), 2 * math.log2(80))):
        assert quantizer(values).losses["code_entropy"].item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("bound", [bound for bound in BOUNDS if bound != "clamp"])
def test_code_entropy_has_the_gradient_of_finite_differences(bound):
    quantizer = ste([4, 3], 2, bound)
    latents = random_latents(2, 4, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: quantizer.quantize(z).losses["code_entropy"], latents)


def test_code_entropy_has_a_finite_gradient_where_levels_are_never_used():
    latents = torch.full((1, 1, 20), 100.0, requires_grad=True)  # tanh is exactly 1: the highest level and no other
    ste([5])(latents).losses["code_entropy"].backward()
    assert latents.grad.isfinite().all()
    clamped = torch.full((1, 1, 20), 1.0, requires_grad=True)
    ste([5], bound="clamp")(clamped).losses["code_entropy"].backward()
    assert clamped.grad.isfinite().all()
    assert (clamped.grad < 0).all()  # away from the highest level there would be more entropy


# Finite Scalar Quantization of vector-quantize-pytorch ----------------------------------------------------------------


@pytest.mark.parametrize(("levels", "num_codebooks"), [([4, 4, 4, 4], 8), ([8, 5, 5, 5], 1), ([2, 3, 7], 2)])
def test_straight_through_with_tanh_is_fsq(levels, num_codebooks):
    fsq = FSQ(levels=levels, num_codebooks=num_codebooks, preserve_symmetry=True, channel_first=True)
    quantizer = ste(levels, num_codebooks)
    latents = random_latents(3, quantizer.dim, 200, scale=1.0)
    # FSQ floors u + 1/2, we round u half to even: an exact tie may differ, and what float32 round-off makes one.
    u = np.tile(np.array(levels) - 1, num_codebooks)[:, None] * NUMPY_BOUNDS["tanh"](latents.double().numpy())
    clear = torch.tensor(np.abs(u - np.floor(u) - 0.5) > 1e-5)
    clear_codes = clear.unflatten(1, (num_codebooks, len(levels))).all(2)
    assert clear_codes.float().mean() > 0.99

    ours, theirs = latents.clone().requires_grad_(), latents.clone().requires_grad_()
    out = quantizer(ours)
    reference, indices = fsq(theirs)
    indices = indices.unflatten(0, (3, -1)) if indices.ndim == 2 and num_codebooks > 1 else indices
    indices = indices[:, None] if num_codebooks == 1 else indices.movedim(-1, 1)
    assert torch.equal(out.codes[clear_codes], indices[clear_codes].long())
    torch.testing.assert_close(out.latents[clear], reference[clear], rtol=0, atol=1e-6)

    upstream = random_latents(3, quantizer.dim, 200).flip(2)
    (gradient,) = torch.autograd.grad(out.latents, ours, upstream)
    (expected,) = torch.autograd.grad(reference, theirs, upstream)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


# Wrong arguments ------------------------------------------------------------------------------------------------------


WRONG = {
    "levels": (4, "4", [], [4, 1], [4, 0], [-3], [4, 4.5], [math.nan], ["four"]),
    "num_codebooks": (0, -1, 2.5, math.nan, "eight"),
    "rounding": (None, "round", torch.round, StraightThrough(op="floor")),
    "bound": ("relu", None, ""),
    "rotation": ("yes", "false", 1, None),
    "dither": ("no", 0, None),
    "dropout": (-0.1, 1.1, math.nan, "some"),
}


def test_wrong_arguments_are_refused_by_name():
    assert_refused(ScalarQuantizer, WRONG, levels=[4, 4], num_codebooks=2, rounding=StraightThrough(), bound="tanh")
