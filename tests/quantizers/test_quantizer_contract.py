"""What every quantizer must do alike, tested on every YAML of conf/quantizer, found by glob."""

import copy
import functools
import io
import itertools
import math
from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from discrete_ae.quantizers import (
    GumbelSoftmaxQuantizer,
    IdentityQuantizer,
    Quantized,
    Quantizer,
    ResidualQuantizer,
)
from discrete_ae.schedules import Schedule

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "quantizer").glob("*.yaml"))
every_quantizer = pytest.mark.parametrize("name", NAMES)
every_with_codes = pytest.mark.parametrize("name", [name for name in NAMES if name != "identity"])
B, T = 3, 13  # T is no multiple of a vector register: the last frames take the tail of a vectorized loop


@functools.cache
def composed(name: str, *overrides: str) -> DictConfig:
    """The YAML alone, composed with plain Hydra."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(overrides=[f"+quantizer={name}", *overrides])


def build(name: str, *overrides: str) -> Quantizer:
    """A new quantizer, with the same weights at each call."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        return hydra.utils.instantiate(composed(name, *overrides).quantizer)


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


EXPECTED = {
    *("ste", "custom_gradient", "sigmoid", "softmax", "linear", "finite_difference", "fourier", "uniform_noise"),
    *("stochastic", "gumbel", "vq", "simvq", "lfq", "bsq", "rvq", "rvq_pretrained", "residual_fsq"),
    "identity",
}


def test_every_method_of_the_field_is_there():
    assert set(NAMES) >= EXPECTED


@every_with_codes
def test_same_rate_for_all_and_one_knob_moves_them(name):
    # 8 codebooks of 256 entries: 8 * log2(256) = 64, exact in floating point
    assert build(name).bits_per_frame == 64
    assert build(name).num_codebooks == 8
    half = build(name, "+num_codebooks=4")
    assert half.bits_per_frame == 32
    assert half.num_codebooks == len(half.codebook_sizes) == 4


# Forward --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@every_quantizer
def test_shapes_dtypes_and_ranges(name, training, dtype):
    quantizer = build(name).train(training)
    latents = some_latents(quantizer).to(dtype)
    before = latents.clone()
    out = quantizer(latents)
    assert isinstance(out, Quantized)
    assert out.latents.shape == latents.shape
    assert out.latents.dtype == dtype
    assert out.latents.isfinite().all()
    assert out.codes.shape == (B, quantizer.num_codebooks, T)
    assert out.codes.dtype == torch.int64
    sizes = torch.tensor(quantizer.codebook_sizes)[:, None]
    assert ((out.codes >= 0) & (out.codes < sizes)).all()
    assert all(loss.ndim == 0 and loss.isfinite() for loss in out.losses.values())
    assert torch.equal(latents, before)


@every_with_codes
def test_in_eval_the_decoder_reads_exactly_the_decoded_codes(name):
    quantizer = build(name).eval()
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        out = quantizer(some_latents(quantizer).to(dtype).requires_grad_())
        decoded = quantizer.decode(out.codes)
        assert decoded.dtype == torch.float32
        assert torch.equal(out.latents, decoded.to(dtype))
        assert torch.equal(quantizer.dequantize(out.codes), decoded)


@every_with_codes
def test_codes_are_of_the_hard_path_also_in_training(name):
    quantizer = build(name)
    latents = some_latents(quantizer)
    expected = quantizer.encode(latents)
    assert torch.equal(quantizer.eval()(latents).codes, expected)
    assert torch.equal(seeded(quantizer.train(), latents).codes, expected)


MATCHING = {"ste", "custom_gradient", "finite_difference", "fourier", "vq", "simvq", "lfq", "bsq", "identity"}


@every_quantizer
def test_where_training_matches_evaluation_its_latents_do(name):
    quantizer = build(name)
    assert quantizer.matches_evaluation == (name in MATCHING)
    latents = some_latents(quantizer, frames=200)
    found, expected = seeded(quantizer, latents).latents, quantizer.eval()(latents).latents
    if name in MATCHING:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    else:
        assert not torch.allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5, Schedule("linear", 0.0, 0.5)], ids=str)
@pytest.mark.parametrize("name", ["rvq", "residual_fsq"])
def test_residual_matches_evaluation_without_dropout(name, dropout):
    stage = hydra.utils.instantiate(composed(name).quantizer.stage)
    quantizer = ResidualQuantizer(stage, 3, dropout=dropout)
    assert quantizer.matches_evaluation == (dropout == 0.0)
    latents = some_latents(quantizer)
    if dropout == 0.0:
        expected = quantizer.decode(quantizer.encode(latents))
        torch.testing.assert_close(quantizer(latents).latents, expected, rtol=0, atol=1e-5)
    soft = functools.partial(GumbelSoftmaxQuantizer, 8, 1, 4)
    assert not ResidualQuantizer(soft, 3).matches_evaluation


@every_quantizer
def test_losses_that_are_left_out_are_not_there_and_the_rest_is_the_same(name):
    quantizer = build(name)
    latents = some_latents(quantizer)
    expected = seeded(quantizer, latents)
    for gone in ({"code_entropy"}, set(expected.losses)):
        less = build(name)
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


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@every_with_codes
def test_gradient_reaches_the_input_of_every_codebook(name, training):
    quantizer = build(name).train(training)
    latents = some_latents(quantizer, frames=64).requires_grad_()
    if isinstance(quantizer, ResidualQuantizer):
        quantizer.dropout = 0.0  # or no item may be decoded from the last stage
        inputs = []
        for stage in quantizer.stages:  # encode, which calls forward without a gradient, is not counted
            stage.register_forward_pre_hook(lambda _, args: inputs.append(args[0]) if torch.is_grad_enabled() else None)
        out = seeded(quantizer, latents).latents
        # No stage is cut off from the latents, although each is given what is left over of exact values.
        gradients = torch.autograd.grad(out, inputs, some_noise(out, seed=4), retain_graph=True)
        assert len(gradients) == quantizer.num_codebooks
        for given in inputs:
            (reached,) = torch.autograd.grad(given, latents, torch.ones_like(given), retain_graph=True)
            assert reached.isfinite().all()
            assert (reached.abs().amax(dim=(0, 2)) > 1e-4).all()
    else:
        out = seeded(quantizer, latents).latents
        gradients = []
        for k, (part, upstream) in enumerate(
            zip(by_codebook(quantizer, out), noise_by_codebook(quantizer, out), strict=True)
        ):
            (gradient,) = torch.autograd.grad(part, latents, upstream, retain_graph=True)
            parts = by_codebook(quantizer, gradient)
            # What codebook k emits depends on its own channels only.
            assert all(torch.equal(other, 0 * other) for j, other in enumerate(parts) if j != k)
            gradients.append(parts[k])
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert (gradient.abs().amax(dim=(0, 2)) > 1e-4).all()


def by_codebook(quantizer: Quantizer, tensor: Tensor) -> tuple[Tensor, ...]:
    """The adjacent channels of each codebook."""
    return tensor.split(quantizer.dim // quantizer.num_codebooks, dim=1)


def noise_by_codebook(quantizer: Quantizer, like: Tensor) -> tuple[Tensor, ...]:
    return by_codebook(quantizer, some_noise(like, seed=4))


@every_quantizer
def test_double_backward_is_there(name):
    quantizer = build(name)
    latents = some_latents(quantizer, frames=2).requires_grad_()
    out = seeded(quantizer, latents)
    (first,) = torch.autograd.grad(out.latents.square().sum(), latents, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), latents)
    assert second.isfinite().all()
    assert second.abs().max() > 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@every_with_codes
def test_codes_are_in_range_also_where_latents_are_no_numbers(name, value):
    # A run that diverges ends with a message about its loss, not with one about an index.
    quantizer = build(name).eval()
    latents = some_latents(quantizer)
    expected = quantizer.encode(latents)
    latents[1, 0, 3] = value
    codes = quantizer.encode(latents)
    assert ((codes >= 0) & (codes < torch.tensor(quantizer.codebook_sizes)[:, None])).all()
    others = torch.ones(B, 1, T, dtype=torch.bool)
    others[1, 0, 3] = False
    assert torch.equal(codes.where(others, 0), expected.where(others, 0))


# Fewer codebooks ------------------------------------------------------------------------------------------------------


@every_with_codes
def test_fewer_codebooks_are_the_first_of_all_and_decode(name):
    quantizer = build(name)
    every = range(1, quantizer.num_codebooks + 1)
    assert quantizer.decodable_counts == (tuple(every) if isinstance(quantizer, ResidualQuantizer) else (8,))
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
        instructs = (
            "one of 1, 2, 3, 4, 5, 6, 7, 8" if len(quantizer.decodable_counts) > 1 else "8, since only a residual"
        )
        with pytest.raises(ValueError, match=rf"^num_codebooks: expected {instructs}.*got {wrong}"):
            quantizer.encode(some_latents(quantizer), wrong)


# Independence ---------------------------------------------------------------------------------------------------------


@every_quantizer
def test_eval_is_deterministic_and_draws_nothing(name):
    quantizer = build(name).eval()
    latents = some_latents(quantizer)
    state = torch.get_rng_state()
    first, second = quantizer(latents), quantizer(latents)
    assert torch.equal(first.latents, second.latents)
    assert torch.equal(first.codes, second.codes)
    assert torch.equal(torch.get_rng_state(), state)


@every_with_codes
def test_no_item_depends_on_the_others_or_on_padding(name):
    quantizer = build(name).eval()
    latents = some_latents(quantizer, batch=5, frames=37)
    whole = quantizer(latents)
    alone = quantizer(latents[2:3])
    assert torch.equal(alone.codes, whole.codes[2:3])
    assert torch.equal(alone.latents, whole.latents[2:3])
    padded = quantizer(torch.cat([latents, 1e3 * torch.ones(5, quantizer.dim, 11)], dim=2))
    assert torch.equal(padded.codes[..., :37], whole.codes)
    assert torch.equal(padded.latents[..., :37], whole.latents)
    assert torch.equal(quantizer.encode(latents[..., 5:6]), whole.codes[..., 5:6])


@every_with_codes
def test_no_code_of_20000_frames_depends_on_the_batch(name):
    # A distance by another kernel of the matrix product differs in the last bit, which decides near ties.
    quantizer = build(name, "+num_codebooks=2").eval()
    latents = some_latents(quantizer, batch=100, frames=200)
    whole = quantizer.encode(latents)
    assert torch.equal(torch.cat([quantizer.encode(item) for item in latents.split(1)]), whole)
    end_to_end = quantizer.encode(latents.transpose(0, 1).flatten(1)[None])
    assert torch.equal(end_to_end[0], whole.transpose(0, 1).flatten(1))
    frames = [quantizer.encode(latents[:1, :, t : t + 1]) for t in range(100)]
    assert torch.equal(torch.cat(frames, dim=2), whole[:1, :, :100])


@every_with_codes
def test_strides_in_memory_change_nothing(name):
    quantizer = build(name).eval()
    latents = some_latents(quantizer)
    strided = latents.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    assert torch.equal(quantizer(strided).codes, quantizer(latents).codes)


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


@every_with_codes
def test_as_many_entries_are_used_under_bf16_autocast(name):
    # Where bfloat16 creeps in, a part of the codebook is silently never used.
    quantizer = build(name)
    latents = some_latents(quantizer, batch=2, frames=1000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = quantizer.encode(latents)
    exact = quantizer.encode(latents)
    for k, size in enumerate(quantizer.codebook_sizes):
        used = torch.bincount(exact[:, k].flatten(), minlength=size)
        assert torch.equal(torch.bincount(mixed[:, k].flatten(), minlength=size), used)
        assert used.count_nonzero() > size / 8


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


@pytest.fixture
def tf32():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision(before)


def test_the_base_class_prepares_what_a_subclass_gets(tf32):
    probe = Probe()
    latents = torch.rand(1, 5, 2, dtype=torch.float64).transpose(1, 2).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trained = probe(latents)
        evaluated = probe.eval()(latents)
        probe.decode(evaluated.codes)
    assert torch.equal(trained.latents, (latents.float() * 0.5).double())
    assert torch.equal(evaluated.latents, (evaluated.codes * 0.1).double())
    # In eval the values are the decoded ones, the gradient still that of what quantize returned.
    evaluated.latents.sum().backward()
    assert torch.equal(latents.grad, torch.full_like(latents, 0.5))
    assert probe.bits_per_frame == 2 + math.log2(3)


# Sizes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [0, 1])
@every_quantizer
def test_no_frame_and_one_frame(name, frames):
    for training in (True, False):
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
    for module in (trained, fresh):
        for i, parameter in enumerate(module.parameters()):
            with torch.no_grad():
                parameter.copy_(some_noise(parameter, seed=i + (100 if module is fresh else 200)))
    stored = io.BytesIO()
    torch.save(trained.state_dict(), stored)
    stored.seek(0)
    fresh.load_state_dict(torch.load(stored, weights_only=True))
    latents = some_latents(trained)
    assert torch.equal(fresh(latents).latents, trained(latents).latents)
    assert torch.equal(fresh(latents).codes, trained(latents).codes)
    if trained.num_codebooks:
        codes = some_codes(trained)
        assert torch.equal(fresh.decode(codes), trained.decode(codes))


def some_noise(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


@every_quantizer
def test_deep_copies_stand_alone(name):
    quantizer = build(name).eval()
    clone = copy.deepcopy(quantizer)
    latents = some_latents(quantizer)
    assert torch.equal(clone(latents).latents, quantizer(latents).latents)


# Errors ---------------------------------------------------------------------------------------------------------------


@every_quantizer
def test_wrong_latents_are_refused(name):
    quantizer = build(name)
    wrong_shapes = [(quantizer.dim, T), (B, quantizer.dim + 1, T), (B, T, quantizer.dim), (B, quantizer.dim, T, 1)]
    for shape in wrong_shapes:
        with pytest.raises(ValueError, match=rf"latents: expected shape \(batch, {quantizer.dim}, frames\), got \("):
            quantizer(torch.zeros(shape))
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with pytest.raises(ValueError, match=rf"latents: expected a floating-point tensor, got {dtype}"):
            quantizer(torch.zeros(B, quantizer.dim, T, dtype=dtype))


@every_with_codes
def test_wrong_codes_are_refused(name):
    quantizer = build(name)
    codes = some_codes(quantizer)
    k = quantizer.num_codebooks
    wrong_counts = [n for n in range(2 * k + 1) if n not in quantizer.decodable_counts]
    wrong_shapes = [torch.cat([codes, codes], dim=1)[:, :n] for n in wrong_counts]
    for wrong in (codes[0], codes[..., None], *wrong_shapes):
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


@pytest.mark.parametrize("dim", [0, -1, 2.5, math.nan, "two"])
def test_wrong_dim_is_refused(dim):
    with pytest.raises(ValueError, match=rf"dim: expected .*at least 1, got .*{dim}"):
        Probe(dim=dim)
    with pytest.raises(ValueError, match=rf"dim: expected .*at least 1, got .*{dim}"):
        IdentityQuantizer(dim)


@pytest.mark.parametrize("size", [1, 0, -5, 2.5, math.nan, "many"])
def test_wrong_codebook_sizes_are_refused(size):
    with pytest.raises(ValueError, match=rf"codebook_sizes: expected .*at least 2, got .*{size}"):
        Probe(codebook_sizes=(4, size))


# Identity -------------------------------------------------------------------------------------------------------------


def test_identity_is_the_upper_bound():
    identity = build("identity")
    assert identity.bits_per_frame == math.inf
    assert identity.num_codebooks == 0
    for training in (True, False):
        latents = some_latents(identity).requires_grad_()
        out = identity.train(training)(latents)
        assert torch.equal(out.latents, latents)
        assert out.losses == {}
        (gradient,) = torch.autograd.grad(out.latents.sum(), latents)
        assert torch.equal(gradient, torch.ones_like(latents))
    with pytest.raises(ValueError, match="no codes; choose another quantizer"):
        identity.encode(some_latents(identity))
    with pytest.raises(ValueError, match="no codes; choose another quantizer"):
        identity.decode(torch.zeros(B, 0, T, dtype=torch.int64))
