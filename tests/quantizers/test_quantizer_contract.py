"""The duties of every quantizer (discrete_ae/quantizers/base.py), tested on every YAML of conf/quantizer."""

import copy
import functools
import io
import itertools
import math
from pathlib import Path

import hydra
import pytest
import torch
from torch import Tensor

from discrete_ae.quantizers import IdentityQuantizer, Quantized, Quantizer, ResidualQuantizer
from tests.refusals import assert_refused

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "quantizer").glob("*.yaml"))
every_quantizer = pytest.mark.parametrize("name", NAMES)
every_with_codes = pytest.mark.parametrize("name", [name for name in NAMES if name != "identity"])
B, T = 3, 13  # T is no multiple of a vector register: the last frames take the tail of a vectorized loop


@functools.cache
def built(name: str, num_codebooks: int | None) -> Quantizer:
    """The quantizer of the YAML alone, composed with plain Hydra."""
    overrides = [f"+num_codebooks={num_codebooks}"] if num_codebooks else []
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(overrides=[f"+quantizer={name}", *overrides])
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        return hydra.utils.instantiate(config.quantizer)


def build(name: str, num_codebooks: int | None = None) -> Quantizer:
    """A new quantizer, with the same weights at each call."""
    return copy.deepcopy(built(name, num_codebooks))


def some_latents(quantizer: Quantizer, batch: int = B, frames: int = T, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, quantizer.dim, frames, generator=generator)


def some_codes(quantizer: Quantizer, frames: int = T) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    sizes = torch.tensor(quantizer.codebook_sizes)[:, None]
    return torch.randint(2**62, (B, quantizer.num_codebooks, frames), generator=generator) % sizes


def seeded(quantizer: Quantizer, latents: Tensor) -> Quantized:
    torch.default_generator.manual_seed(3)
    return quantizer(latents)


@every_with_codes
def test_one_knob_moves_the_rate(name):
    two, default = build(name, 2), build(name)
    assert two.num_codebooks == len(two.codebook_sizes) == 2
    assert two.bits_per_frame == pytest.approx(2 * default.bits_per_frame / default.num_codebooks)


# Forward --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@every_quantizer
def test_shapes_dtypes_and_ranges(name, training):
    quantizer = build(name).train(training)
    sizes = torch.tensor(quantizer.codebook_sizes)[:, None]
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        latents = some_latents(quantizer).to(dtype)
        before = latents.clone()
        out = quantizer(latents)
        assert isinstance(out, Quantized)
        assert out.latents.shape == latents.shape
        assert out.latents.dtype == dtype
        assert out.latents.isfinite().all()
        assert out.codes.shape == (B, quantizer.num_codebooks, T)
        assert out.codes.dtype == torch.int64
        assert ((out.codes >= 0) & (out.codes < sizes)).all()
        assert all(loss.ndim == 0 and loss.isfinite() for loss in out.losses.values())
        assert torch.equal(latents, before)
        if training:
            continue
        assert out.losses == {}
        if quantizer.num_codebooks:  # the decoder reads exactly the decoded codes
            decoded = quantizer.decode(out.codes)
            assert decoded.dtype == torch.float32
            assert torch.equal(out.latents, decoded.to(dtype))
            assert torch.equal(quantizer.dequantize(out.codes), decoded)


@every_with_codes
def test_codes_are_those_of_evaluation_also_in_training(name):
    quantizer = build(name)
    latents = some_latents(quantizer)
    expected = quantizer.encode(latents)
    assert torch.equal(quantizer.eval()(latents).codes, expected)
    assert torch.equal(seeded(quantizer.train(), latents).codes, expected)


@every_quantizer
def test_matches_evaluation_says_whether_training_emits_its_latents(name):
    quantizer = build(name)
    latents = some_latents(quantizer, frames=200)
    found, expected = seeded(quantizer, latents).latents, quantizer.eval()(latents).latents
    found_to_match = torch.allclose(found, expected, rtol=0, atol=1e-5)
    assert quantizer.matches_evaluation == found_to_match, "override matches_evaluation"
    assert found_to_match == {"ste": True, "gumbel": False}.get(name, found_to_match)  # this test can tell


@every_with_codes
def test_training_emits_nearly_what_its_codes_decode_to(name):
    """The mean square is 2 of this unit where the two are unrelated, 4 where the sign is wrong."""
    quantizer = build(name)
    latents = some_latents(quantizer, batch=30, frames=10)
    for _ in range(20):  # entries that are moving averages settle
        found = seeded(quantizer, latents).latents
    expected = quantizer.eval()(latents).latents
    assert (found - expected).square().mean() < 0.5 * found.std() * expected.std()


@every_quantizer
def test_losses_that_are_left_out_are_not_there_and_the_rest_is_the_same(name):
    quantizer = build(name)
    latents = some_latents(quantizer)
    expected = seeded(quantizer, latents)
    for gone in (set(expected.losses), *({loss} for loss in expected.losses), set()):
        less = build(name)
        less.leave_out({"code_entropy"})
        less.leave_out(gone)
        out = seeded(less, latents)
        assert set(out.losses) == set(expected.losses) - gone
        torch.testing.assert_close(out.latents, expected.latents, rtol=0, atol=0)
        assert torch.equal(out.codes, expected.codes)


@every_with_codes
def test_different_codes_decode_to_different_latents(name):
    quantizer = build(name)
    for k, size in enumerate(quantizer.codebook_sizes):
        codes = torch.zeros(1, quantizer.num_codebooks, size, dtype=torch.int64)
        codes[0, k] = torch.arange(size)
        assert quantizer.decode(codes)[0].T.unique(dim=0).shape == (size, quantizer.dim)


@every_quantizer
def test_gradient_is_finite_and_reaches_every_channel_and_parameter(name):
    for training in (True, False):
        quantizer = build(name).train(training)
        latents = some_latents(quantizer, frames=64).requires_grad_()
        out = seeded(quantizer, latents)
        upstream = torch.randn(out.latents.shape, generator=torch.Generator().manual_seed(4))
        loss = (out.latents * upstream).sum() + sum(out.losses.values())
        loss.backward()
        assert latents.grad.isfinite().all()
        assert (latents.grad.abs().amax(dim=(0, 2)) > 1e-4).all()
        # In evaluation there are no losses, and a codebook that learns by them alone has no gradient.
        for parameter in quantizer.parameters() if training else ():
            assert parameter.grad.isfinite().all()
            # A parameter of K codebooks learns in each of them.
            by_stage = parameter.grad.unflatten(0, (-1, 1)) if parameter.ndim < 3 else parameter.grad
            assert (by_stage.abs().flatten(1).amax(1) > 0).all()


@every_with_codes
def test_codebooks_learn_by_their_own_channels(name):
    quantizer = build(name)
    if isinstance(quantizer, ResidualQuantizer):
        pytest.skip("each stage has all channels; see test_residual_quantizer.py")
    channels = quantizer.dim // quantizer.num_codebooks
    for training in (True, False):
        latents = some_latents(quantizer, frames=64).requires_grad_()
        out = seeded(quantizer.train(training), latents).latents
        upstream = some_noise(out, seed=4)
        for k in range(quantizer.num_codebooks):
            own = slice(k * channels, (k + 1) * channels)  # adjacent
            (gradient,) = torch.autograd.grad(out[:, own], latents, upstream[:, own], retain_graph=True)
            assert (gradient[:, own].abs().amax(dim=(0, 2)) > 1e-4).all()
            gradient[:, own] = 0
            assert not gradient.any()


@every_quantizer
def test_double_backward_is_there(name):
    quantizer = build(name)
    latents = some_latents(quantizer, frames=2).requires_grad_()
    out = seeded(quantizer, latents)
    (first,) = torch.autograd.grad(out.latents.square().sum(), latents, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), latents)
    assert second.isfinite().all()
    assert second.abs().max() > 0


@every_with_codes
def test_codes_are_in_range_also_for_latents_that_are_nan_or_infinite(name):
    # A run that diverges ends with a message about its loss, not with one about an index.
    quantizer = build(name)
    expected = quantizer.encode(some_latents(quantizer))
    others = torch.ones(B, 1, T, dtype=torch.bool)
    others[1, 0, 3] = False
    for value in (math.nan, math.inf, -math.inf):
        latents = some_latents(quantizer)
        latents[1, 0, 3] = value
        codes = quantizer.encode(latents)
        assert ((codes >= 0) & (codes < torch.tensor(quantizer.codebook_sizes)[:, None])).all()
        assert torch.equal(codes.where(others, 0), expected.where(others, 0))
        build(name)(latents)  # training raises nothing either


# Fewer codebooks ------------------------------------------------------------------------------------------------------


@every_with_codes
def test_fewer_codebooks_are_the_first_of_all_and_decode(name):
    quantizer = build(name)
    k = quantizer.num_codebooks
    assert quantizer.decodable_counts == (tuple(range(1, k + 1)) if isinstance(quantizer, ResidualQuantizer) else (k,))
    latents = some_latents(quantizer)
    codes = quantizer.encode(latents)
    decoded = []
    for n in quantizer.decodable_counts:
        first = quantizer.encode(latents, n)
        assert torch.equal(first, codes[:, :n])
        decoded.append(quantizer.decode(first))
        assert decoded[-1].shape == latents.shape
        assert decoded[-1].dtype == torch.float32
        assert decoded[-1].isfinite().all()
        assert torch.equal(quantizer.eval().decode(first), decoded[-1])  # training or not, decoding is the same
        quantizer.train()
    assert torch.equal(decoded[-1], quantizer.decode(codes))
    assert all(not torch.equal(fewer, more) for fewer, more in itertools.pairwise(decoded))


@every_with_codes
def test_a_count_of_codebooks_that_does_not_decode_is_refused(name):
    quantizer = build(name)
    k = quantizer.num_codebooks
    for wrong in (n for n in (-1, 0, 1, k - 1, k + 1, 1.5) if n not in quantizer.decodable_counts):
        residual = len(quantizer.decodable_counts) > 1
        instructs = f"the first 1 to {k}" if residual else f"all {k} together"
        with pytest.raises(
            ValueError, match=rf"^num_codebooks: expected {instructs}.*got {wrong}; leave it out for all"
        ):
            quantizer.encode(some_latents(quantizer), wrong)


# Independence ---------------------------------------------------------------------------------------------------------


@every_quantizer
def test_eval_draws_nothing_and_depends_on_neither_strides_nor_the_copy(name):
    quantizer = build(name).eval()
    latents = some_latents(quantizer)
    strided = latents.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    state = torch.get_rng_state()
    first = quantizer(latents)
    for found in (quantizer(latents), quantizer(strided), copy.deepcopy(quantizer)(latents)):
        assert torch.equal(found.latents, first.latents)
        assert torch.equal(found.codes, first.codes)
    assert torch.equal(torch.get_rng_state(), state)


@every_with_codes
def test_no_code_depends_on_other_items_or_frames(name):
    # A distance by another kernel of the matrix product differs in the last bit, which decides near ties.
    quantizer = build(name, 2).eval()
    latents = some_latents(quantizer, batch=100, frames=200)
    codes = quantizer.encode(latents)
    assert torch.equal(torch.cat([quantizer.encode(item) for item in latents.split(1)]), codes)
    end_to_end = quantizer.encode(latents.transpose(0, 1).flatten(1)[None])
    assert torch.equal(end_to_end[0], codes.transpose(0, 1).flatten(1))
    frames = [quantizer.encode(latents[:1, :, t : t + 1]) for t in range(100)]
    assert torch.equal(torch.cat(frames, dim=2), codes[:1, :, :100])
    padded = quantizer.encode(torch.cat([latents[:5], 1e3 * torch.ones(5, quantizer.dim, 11)], dim=2))
    assert torch.equal(padded[..., :200], codes[:5])


@every_with_codes
def test_encode_leaves_modes_generator_and_graph_alone(name):
    quantizer = build(name).train()
    children = list(quantizer.children())
    for child in children:
        child.eval()  # a part that somebody froze stays frozen
    modes = [module.training for module in quantizer.modules()]
    latents = some_latents(quantizer).requires_grad_()
    state = torch.get_rng_state()
    codes = quantizer.encode(latents)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in quantizer.modules()] == modes
    assert not codes.requires_grad
    with pytest.raises(ValueError):
        quantizer.encode(latents[0])
    assert [module.training for module in quantizer.modules()] == modes


# Precision ------------------------------------------------------------------------------------------------------------


@every_with_codes
def test_float32_inside_under_bf16_autocast(name):
    # Where bfloat16 creeps in, a part of the codebook is silently never used.
    for training in (True, False):
        quantizer, same = build(name).train(training), build(name).train(training)
        latents = some_latents(quantizer, frames=300).bfloat16()
        codes = quantizer.encode(latents.float())
        exact = seeded(quantizer, latents.float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(same.encode(latents), codes)
            mixed = seeded(same, latents)
            decoded = quantizer.decode(exact.codes)
        assert torch.equal(mixed.codes, exact.codes)
        assert torch.equal(mixed.latents, exact.latents.bfloat16())
        assert torch.equal(decoded, quantizer.decode(exact.codes))
        for key, loss in exact.losses.items():
            assert torch.equal(mixed.losses[key], loss)
        for k, size in enumerate(quantizer.codebook_sizes):
            assert codes[:, k].unique().numel() > size / 8


@every_with_codes
def test_a_cast_leaves_codebooks_and_codes_as_they_are(name):
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        kept, casted = build(name), build(name).to(dtype)
        latents = some_latents(kept, frames=100).to(dtype)
        expected, found = seeded(kept, latents), seeded(casted, latents)
        assert found.latents.dtype == dtype
        assert torch.equal(found.latents, expected.latents)
        assert torch.equal(casted.encode(latents), kept.encode(latents))
        assert torch.equal(casted.decode(found.codes), kept.decode(found.codes))


class Probe(Quantizer):
    """Looks at what the base class hands to a subclass."""

    def __init__(self, dim: int = 2, codebook_sizes: tuple[int, ...] = (4, 3)) -> None:
        super().__init__(dim, codebook_sizes)

    def quantize(self, latents: Tensor) -> Quantized:
        assert latents.dtype == torch.float32
        assert latents.is_contiguous()
        assert not torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "highest"
        return Quantized(latents * 0.5, latents.round().long().clamp(0, 2), {})

    def dequantize(self, codes: Tensor) -> Tensor:
        assert not torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "highest"
        return codes * 0.1


def test_the_base_class_prepares_what_a_subclass_gets():
    before = torch.get_float32_matmul_precision()
    probe = Probe()
    latents = torch.rand(1, 5, 2, dtype=torch.float64).transpose(1, 2).requires_grad_()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            trained = probe(latents)
            evaluated = probe.eval()(latents)
            probe.decode(evaluated.codes)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(trained.latents, (latents.float() * 0.5).double())
    assert torch.equal(evaluated.latents, (evaluated.codes * 0.1).double())
    # In eval the values are the decoded ones, the gradient still that of what quantize returned.
    evaluated.latents.sum().backward()
    assert torch.equal(latents.grad, torch.full_like(latents, 0.5))
    assert probe.bits_per_frame == 2 + math.log2(3)


# Sizes ----------------------------------------------------------------------------------------------------------------


@every_quantizer
def test_no_frame_and_one_frame(name):
    for training, frames in itertools.product((True, False), (0, 1)):
        quantizer = build(name).train(training)
        latents = some_latents(quantizer, frames=frames).requires_grad_()
        codes = quantizer.encode(latents) if quantizer.num_codebooks else None
        out = quantizer(latents)
        assert out.latents.shape == (B, quantizer.dim, frames)
        assert out.codes.shape == (B, quantizer.num_codebooks, frames)
        out.latents.sum().backward()
        if quantizer.num_codebooks:
            assert torch.equal(codes, out.codes)
            assert quantizer.decode(out.codes).shape == (B, quantizer.dim, frames)


@every_quantizer
def test_state_dict_round_trip(name):
    trained, fresh = build(name).eval(), build(name).eval()
    for i, parameter in enumerate(trained.parameters()):
        with torch.no_grad():
            parameter.copy_(some_noise(parameter, seed=i + 100))
    stored = io.BytesIO()
    torch.save(trained.state_dict(), stored)
    stored.seek(0)
    fresh.load_state_dict(torch.load(stored, weights_only=True))
    latents = some_latents(trained)
    assert torch.equal(fresh(latents).latents, trained(latents).latents)
    assert torch.equal(fresh(latents).codes, trained(latents).codes)


def some_noise(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


# Errors ---------------------------------------------------------------------------------------------------------------


@every_quantizer
def test_wrong_latents_are_refused(name):
    quantizer = build(name)
    for shape in ((quantizer.dim, T), (B, quantizer.dim + 1, T), (B, T, quantizer.dim), (B, quantizer.dim, T, 1)):
        with pytest.raises(ValueError, match=rf"latents: expected shape \(batch, {quantizer.dim}, frames\), got \("):
            quantizer(torch.zeros(shape))
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with pytest.raises(ValueError, match=rf"latents: expected a floating-point tensor, got {dtype}"):
            quantizer(torch.zeros(B, quantizer.dim, T, dtype=dtype))


@every_with_codes
def test_wrong_codes_are_refused(name):
    quantizer = build(name)
    codes, k = some_codes(quantizer), quantizer.num_codebooks
    wrong_counts = [n for n in range(2 * k + 1) if n not in quantizer.decodable_counts]
    for wrong in (codes[0], codes[..., None], *(torch.cat([codes, codes], dim=1)[:, :n] for n in wrong_counts)):
        with pytest.raises(ValueError, match=rf"codes: expected shape \(batch, {k}, frames\), got \("):
            quantizer.decode(wrong)
    for dtype in (torch.int32, torch.float32, torch.uint8, torch.bool):
        with pytest.raises(ValueError, match=rf"codes: expected int64, got {dtype}.*long"):
            quantizer.decode(codes.to(dtype))
    for last, value in ((0, -1), (k - 1, quantizer.codebook_sizes[-1]), (k - 1, 2**62)):
        wrong = codes.clone()
        wrong[-1, last, -1] = value
        size = quantizer.codebook_sizes[last]
        with pytest.raises(ValueError, match=rf"expected 0 <= code < {size} in codebook {last}, got .*{value}"):
            quantizer.decode(wrong)


def test_wrong_sizes_are_refused():
    assert_refused(Probe, {"dim": (0, 2.5), "codebook_sizes": ((4, 1), (4, 2.5), (4, math.nan))})
    assert_refused(IdentityQuantizer, {"dim": (0, "two")})


# Identity -------------------------------------------------------------------------------------------------------------


def test_identity_is_the_upper_bound():
    identity = build("identity")
    assert (identity.bits_per_frame, identity.num_codebooks) == (math.inf, 0)
    for training in (True, False):
        latents = some_latents(identity).requires_grad_()
        out = identity.train(training)(latents)
        assert torch.equal(out.latents, latents)
        assert out.losses == {}
        (gradient,) = torch.autograd.grad(out.latents.sum(), latents)
        assert torch.equal(gradient, torch.ones_like(latents))
    for use, of in ((identity.encode, latents), (identity.decode, torch.zeros(B, 0, T, dtype=torch.int64))):
        with pytest.raises(ValueError, match="no codes; choose another quantizer"):
            use(of)
