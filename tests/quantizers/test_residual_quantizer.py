"""ResidualQuantizer against hand arithmetic: a binary expansion, means over stages, and what dropout may touch."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from discrete_ae.quantizers import (
    GumbelSoftmaxQuantizer,
    IdentityQuantizer,
    Quantized,
    Quantizer,
    ResidualQuantizer,
    ScalarQuantizer,
    VectorQuantizer,
)
from discrete_ae.rounding import Sigmoid, StraightThrough
from discrete_ae.schedules import Schedule, follow_schedules
from tests.refusals import assert_refused


def binary(num_stages: int, channels: int = 1, dropout: float | Schedule = 0.0) -> ResidualQuantizer:
    """Each stage adds or takes away half as much as the one before: two levels of -1 and 1, scale 2."""
    stage = functools.partial(ScalarQuantizer, [2] * channels, 1, StraightThrough(), "clamp")
    return ResidualQuantizer(stage, num_stages, scale=2.0, dropout=dropout)


def vectors(num_stages: int, dropout: float = 0.0, **arguments) -> ResidualQuantizer:
    torch.default_generator.manual_seed(0)
    stage = functools.partial(VectorQuantizer, 16, 1, 3, **arguments)
    return ResidualQuantizer(stage, num_stages, dropout=dropout)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def residuals(quantizer: ResidualQuantizer, latents: Tensor, codes: Tensor) -> list[Tensor]:
    """Return the residuals before each stage and after the last: latents minus the decoded codes of earlier stages."""
    return [latents, *(latents - quantizer.decode(codes[:, :n]) for n in quantizer.decodable_counts)]


def inputs_of_stages(quantizer: ResidualQuantizer) -> list[Tensor]:
    """Return a list that the next training forward fills with the input of each stage; encode is not counted."""
    inputs: list[Tensor] = []
    for stage in quantizer.stages:
        stage.register_forward_pre_hook(lambda made, args: inputs.append(args[0]) if made.training else None)
    return inputs


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("z", "codes", "decoded"),
    [
        # Left over after + 1, - 1/2, - 1/4, + 1/8: -11/16, -3/16, 1/16, -1/16. All of it is exact in binary.
        (5 / 16, [1, 0, 0, 1], [1, 1 / 2, 1 / 4, 3 / 8]),
        (-5 / 16, [0, 1, 1, 0], [-1, -1 / 2, -1 / 4, -3 / 8]),
        # + 1 leaves -1/8; - 1/2 leaves 3/8; + 1/4 leaves 1/8; + 1/8 leaves nothing.
        (7 / 8, [1, 0, 1, 1], [1, 1 / 2, 3 / 4, 7 / 8]),
        # u = 1/2 is a tie and goes to the even 0, the value -1; then 1 is left over, 1/2, 1/4.
        (0.0, [0, 1, 1, 1], [-1, -1 / 2, -1 / 4, -1 / 8]),
        # Beyond the sum of all, 15/8, each stage says 1.
        (3.0, [1, 1, 1, 1], [1, 3 / 2, 7 / 4, 15 / 8]),
    ],
)
def test_two_levels_and_scale_2_are_a_binary_expansion(z, codes, decoded):
    quantizer = binary(4)
    latents = torch.full((1, 1, 1), z)
    assert quantizer.encode(latents).flatten().tolist() == codes
    assert quantizer(latents).latents.item() == decoded[-1]
    for n in range(1, 5):
        assert quantizer.decode(quantizer.encode(latents, n)).item() == decoded[n - 1]


def test_decoded_is_the_sum_of_the_stages_over_their_scales():
    quantizer = ResidualQuantizer(lambda: ScalarQuantizer([5, 3], 1, StraightThrough()), 3, scale=2.5)
    codes = torch.randint(15, (2, 3, 50), generator=torch.Generator().manual_seed(0))
    parts = [stage.decode(codes[:, k : k + 1]) / 2.5**k for k, stage in enumerate(quantizer.stages)]
    for n in (1, 2, 3):
        torch.testing.assert_close(quantizer.decode(codes[:, :n]), sum(parts[:n]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_each_stage_is_given_what_the_exact_values_left_over(scale):
    stage = functools.partial(ScalarQuantizer, [3, 4], 1, Sigmoid(2.0, hard=False))
    quantizer = ResidualQuantizer(stage, 3, scale)
    assert not quantizer.matches_evaluation
    inputs = inputs_of_stages(quantizer)
    latents = noise(2, 2, 20)
    codes = quantizer(latents).codes
    for k, (given, left_over) in enumerate(zip(inputs, residuals(quantizer, latents, codes), strict=False)):
        torch.testing.assert_close(given, left_over * scale**k, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"ema_decay": 0.8}, {"dead_code_threshold": 2}, {"ema_decay": 0.8, "dead_code_threshold": 2}],
    ids=str,
)
def test_a_codebook_that_moves_in_the_forward_pass_is_harmless(arguments):
    quantizer = vectors(3, **arguments)
    entries = torch.arange(16).expand(1, 3, 16).contiguous()
    latents = noise(2, 3, 5)
    codes, before = quantizer.encode(latents), quantizer.decode(entries)
    left_over = residuals(quantizer, latents, codes)
    inputs = inputs_of_stages(quantizer)
    out = quantizer(latents)
    assert torch.equal(quantizer.decode(entries), before) == (not arguments)
    assert torch.equal(out.codes, codes)
    for given, expected in zip([*inputs, latents - out.latents], left_over, strict=True):
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-5)


# Gradients ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_straight_through_stages_pass_the_gradient_whatever_their_number(training):
    latents, upstream = noise(50, 3, 20).requires_grad_(), noise(50, 3, 20, seed=1)
    for num_stages, dropout in ((1, 0.0), (2, 0.0), (3, 0.0), (8, 0.0), (4, 1.0)):
        quantizer = binary(num_stages, channels=3, dropout=dropout).train(training)
        (gradient,) = torch.autograd.grad(quantizer(latents).latents, latents, upstream)
        # A stage's slope is 2/(L - 1) (L - 1) 1/2 = 1, also beyond the clamp; the mean of ones is 1, over those stages
        # that an item is decoded from.
        torch.testing.assert_close(gradient, upstream, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_gradient_is_the_mean_of_the_stages_slopes(scale):
    k, num_stages, steps = 3.0, 3, 4
    stage = functools.partial(ScalarQuantizer, [steps + 1], 1, Sigmoid(k), "clamp")
    quantizer = ResidualQuantizer(stage, num_stages, scale)
    latents = noise(1, 1, 200).clamp(-0.99, 0.99).requires_grad_()
    out = quantizer(latents)
    (gradient,) = torch.autograd.grad(out.latents.sum(), latents)
    left_over, slopes, soft = latents.detach().double().numpy()[0, 0], [], 0.0
    for n in range(num_stages):
        u = steps * (np.clip(left_over * scale**n, -1, 1) + 1) / 2
        logistic = 1 / (1 + np.exp(-k * (u - np.floor(u) - 0.5)))
        slopes.append(k * logistic * (1 - logistic))  # the 2/steps of the output and the steps/2 of u cancel out
        soft = soft + (2 * (np.floor(u) + logistic) / steps - 1) / scale**n
        left_over = left_over - (2 * out.codes[0, n].numpy() / steps - 1) / scale**n
    # Off the integers, where float32 may fall on the other side of the jump.
    np.testing.assert_allclose(gradient[0, 0].numpy(), np.mean(slopes, axis=0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(out.latents[0, 0].detach().numpy(), soft, rtol=0, atol=1e-4)


@pytest.mark.parametrize("num_stages", [1, 4])
def test_losses_are_the_mean_over_stages_and_reach_the_latents_as_such(num_stages):
    # https://github.com/facebookresearch/encodec/issues/25: a loss that reaches the latents of the first stage only.
    quantizer = vectors(num_stages)
    latents = noise(2, 3, 20).requires_grad_()
    out = quantizer(latents)
    entries = [next(stage.parameters()) for stage in quantizer.stages]
    gradient, *of_entries = torch.autograd.grad(out.losses["commitment"], [latents, *entries])
    left_over = torch.stack(residuals(quantizer, latents, out.codes)[1:]).detach()
    torch.testing.assert_close(out.losses["commitment"].detach(), left_over.square().mean(), rtol=1e-5, atol=1e-7)
    gradients = 2 * left_over / left_over[0].numel()  # of each stage's mean, the entries held fast
    torch.testing.assert_close(gradient, gradients.mean(0), rtol=1e-4, atol=1e-7)
    for n, of_stage in enumerate(of_entries):
        # Of the entries, the latents held fast: whole, not divided by the number of stages.
        code, by_frame = out.codes[:, n].flatten(), -gradients[n].transpose(1, 2).flatten(0, 1)
        expected = torch.zeros(16, 3).index_add(0, code, by_frame)
        torch.testing.assert_close(of_stage.view(16, 3), expected, rtol=1e-4, atol=1e-7)


class Recorder(Quantizer):
    """One bit: decodes to a slope times the latents, and has two losses that are linear in the latents."""

    def __init__(self, slope: float) -> None:
        super().__init__(1, [2])
        self.slope = torch.nn.Parameter(torch.tensor(slope))

    def quantize(self, latents: Tensor) -> Quantized:
        change = (latents - latents.detach()).sum()  # 0
        losses = {"pull": 5 * latents.sum(), "code_entropy": 2 + 3 * change} if self.training else {}
        return Quantized(self.slope * latents, torch.zeros_like(latents, dtype=torch.int64), losses)

    def dequantize(self, codes: Tensor) -> Tensor:
        return codes.float()


def test_with_dropout_losses_are_divided_by_all_stages_and_the_decoded_value_by_those_kept():
    slopes = iter((1.0, 2.0, 3.0, 4.0))
    quantizer = ResidualQuantizer(lambda: Recorder(next(slopes)), 4, dropout=1.0)
    torch.default_generator.manual_seed(0)
    latents = torch.ones(40, 1, 1, requires_grad=True)
    out = quantizer(latents)
    assert out.losses["code_entropy"] == 4 * 2  # rates of the stages add up
    assert out.losses["pull"] == 5 * 40  # each of the four has that much
    # Codes of 0 decode to 0, so every stage is given the latents, 1: n stages decode to 1 + ... + n.
    kept = torch.tensor([0, 1, 3, 6, 10]).eq(out.latents.detach()[:, 0]).nonzero()[:, 1]
    assert set(kept.tolist()) == {1, 2, 3, 4}
    (of_decoded,) = torch.autograd.grad(out.latents.sum(), latents, retain_graph=True)
    # The mean of the first n slopes, (1 + ... + n) / n.
    torch.testing.assert_close(of_decoded[:, 0, 0], (kept + 1) / 2)
    for name, mean in (("pull", 5.0), ("code_entropy", 3.0)):  # of four, in an item of one stage as in one of four
        (of_losses,) = torch.autograd.grad(out.losses[name], latents, retain_graph=True)
        torch.testing.assert_close(of_losses, torch.full_like(latents, mean))


@pytest.mark.parametrize("gradient", ["straight_through", "diveq", "nsvq"])
@pytest.mark.parametrize("ema_decay", [None, 0.8])
@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_whatever_stages_emit_and_replace_the_residual_is_that_of_the_entries_before(gradient, ema_decay, dropout):
    if gradient != "straight_through" and ema_decay:
        pytest.skip("refused")
    torch.default_generator.manual_seed(0)
    stage = functools.partial(
        VectorQuantizer, 16, 2, 3, gradient, ema_decay=ema_decay, dead_code_threshold=2, dropout=dropout
    )
    for quantizer in (ResidualQuantizer(stage, 3), ResidualQuantizer(lambda: ResidualQuantizer(stage, 1), 3)):
        latents = noise(2, 6, 5)
        codes = quantizer.encode(latents)
        left_over, inputs = residuals(quantizer, latents, codes), inputs_of_stages(quantizer)
        out = quantizer(latents)
        assert torch.equal(out.codes, codes)
        for given, expected in zip(inputs, left_over, strict=False):
            torch.testing.assert_close(given, expected, rtol=0, atol=1e-5)


# Soft bound and learned scales ----------------------------------------------------------------------------------------


def scalars(levels: int, num_stages: int, **arguments) -> ResidualQuantizer:
    stage = functools.partial(ScalarQuantizer, [levels] * 3, 1, StraightThrough(), "clamp")
    return ResidualQuantizer(stage, num_stages, scale=float(levels), **arguments)


@pytest.mark.parametrize(("levels", "num_stages"), [(2, 1), (2, 2), (2, 5), (3, 2), (4, 3), (5, 2)])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_with_a_soft_bound_stages_are_one_uniform_quantizer_of_all_their_levels(levels, num_stages, training):
    quantizer = scalars(levels, num_stages, soft_bound=True).train(training)
    latents = (2 * noise(4, 3, 200)).requires_grad_()
    out = quantizer(latents)
    bound = levels / (levels - 1)  # 2 for two levels
    within = bound * np.tanh(latents.detach().double().numpy() / bound)
    count = levels**num_stages
    step = 2 * bound / count  # (-2, 2) in 4 cells of 1 for 2 x 2 levels, with the values -1.5, -0.5, 0.5, 1.5
    place = (within + bound) / step
    expected = -bound + step * (np.floor(place) + 0.5)
    clear = np.abs(place - np.rint(place)) > 1e-3  # float32 may fall into the next cell, whose boundaries are integers
    assert clear.mean() > 0.9
    np.testing.assert_allclose(out.latents.detach().numpy()[clear], expected[clear], rtol=0, atol=1e-5)
    # All digits together are the number of the cell, the first stage the most significant.
    digits = out.codes[:, :, None] // torch.tensor([levels**i for i in range(3)])[:, None] % levels
    cell = sum(levels ** (num_stages - 1 - k) * digits[:, k] for k in range(num_stages))
    np.testing.assert_array_equal(cell.numpy()[clear], np.floor(place)[clear])
    upstream = noise(4, 3, 200, seed=1)
    (gradient,) = torch.autograd.grad(out.latents, latents, upstream)
    slope = 1 - (within / bound) ** 2
    np.testing.assert_allclose(gradient.numpy(), upstream.numpy() * slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_learned_scales_start_at_the_powers_and_learn_by_the_error_of_their_stage(dropout):
    num_stages, latents, upstream = 3, noise(40, 3, 20), noise(40, 3, 20, seed=1)
    learned = scalars(2, num_stages, soft_bound=True, learn_scale=True, dropout=dropout)
    fixed = scalars(2, num_stages, soft_bound=True)
    torch.testing.assert_close(learned.log_scales.exp().tolist(), [1.0, 2.0, 4.0])
    codes = learned.encode(latents)
    assert torch.equal(codes, fixed.encode(latents))
    torch.testing.assert_close(learned.decode(codes), fixed.decode(codes))
    with torch.no_grad():
        learned.log_scales += torch.tensor([0.1, -0.2, 0.3])
    a = learned.log_scales.detach().exp().double().numpy()
    torch.default_generator.manual_seed(0)
    out = learned(latents)
    (gradient,) = torch.autograd.grad(out.latents, learned.log_scales, upstream)

    # By hand: stage k emits q(a r) / a of the residual r. Its derivative by log a is r - q(a r) / a with q' = 1, and
    # -q(a r) / a where a r is clamped.
    left = 2 * np.tanh(latents.double().numpy() / 2)
    errors, parts = [], []
    for factor in a:
        parts.append(np.where(factor * left > 0, 1, -1) / factor)
        errors.append(np.where(np.abs(factor * left) <= 1, left, 0) - parts[-1])
        left = left - parts[-1]
    sums = np.cumsum(parts, axis=0)
    distance = np.abs(sums - out.latents.detach().numpy()).reshape(num_stages, 40, -1).max(axis=2)
    kept = distance.argmin(axis=0) + 1
    assert (distance.min(axis=0) < 1e-5).all()
    assert set(kept) == ({1, 2, 3} if dropout else {3})
    for k, error in enumerate(errors):  # of an item of n stages 3 / n times, see the head of residual.py
        times = np.where(k < kept, num_stages / kept, 0)[:, None, None]
        assert gradient[k].item() == pytest.approx((upstream.numpy() * times * error).sum(), rel=1e-4, abs=1e-3)
    np.testing.assert_allclose(learned.decode(codes := learned.encode(latents)).detach().numpy(), sums[-1], atol=1e-5)
    for n in (1, 2):
        np.testing.assert_allclose(learned.decode(codes[:, :n]).detach().numpy(), sums[n - 1], atol=1e-5)


# Dropout of stages ----------------------------------------------------------------------------------------------------

K = 4


@pytest.mark.parametrize("dropout", [1.0, 0.5, Schedule("linear", 0.0, 1.0)], ids=str)
def test_dropout_decodes_a_share_of_the_items_from_a_uniform_number_of_stages(dropout):
    quantizer, count = binary(K, channels=2, dropout=dropout), 4000
    assert not quantizer.matches_evaluation  # although a schedule begins at 0
    follow_schedules(quantizer, 1, 2)
    latents = noise(count, 2, 3)
    torch.default_generator.manual_seed(1)
    out = quantizer(latents)
    assert torch.equal(out.codes, quantizer.encode(latents))  # whole, whatever was dropped
    prefixes = torch.stack([quantizer.decode(out.codes[:, :n]) for n in quantizer.decodable_counts])
    error = (out.latents - prefixes).abs().flatten(2).amax(2)
    assert (error.amin(0) < 1e-6).all()
    frequency = torch.bincount(error.argmin(0), minlength=K) / count
    share = 1.0 if dropout == 1.0 else 0.5
    p = torch.full((K,), share / K) + torch.tensor([0, 0, 0, 1 - share])
    assert ((frequency - p).abs() < 4.5 * (p * (1 - p) / count).sqrt()).all()


SIDE_BY_SIDE = {
    "scalar": functools.partial(ScalarQuantizer, [4, 2, 3], 2, StraightThrough(), "clamp"),
    "vector": functools.partial(VectorQuantizer, 8, 2, 3, "straight_through"),
    "moving": functools.partial(VectorQuantizer, 8, 2, 3, "straight_through", ema_decay=0.5, dead_code_threshold=0.5),
    "diveq": functools.partial(VectorQuantizer, 8, 2, 3, "diveq"),
}
WHOLE = {
    "rotated": functools.partial(ScalarQuantizer, [4, 2, 3], 2, StraightThrough(), rotation=True),
    "residual": lambda: ResidualQuantizer(functools.partial(VectorQuantizer, 8, 1, 6), 2),
}


@pytest.mark.parametrize("name", [*SIDE_BY_SIDE, *WHOLE])
def test_dropout_is_by_codebook_where_those_of_a_stage_lie_side_by_side(name):
    torch.default_generator.manual_seed(0)
    quantizer, count = ResidualQuantizer((SIDE_BY_SIDE | WHOLE)[name], 3, dropout=1.0), 3000
    counts = (1, 2, 3, 4, 5, 6) if name in SIDE_BY_SIDE else (2, 4, 6)
    assert quantizer.decodable_counts == counts
    latents = noise(count, 6, 1)
    codes = quantizer.encode(latents)
    prefixes = torch.stack([quantizer.decode(codes[:, :n]) for n in counts]).detach()
    for n in counts:
        assert torch.equal(quantizer.encode(latents, n), codes[:, :n])
    out = quantizer(latents)
    assert torch.equal(out.codes, codes)
    error = (out.latents.detach() - prefixes).abs().flatten(2).amax(dim=2)
    if name != "diveq":  # which emits what lies near
        assert (error.amin(dim=0) < 1e-5).all()
    frequency = torch.bincount(error.argmin(dim=0), minlength=len(counts)) / count
    p = 1 / len(counts)
    assert (frequency - p).abs().max() < 4.5 * math.sqrt(p * (1 - p) / count) + (0.01 if name == "diveq" else 0)


@pytest.mark.parametrize("name", [name for name in SIDE_BY_SIDE if name != "diveq"])  # which is not straight-through
def test_with_dropout_by_codebook_a_channel_has_the_mean_gradient_of_the_stages_that_decode_it(name):
    torch.default_generator.manual_seed(0)
    quantizer = ResidualQuantizer(SIDE_BY_SIDE[name], 3, dropout=1.0)
    latents, upstream = noise(60, 6, 4).requires_grad_(), noise(60, 6, 4, seed=1)
    out = quantizer(latents)
    (gradient,) = torch.autograd.grad(out.latents, latents, upstream)
    # The first codebook of the first stage is always there; without the second its channels are 0, without a gradient.
    second = out.latents[:, 3:].detach().flatten(1).any(dim=1)
    assert second.any()
    assert not second.all()
    torch.testing.assert_close(gradient[:, :3], upstream[:, :3])
    torch.testing.assert_close(gradient[:, 3:], upstream[:, 3:] * second[:, None, None])


def test_evaluation_and_training_without_dropout_draw_nothing():
    dropping, whole = binary(K, dropout=1.0).eval(), binary(K)
    assert whole.matches_evaluation
    latents = noise(50, 1, 3)
    state = torch.get_rng_state()
    out = whole(latents)
    assert torch.equal(out.latents, whole.decode(out.codes))
    assert torch.equal(dropping(latents).latents, out.latents)
    assert torch.equal(torch.get_rng_state(), state)


# Stages of every kind -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stage",
    [
        functools.partial(GumbelSoftmaxQuantizer, 8, 2, 3),
        functools.partial(ScalarQuantizer, [4, 2, 3], 2, StraightThrough()),
        functools.partial(VectorQuantizer, 8, 2, 3),
        lambda: ResidualQuantizer(functools.partial(VectorQuantizer, 8, 1, 6), 2),
    ],
    ids=["gumbel", "scalar", "vector", "residual"],
)
def test_stages_of_two_codebooks(stage):
    torch.default_generator.manual_seed(0)
    quantizer = ResidualQuantizer(stage, 3)
    assert quantizer.decodable_counts == (2, 4, 6)
    assert quantizer.dim == 6
    assert quantizer.codebook_sizes == stage().codebook_sizes * 3
    assert len({id(stage) for stage in quantizer.stages}) == 3
    latents = noise(2, 6, 10).requires_grad_()
    inputs = inputs_of_stages(quantizer)
    out = quantizer(latents)
    codes = quantizer.encode(latents)
    assert torch.equal(out.codes, codes)
    # No stage is cut off from the latents, although each is given what is left over of exact values.
    for given in (out.latents, *inputs):
        (gradient,) = torch.autograd.grad(given.square().sum(), latents, retain_graph=True)
        assert gradient.isfinite().all()
        assert (gradient.abs().amax(dim=(0, 2)) > 0).all()
    for n in (2, 4, 6):
        assert torch.equal(quantizer.encode(latents, n), codes[:, :n])
        assert quantizer.decode(codes[:, :n]).shape == (2, 6, 10)
    for n in (1, 3, 5, 7):
        with pytest.raises(ValueError, match=f"^num_codebooks: expected the first 2, 4 or 6, got {n}"):
            quantizer.encode(latents, n)
    for n in (1, 3, 5):
        with pytest.raises(ValueError, match=r"codes: expected shape \(batch, 6, frames\).*the first 2, 4 or 6"):
            quantizer.decode(codes[:, :n])


@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_stages_of_unequal_codebooks_refine_the_first_channels(dropout):
    """3 codebooks in 2 stages: the second has a codebook for the first channel alone."""
    stage = functools.partial(ScalarQuantizer, [2], rounding=StraightThrough(), bound="clamp")
    quantizer = ResidualQuantizer(stage, 2, scale=2.0, num_codebooks=3, dropout=dropout)
    latents = torch.tensor([[[0.3, -1.4], [0.3, -1.4]]]).expand(200, 2, 2).clone().requires_grad_()
    # 1 - 1/2, and -1 - 1/2; without a second stage 1 and -1.
    assert quantizer.encode(latents)[0].tolist() == [[1, 0], [1, 0], [0, 0]]
    assert quantizer.decode(quantizer.encode(latents))[0].tolist() == [[0.5, -1.5], [1.0, -1.0]]
    assert quantizer.decodable_counts == ((1, 2, 3) if dropout else (2, 3))
    out = quantizer(latents)
    out.latents.sum().backward()
    # The gradient of a channel is the mean over the stages that it is decoded from: 1, or 0 where it is dropped.
    assert torch.equal(latents.grad, (out.latents != 0).float())
    kept = {tuple(map(tuple, item)) for item in out.latents.tolist()}
    first, both, all_three = ((1, -1), (0, 0)), ((1, -1), (1, -1)), ((0.5, -1.5), (1, -1))
    assert kept == ({first, both, all_three} if dropout else {all_three})


# Wrong arguments ------------------------------------------------------------------------------------------------------


WRONG = {
    "num_stages": (0, -1, 1.5, math.nan, "eight", None),
    "scale": (0, -2.0, math.nan, math.inf, "half"),
    "dropout": (-0.1, 1.1, math.nan, "some", Schedule("linear", 0.0, 1.5)),
    "stage": (None, 3, torch.nn.Identity, lambda: IdentityQuantizer(4), dict),
    "num_codebooks": (0, 1, 2.5, "two"),  # fewer than the stages
    "soft_bound": (True, "yes", 1, None),  # with the scale 1 there is no bound
    "learn_scale": ("yes", 1, None),
    "chain_rule": ("no", 0, None),
}


def test_wrong_arguments_are_refused_by_name():
    stage = functools.partial(ScalarQuantizer, [2], 1, StraightThrough())
    assert_refused(ResidualQuantizer, WRONG, stage=stage, num_stages=2)
    with pytest.raises(ValueError, match="num_codebooks: expected at least num_stages, 2, got 1"):
        ResidualQuantizer(stage, 2, num_codebooks=1)


def test_a_stage_given_as_an_instance_is_told_how():
    # All stages would be the same.
    with pytest.raises(ValueError, match=r"^stage: expected.*_partial_: true"):
        ResidualQuantizer(VectorQuantizer(4, 1, 2), 2)
