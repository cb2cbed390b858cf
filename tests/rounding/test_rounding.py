"""The family of roundings against the mathematics: formulas written a second time, in numpy float64, naively.

In the formulas f = x - floor(x) - 1/2 is the distance from the nearest decision boundary, s the soft staircase.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from discrete_ae import rounding as roundings
from discrete_ae.rounding import (
    EXAMPLES,
    CustomGradient,
    FiniteDifference,
    Fourier,
    Linear,
    NoiseDropout,
    Rounding,
    Sigmoid,
    Softmax,
    Stochastic,
    StraightThrough,
    UniformNoise,
)
from discrete_ae.rounding.base import EXACT
from discrete_ae.schedules import Schedule
from tests.refusals import assert_refused

OPS = ("round", "floor", "ceil", "trunc")
NUMPY_OPS = {"round": np.round, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc}  # np.round: ties to even
SHIFT = {"round": 0.0, "floor": -0.5, "ceil": 0.5}
WEIGHTS = ("dirichlet", "fejer", "lanczos")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
EXPORTED = [value for value in vars(roundings).values() if isinstance(value, type)]
FAMILY = [cls for cls in EXPORTED if issubclass(cls, Rounding) and cls is not Rounding]

Curve = Callable[[np.ndarray], np.ndarray]


# The formulas, straight from the table --------------------------------------------------------------------------------


def flat() -> tuple[Curve, Curve]:
    return lambda x: x, np.ones_like


def sigmoid(k: float) -> tuple[Curve, Curve]:
    def logistic(x):
        return 1 / (1 + np.exp(-k * (x - np.floor(x) - 0.5)))

    return lambda x: np.floor(x) + logistic(x), lambda x: k * logistic(x) * (1 - logistic(x))


def tanh_soft_round(k: float) -> tuple[Curve, Curve]:
    alpha = k / 2  # in the letters of Agustsson & Theis 2020: m + tanh(alpha (x - m)) / (2 tanh(alpha / 2))

    def tanh(x):
        return np.tanh(alpha * (x - np.floor(x) - 0.5))

    return (
        lambda x: np.floor(x) + 0.5 + tanh(x) / (2 * np.tanh(alpha / 2)),
        lambda x: alpha * (1 - tanh(x) ** 2) / (2 * np.tanh(alpha / 2)),
    )


def ramp(k: float) -> tuple[Curve, Curve]:
    def f(x):
        return x - np.floor(x) - 0.5

    return (
        lambda x: np.floor(x) + 0.5 + 0.5 * np.clip(k * f(x), -1, 1),
        lambda x: np.where(np.abs(f(x)) <= 1 / k, k / 2, 0.0),
    )


def soft_assignment(beta: float, neighbours: int) -> tuple[Curve, Curve]:
    def moment(x, power):
        integers = np.floor(x)[..., None] + np.arange(1 - neighbours // 2, neighbours // 2 + 1)
        weights = np.exp(-beta * (x[..., None] - integers) ** 2)
        return (weights * integers**power).sum(-1) / weights.sum(-1)

    # d/dx E[m] under softmax(-beta (x - m)^2) is 2 beta Var[m].
    return lambda x: moment(x, 1), lambda x: 2 * beta * (moment(x, 2) - moment(x, 1) ** 2)


def series(terms: int, weights: str) -> tuple[Curve, Curve]:
    n = np.arange(1, terms + 1)
    w = {"dirichlet": np.ones(terms), "fejer": 1 - n / (terms + 1), "lanczos": np.sinc(n / (terms + 1))}[weights]
    signed = w * (-1.0) ** n

    def angles(x):
        return 2 * np.pi * n * x[..., None]

    return (
        lambda x: x + (signed * np.sin(angles(x)) / n).sum(-1) / np.pi,
        lambda x: 1 + 2 * (signed * np.cos(angles(x))).sum(-1),
    )


class Case(NamedTuple):
    """A method with arguments, and what is expected of it; a new rounding adds one with its formula."""

    cls: type[Rounding]
    arguments: dict[str, Any] = {}  # noqa: RUF012
    formula: tuple[Curve, Curve] | None = None
    """Soft round and its slope."""
    mean_slope: float = 1.0
    hard: bool = False
    """True if the training forward emits integers by default."""
    kink: float | None = None
    """Distance from the boundary where the slope itself jumps."""
    flat: bool = False
    """True if the soft value is x up to the operation's shift, for every operation including trunc."""
    random: Literal["hard", "soft"] | None = None
    """Training forward that is random, if any."""

    def build(self, op: str = "round", **more: Any) -> Rounding:
        return self.cls(**self.arguments, op=op, **more)

    def expected(self, op: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Soft value and slope."""
        soft, slope = self.formula
        if op != "trunc":
            return soft(x + SHIFT[op]), slope(x + SHIFT[op])
        if self.flat:
            return x, np.ones_like(x)
        beyond = np.abs(x) - 0.5  # of trunc, which is 0 before it
        return np.where(beyond < 0, 0, np.sign(x) * soft(beyond)), np.where(beyond < 0, 0, slope(beyond))


def smooth_custom(x: Tensor) -> Tensor:
    return x - torch.sin(2 * math.pi * x) / (2 * math.pi)


CASES = [
    Case(StraightThrough, {}, flat(), hard=True, flat=True),
    Case(UniformNoise, {}, flat(), flat=True, random="soft"),
    Case(NoiseDropout, {"probability": 1.0}, flat(), flat=True, random="soft"),  # all noisy: an integer has no slope
    Case(Stochastic, {}, flat(), hard=True, flat=True, random="hard"),
    Case(CustomGradient, {}, flat(), hard=True, flat=True),
    Case(CustomGradient, {"surrogate": Sigmoid(5.0, normalized=True)}, tanh_soft_round(5.0), hard=True),
    # x - sin(2 pi x) / 2 pi is the Fejér series of one term, written by a user.
    Case(CustomGradient, {"surrogate": smooth_custom}, series(1, "fejer"), hard=True),
    Case(Sigmoid, {"sharpness": 0.5}, sigmoid(0.5), math.tanh(0.5 / 4)),
    Case(Sigmoid, {"sharpness": 30.0}, sigmoid(30.0), math.tanh(7.5)),
    Case(Sigmoid, {"sharpness": 1e-3, "normalized": True}, tanh_soft_round(1e-3)),
    Case(Sigmoid, {"sharpness": 30.0, "normalized": True}, tanh_soft_round(30.0)),
    Case(Linear, {"sharpness": 2}, flat()),  # clip never acts: floor(x) + 1/2 + f = x
    Case(Linear, {"sharpness": 10.0}, ramp(10.0), kink=0.1),
    Case(FiniteDifference, {"epsilon": 0.5}, flat(), hard=True),
    Case(FiniteDifference, {"epsilon": 0.25}, ramp(4.0), hard=True, kink=0.25),
    # With k = 2 beta two neighbours are the plain sigmoid; with more, the mean slope is 2 E[m - 1/2] at the integer's
    # left side, counted by hand: the neighbours lie there at distances 0, 1, 1, 2 (, 2, 3), unpaired is the last.
    Case(Softmax, {"beta": 2.0}, sigmoid(4.0), math.tanh(1)),
    Case(
        Softmax,
        {"beta": 2.0, "neighbours": 4},
        soft_assignment(2.0, 4),
        1 - 4 * math.exp(-8) / (1 + 2 * math.exp(-2) + math.exp(-8)),
    ),
    Case(
        Softmax,
        {"beta": 0.7, "neighbours": 6},
        soft_assignment(0.7, 6),
        1 - 6 * math.exp(-6.3) / (1 + 2 * math.exp(-0.7) + 2 * math.exp(-2.8) + math.exp(-6.3)),
    ),
    *(
        Case(Fourier, {"terms": terms, "weights": weights}, series(terms, weights))
        for weights in WEIGHTS
        for terms in (1, 5, 20)
    ),
]


def name(case: Case) -> str:
    values = [getattr(v, "__name__", None) or (type(v).__name__ if isinstance(v, Rounding) else str(v))
              for v in case.arguments.values()]  # fmt: skip
    return "-".join([case.cls.__name__, *values])


every_case = pytest.mark.parametrize("case", CASES, ids=name)


def regular_points(case: Case, count: int = 61, dtype: torch.dtype = torch.float64) -> Tensor:
    """Points at which every curve is differentiable: off the multiples of 1/2 and off the kinks around them."""
    x = np.linspace(-3.37, 3.41, count)

    def distance(offset):
        return np.abs((x - offset) * 2 - np.round((x - offset) * 2)) / 2

    keep = distance(0.0) > 0.02
    if case.kink:
        keep &= (distance(case.kink) > 0.02) & (distance(-case.kink) > 0.02)
    return torch.tensor(x[keep], dtype=dtype)


def gradient(rounding: Rounding, x: Tensor, upstream: Tensor | None = None) -> Tensor:
    x = x.detach().clone().requires_grad_()
    y = rounding(x)
    return torch.autograd.grad(y, x, torch.ones_like(y) if upstream is None else upstream)[0]


def modes(case: Case, op: str) -> list[Rounding]:
    """Soft and hard, in training and in evaluation."""
    return [case.build(op, hard=hard).train(training) for hard in (True, False) for training in (True, False)]


def test_every_rounding_has_an_example_and_a_formula_written_a_second_time():
    assert {cls for cls, _ in EXAMPLES} == set(FAMILY), "add the new rounding to EXAMPLES in discrete_ae/rounding"
    assert {case.cls for case in CASES if case.formula} == set(FAMILY), "add a Case with its formula to CASES here"


# The curves -----------------------------------------------------------------------------------------------------------


@every_case
def test_value_and_slope_are_the_formula(case):
    for op in OPS:
        x = regular_points(case).numpy()
        x = np.append(x, (-1e-9, 0, 1e-9)) if op == "trunc" else x  # which is continuous there
        value, slope = case.expected(op, x)
        rounding = case.build(op)
        # float64 round-off of a sum of 20 terms, amplified by the slope of up to 41
        np.testing.assert_allclose(rounding.value(torch.tensor(x)).numpy(), value, rtol=0, atol=1e-11)
        np.testing.assert_allclose(rounding.slope(torch.tensor(x)).numpy(), slope, rtol=1e-9, atol=1e-10)
        # The accuracy promised for the soft forward in float32; x itself is rounded, so compare at the rounded points.
        single = torch.tensor(x, dtype=torch.float32)
        value, slope = case.expected(op, single.double().numpy())
        np.testing.assert_allclose(rounding.value(single).numpy(), value, rtol=0, atol=1e-5)
        np.testing.assert_allclose(rounding.slope(single).numpy(), slope, rtol=1e-4, atol=1e-3)
        for dtype in (torch.bfloat16, torch.float16):
            half = single.to(dtype)
            assert torch.equal(rounding.value(half), rounding.value(half.float()).to(dtype))
            assert torch.equal(rounding.slope(half), rounding.slope(half.float()).to(dtype))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_fourier_in_float32_stays_within_1e4_of_the_naive_sum_whatever_n(weights):
    # Every point counts here, the singular ones and their neighbours included.
    x = torch.cat([torch.linspace(-2, 2, 2001), torch.tensor([0.5, 1.5, 1.0]).repeat(2).nextafter(torch.tensor(9.0))])
    for terms in (1, 7, 100):
        value, slope = series(terms, weights)
        rounding = Fourier(terms, weights)
        np.testing.assert_allclose(rounding.value(x).numpy(), value(x.double().numpy()), rtol=0, atol=1e-4)
        peak = 2 * terms + 1
        np.testing.assert_allclose(rounding.slope(x).numpy(), slope(x.double().numpy()), rtol=0, atol=1e-4 * peak)


@pytest.mark.parametrize(
    "surrogate",
    [
        Sigmoid(2000.0),
        Sigmoid(2000.0, normalized=True),
        Linear(2000.0),
        FiniteDifference(1e-3),
        Softmax(1000.0),
        Softmax(1000.0, neighbours=4),
        *(Fourier(400, weights) for weights in WEIGHTS),
    ],
    ids=repr,
)
def test_tends_to_the_operation_away_from_its_boundaries(surrogate):
    # CustomGradient gives a curve for any operation.
    for op in OPS:
        x = np.linspace(-3.47, 3.47, 348)
        steps_at = x + SHIFT[op] if op != "trunc" else np.abs(x) - 0.5
        distance = np.abs(steps_at - np.floor(steps_at) - 0.5)
        # trunc does not step at 0
        keep = (distance > 0.1) | (np.abs(x) < 0.9 if op == "trunc" else False)
        value = CustomGradient(surrogate, op=op).value(torch.tensor(x[keep])).numpy()
        # At 0.1 from a boundary the tail of the series after N = 400 terms is below 1/(pi N sin(0.1 pi)) = 2.6e-3.
        np.testing.assert_allclose(value, NUMPY_OPS[op](x[keep]), rtol=0, atol=3e-3)


def test_hand_computed_points():
    half, one = torch.tensor([0.5], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    for terms in (1, 2, 5, 20):
        # At a boundary every cosine is 1 in size: slope 1 + 2 sum w_n. At an integer they alternate.
        assert Fourier(terms, "dirichlet").slope(half).item() == pytest.approx(2 * terms + 1, rel=1e-12)
        assert Fourier(terms, "dirichlet").slope(one).item() == pytest.approx((-1) ** terms, rel=1e-12)
        assert Fourier(terms, "fejer").slope(half).item() == pytest.approx(terms + 1, rel=1e-12)
        assert Fourier(terms, "fejer").slope(torch.linspace(0, 1, 20_001)).min() >= 0  # monotone
    # k sigma(0) (1 - sigma(0)) = k / 4; k = 2 beta; 1 / 2 eps; k / 2
    assert Sigmoid(8.0).slope(half).item() == pytest.approx(2.0, rel=1e-12)
    assert Sigmoid(8.0, normalized=True).slope(half).item() == pytest.approx(2 / math.tanh(2), rel=1e-12)
    assert Softmax(4.0).slope(half).item() == pytest.approx(2.0, rel=1e-12)
    assert FiniteDifference(0.125).slope(half).item() == 4.0
    assert Linear(8.0).slope(half).item() == 4.0
    # The plain sigmoid jumps by 2 sigma(-k/2) at an integer.
    below = Sigmoid(4.0).value(torch.nextafter(one, 0 * one)).item()
    assert Sigmoid(4.0).value(one).item() - below == pytest.approx(2 / (1 + math.exp(2)), rel=1e-9)
    # The identity, at the integers too, where a literal difference of rounded values would give 0 or 2, by ties.
    assert Linear(2).value(one).item() == 1
    assert FiniteDifference(0.5).slope(one).item() == Linear(2).slope(one).item() == 1


# The slopes -----------------------------------------------------------------------------------------------------------


@every_case
def test_slope_is_the_derivative_of_value(case):
    count = 1000
    period = 2 + (torch.arange(count, dtype=torch.float64) + 0.5) / count  # trunc is a floor there
    for op in OPS:
        rounding = case.build(op)
        x = regular_points(case).requires_grad_()
        (automatic,) = torch.autograd.grad(rounding.value(x).sum(), x)
        torch.testing.assert_close(rounding.slope(x).detach(), automatic, rtol=1e-9, atol=1e-9)
        # Midpoints of a smooth or even kernel: off by O(1 / count^2). The ramps' edges fall between two of them.
        assert rounding.slope(period).mean().item() == pytest.approx(case.mean_slope, abs=1e-5)

    for op in ("round", "trunc"):  # the others are shifts

        def soft(x, op=op):
            torch.default_generator.manual_seed(0)  # noise, where there is any, is the same at every evaluation
            return case.build(op, hard=False)(x)

        x = regular_points(case, count=7).requires_grad_()
        assert torch.autograd.gradcheck(soft, x)
        for rounding in modes(case, op)[::3]:
            assert torch.autograd.gradgradcheck(rounding, x)


@every_case
def test_gradient_through_forward_is_the_slope_in_all_modes(case):
    for op, dtype in itertools.product(OPS, DTYPES):
        x = regular_points(case).to(dtype)
        upstream = torch.linspace(-2, 3, len(x)).to(dtype)
        for rounding in modes(case, op):
            assert torch.equal(gradient(rounding, x, upstream), upstream * rounding.slope(x))


STEEP = [
    Case(Linear, {"sharpness": 1e30}),
    Case(Softmax, {"beta": 1e30}),
    Case(Softmax, {"beta": 1e30, "neighbours": 4}),
]
STEEP += [Case(Sigmoid, {"sharpness": 1e30, "normalized": normalized}) for normalized in (False, True)]


@pytest.mark.parametrize("case", CASES + STEEP, ids=name)
def test_finite_at_the_singular_points(case):
    for op, dtype, hard in itertools.product(OPS, (torch.float32, torch.float64), (True, False)):
        at = torch.cat([torch.arange(-6, 7, dtype=dtype) / 2, torch.tensor([1e6, 1e6 + 0.5, -1e6 - 0.5], dtype=dtype)])
        x = torch.cat([at, at.nextafter(at + 1), at.nextafter(at - 1), at + 0.2])
        rounding = case.build(op, hard=hard)
        assert rounding.value(x).isfinite().all()
        assert rounding.slope(x).isfinite().all()
        leaf, upstream = x.clone().requires_grad_(), torch.ones_like(x).requires_grad_()
        y = rounding(leaf)
        assert y.isfinite().all()
        (first,) = torch.autograd.grad(y, leaf, upstream, create_graph=True)
        assert first.isfinite().all()
        for second in torch.autograd.grad(first.sum(), (leaf, upstream), allow_unused=True):
            assert second is None or second.isfinite().all()


@every_case
def test_at_most_one_tensor_of_the_inputs_size_is_saved(case):
    x = torch.linspace(-2, 2, 1000, requires_grad=True)
    for rounding in [*modes(case, "round"), *modes(case, "trunc")]:
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda x: x):  # noqa: B023
            y = rounding(x)
        assert sum(tensor.numel() > 1 for tensor in saved) <= 1
        y.sum().backward()


# Recipes that circulate and are wrong (docs/rounding.md) --------------------------------------------------------------

# The plain sigmoid's mean error is twice the integral of sigma(-k f) over f in (0, 1/2), 2 ln 2 / k for large k.
ERROR = 2 * math.log(2) / 50


def softmax_of_distances(x: Tensor) -> Tensor:
    weights = torch.softmax(50 * torch.stack([x - x.floor(), x.ceil() - x]), dim=0)
    return weights[0] * x.floor() + weights[1] * x.ceil()


def smooth_step(x: Tensor) -> Tensor:
    return x.floor() + torch.sigmoid(50 * (x - x.floor() - 0.5))


@pytest.mark.parametrize(
    ("wrong", "error_of_wrong", "right", "error_of_right"),
    [
        (lambda x: torch.sigmoid(50 * (x - x.round())) + x.round() - 0.5, 0.5 - ERROR, Sigmoid(50.0), ERROR),
        (softmax_of_distances, 1 - ERROR / 2, Softmax(50.0), ERROR / 2),  # k = 2 beta; the farther neighbour
        (smooth_step, 0.5, Sigmoid(50.0, op="floor"), ERROR),  # taken for a floor, and a soft round
    ],
    ids=["sigmoid around the rounded value", "softmax of distances", "soft round as a floor"],
)
def test_recipes_whose_steps_are_in_the_wrong_place(wrong, error_of_wrong, right, error_of_right):
    x = torch.linspace(-3, 3, 12_001, dtype=torch.float64)[:-1]
    for function, expected in ((wrong, error_of_wrong), (right.value, error_of_right)):
        assert (function(x) - right.exact(x)).abs().mean().item() == pytest.approx(expected, abs=1e-3)


class OnceDifferentiable(torch.autograd.Function):
    """A slope that is computed outside the graph."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * Sigmoid(4.0).slope(ctx.saved_tensors[0].detach())


def test_recipes_without_a_gradient():
    x = torch.linspace(0, 1, 20_001, dtype=torch.float64, requires_grad=True)
    narrow = ((x - 0.499).clamp_min(0) * 10_000).clamp_max(1)
    difference = ((x + 1e-6).round() - (x - 1e-6).round()).detach() / 2e-6
    for wrong in (torch.autograd.grad(narrow.sum(), x)[0], difference):
        assert (wrong != 0).double().mean() < 2e-4
    for cls in FAMILY:  # by default at least half of the inputs learn (the ramps), each by a slope of the order of 1
        assert (gradient(cls(), x).abs() > 0.05).double().mean() > 0.49
    steep = torch.exp(1000 * (torch.tensor([2.0, 3.3]) - 0.5))
    assert (steep / (steep + 1)).isnan().all()
    (wrong,) = torch.autograd.grad(OnceDifferentiable.apply(x).sum(), x, create_graph=True)
    (right,) = torch.autograd.grad(Sigmoid(4.0, hard=True)(x).sum(), x, create_graph=True)
    assert (wrong.requires_grad, right.requires_grad) == (False, True)


# The exact values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_hard_values_are_the_operation_exactly(dtype):
    if dtype.itemsize == 2:  # every number that it holds
        x = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
        x = x[x.isfinite()]
    else:  # ties, odd integers, and others
        x = torch.cat([torch.arange(-15, 16) / 2, torch.tensor([-7.3, -0.3, 0.49, 0.51, 100.7, 1023.5, 2047, 3e4])])
        x = torch.cat([x.to(dtype), torch.tensor([2.9999999], dtype=dtype)])  # in float32 that is the number 3
    for op in OPS:
        # An integer between two integers that dtype holds is held too, so numpy's float64 result is exact in dtype.
        expected = torch.tensor(NUMPY_OPS[op](x.double().numpy())).to(dtype)
        for case in CASES:
            in_training, in_evaluation, _, soft_in_evaluation = modes(case, op)
            exact = [in_evaluation, soft_in_evaluation] + ([] if case.random == "hard" else [in_training])
            for y in (rounding(x) for rounding in exact):
                assert y.dtype == dtype
                assert torch.equal(y, expected), (case, op)


@every_case
def test_what_training_emits(case):
    for hard in (True, False, Schedule("switch", 0, 1), Schedule("constant", 1)):
        expected = hard is True and case.random != "hard"
        assert case.build(hard=hard).matches_evaluation == expected
    assert case.build().hard == case.hard
    if case.random != "soft":
        x = regular_points(case, dtype=torch.float32)
        rounding = case.build(hard=False)
        assert torch.equal(rounding(x), rounding.value(x))


@every_case
def test_inf_and_nan_raise_nothing_and_do_not_become_finite(case):
    for op, dtype in itertools.product(OPS, DTYPES):
        x = torch.tensor([math.inf, -math.inf, math.nan], dtype=dtype)
        assert case.build(op).slope(x).shape == x.shape
        assert not case.build(op).value(x).isfinite().any()
        for rounding in modes(case, op):
            y = rounding(x)
            assert not y.isfinite().any()
            assert y[2].isnan()
            if rounding.hard or not rounding.training:
                assert torch.equal(y[:2], x[:2])
            gradient(rounding, x)


# Chance ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_noise_is_uniform_and_stochastic_rounding_rounds_it(share):
    torch.manual_seed(3)
    count = 20_000
    uniform = share * ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5)
    for op, x in itertools.product(OPS, (0.3, -1.7, 2.5, -0.01, 4.0)):
        points = torch.full((count,), x, dtype=torch.float64)
        soft = x + SHIFT.get(op, 0.0)  # trunc: the flat staircase is x itself
        noise = (UniformNoise(share, op=op)(points) - soft).sort().values
        assert noise.abs().max() <= share / 2 + 1e-12
        # Kolmogorov-Smirnov: a true uniform sample exceeds 2.5 / sqrt(n) once in 100,000 seeds.
        assert (noise - uniform).abs().max() <= share * 2.5 / math.sqrt(count) + 1e-12
        # The operation itself at evenly spaced u; a step may be off by one of these.
        y, expected = Stochastic(share, op=op)(points).numpy(), NUMPY_OPS[op](x + uniform.numpy())
        assert set(y) <= set(expected)
        assert abs(y.mean() - expected.mean()) <= 4.5 * expected.std() / math.sqrt(count) + 1 / count
        if share == 1:  # unbiased: the mean is the soft value, which is flat around 0 for trunc
            unbiased = math.copysign(max(abs(x) - 0.5, 0), x) if op == "trunc" else soft
            assert expected.mean() == pytest.approx(unbiased, abs=1 / count)


@pytest.mark.parametrize("op", OPS)
def test_stochastic_rounding_far_from_0_has_the_odds_of_the_fraction(op):
    torch.manual_seed(5)
    count, x = 20_000, 2.0**21 + 0.25  # where float32 counts in quarters, too coarse to add the noise to
    up = {"round": 0.25, "floor": 0.0, "ceil": 0.75, "trunc": 0.0}[op]  # u > 1/4, never, u > -1/4
    down = {"floor": 0.25, "trunc": 0.25}.get(op, 0.0)  # u < -1/4
    moved = Stochastic(op=op)(torch.full((count,), x)).double() - 2.0**21
    for value, odds in ((1, up), (-1, down), (0, 1 - up - down)):
        found = (moved == value).double().mean().item()
        assert abs(found - odds) <= 4.5 * math.sqrt(odds * (1 - odds) / count)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0, Schedule("constant", 0.3), Schedule("constant", 0)])
def test_noise_dropout_is_a_mixture_of_the_integer_and_of_noise_around_the_soft_value(probability):
    torch.manual_seed(6)
    count, p = 20_000, getattr(probability, "first", probability)
    for op, x in itertools.product(OPS, (0.3, -1.7, 2.5, -0.01, 4.0)):
        exact, soft = NUMPY_OPS[op](x), x + SHIFT.get(op, 0.0)
        y = NoiseDropout(probability, op=op)(torch.full((count,), x, dtype=torch.float64)).numpy()
        noisy = y[y != exact]  # noise that gives an integer is rarer than any seed shows
        assert abs(len(noisy) / count - p) <= 4.5 * math.sqrt(p * (1 - p) / count)
        assert (np.abs(noisy - soft) <= 0.5 + 1e-12).all()
        # With d from the integer to the soft value, E = p d and E^2 = p (d^2 + 1/12), since Var[u] = 1/12.
        d = soft - exact
        variance = p * (d**2 + 1 / 12) - (p * d) ** 2
        a = (1 - p) * d  # E[(a + u)^4] = a^4 + 6 a^2 / 12 + 1 / 80
        fourth = (1 - p) * (p * d) ** 4 + p * (a**4 + a**2 / 2 + 1 / 80)
        assert abs(y.mean() - exact - p * d) <= 4.5 * math.sqrt(variance / count) + 1e-12
        spread = math.sqrt(max(fourth - variance**2, 0) / count)  # of a sample's variance
        assert abs(y.var() - variance) <= 4.5 * spread + 1e-4


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cls", [Stochastic, NoiseDropout])
def test_without_noise_they_are_the_operation_exactly(cls, dtype):
    near = torch.arange(-32, 33, dtype=torch.float64) / 4
    tiny = [1e-9, -1e-9, -1e-40, -0.0, 0.5 - 2**-25, 3 - 2**-22, math.inf, -math.inf]
    far = [near + 2.0**power for power in (9, 21, 22, 23, 24, 51)]  # beyond the integers of each type, and before
    x = torch.cat([near, torch.tensor(tiny, dtype=torch.float64), *far, *(-part for part in far)]).to(dtype)
    for op, share in itertools.product(OPS, (0, Schedule("constant", 0))):
        assert torch.equal(cls(share, op=op)(x), EXACT[op](x)), op


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_stochastic_emits_exact_neighbours_in_low_precision(dtype):
    torch.manual_seed(2)
    x = torch.linspace(-40, 40, 4001).to(dtype).repeat(8)
    y = Stochastic()(x)
    assert y.dtype == dtype
    assert torch.equal(y, y.round())
    assert ((y == x.floor()) | (y == x.floor() + 1)).all()


def test_noise_is_drawn_for_each_element_and_only_in_training():
    x = torch.zeros(1000)
    for rounding in (UniformNoise(), NoiseDropout(), Stochastic()):
        soft = x + 0.5 if isinstance(rounding, Stochastic) else x
        assert rounding(soft).unique().numel() > 1
        assert not torch.equal(rounding(soft), rounding(soft))
        state = torch.get_rng_state()
        assert torch.equal(rounding.eval()(soft), soft.round())
        assert torch.equal(torch.get_rng_state(), state)


# Wrong arguments ------------------------------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf
WRONG = [
    *((cls, {"share": (-0.1, 1.1, NAN, "some", True)}) for cls in (UniformNoise, Stochastic)),
    (NoiseDropout, {"probability": (-0.1, 1.1, NAN, "some", True)}),
    (Sigmoid, {"sharpness": (0, -1.0, NAN, INF, "steep", True), "normalized": ("false", 0, None)}),
    (Linear, {"sharpness": (0, -1.0, 1.99, NAN, INF)}),
    (FiniteDifference, {"epsilon": (0, -0.1, 0.51, NAN, INF, "small")}),
    (Softmax, {"beta": (0, -1.0, NAN, INF), "neighbours": (0, 1, 3, -2, 2.5, NAN)}),
    (Fourier, {"terms": (0, -1, 1.5, NAN, INF, "many"), "weights": ("hann",)}),
    (CustomGradient, {"surrogate": (3, Sigmoid(op="floor"))}),
]


@pytest.mark.parametrize(("cls", "wrong"), WRONG, ids=str)
def test_wrong_arguments_are_refused_by_name(cls, wrong):
    assert_refused(cls, wrong)


@pytest.mark.parametrize("cls", FAMILY, ids=lambda cls: cls.__name__)
def test_wrong_operation_and_dtype_are_refused(cls):
    assert_refused(cls, {"op": ("nearest",), "hard": ("yes", None, 1)})
    for dtype, training in itertools.product((torch.int64, torch.complex64), (True, False)):
        with pytest.raises(ValueError, match=rf"floating-point.*{dtype}"):
            cls().train(training)(torch.ones(3, dtype=dtype))


def test_arguments_are_shown():
    assert "sharpness=3.0" in repr(Sigmoid(3.0))
    assert "op='floor'" in repr(Sigmoid(3.0, op="floor"))


def test_scalars_of_numpy_are_the_numbers_that_they_are():
    x = torch.linspace(-2, 2, 41)
    for found, expected in (
        (Fourier(np.int64(5), hard=np.bool_(True)), Fourier(5, hard=True)),
        (Softmax(np.float32(0.5), np.int64(4)), Softmax(0.5, 4)),
        (Linear(np.float16(4)), Linear(4)),
        (FiniteDifference(np.float64(0.25)), FiniteDifference(0.25)),
        (Sigmoid(np.int32(4), np.bool_(False)), Sigmoid(4, False)),
        (Sigmoid(Schedule("linear", np.float32(4), np.int64(8))), Sigmoid(Schedule("linear", 4, 8))),
    ):
        assert torch.equal(found(x), expected(x))
        assert repr(found) == repr(expected)


# Pieces ---------------------------------------------------------------------------------------------------------------


@every_case
def test_a_large_tensor_done_in_pieces_has_the_same_curves(case):
    # More than a piece and no multiple of one; in half precision too.
    x = torch.linspace(-3.3, 3.3, 2 * roundings.base.PIECE * torch.get_num_threads() + 13).clone()
    rounding = case.build()
    whole = rounding.value(x), rounding.slope(x)
    with torch.no_grad():
        pieces = rounding.value(x), rounding.slope(x)
        half = rounding.value(x.bfloat16())
        strided = rounding.value(x.repeat_interleave(2)[::2])
    for expected, found in zip(whole, pieces, strict=True):
        # A vectorized loop and its tail may differ in the last bit, which a steep or ringing slope enlarges.
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(half, rounding.value(x.bfloat16().float()).bfloat16(), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(strided, whole[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient(rounding, x), whole[1], rtol=1e-4, atol=1e-4)
