"""The family of roundings against the mathematics: formulas written a second time, in numpy float64, naively.

In the formulas f = x - floor(x) - 1/2 is the distance from the nearest decision boundary, s the soft staircase.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from discrete_ae import rounding as roundings
from discrete_ae.rounding import (
    CustomGradient,
    FiniteDifference,
    Fourier,
    Linear,
    Rounding,
    Sigmoid,
    Softmax,
    Stochastic,
    StraightThrough,
    UniformNoise,
)
from discrete_ae.schedules import Schedule

OPS = ("round", "floor", "ceil", "trunc")
NUMPY_OPS = {"round": np.round, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc}  # np.round: ties to even
SHIFT = {"round": 0.0, "floor": -0.5, "ceil": 0.5}
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

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
    """One method with its parameters and what the table says of it."""

    cls: type[Rounding]
    arguments: dict[str, Any] = {}  # noqa: RUF012
    formula: tuple[Curve, Curve] | None = None
    """Soft round and its slope."""
    mean_slope: float = 1.0
    kink: float | None = None
    """Distance from the boundary where the slope itself jumps."""
    flat: bool = False
    """Whether the soft value is x for every operation but for its shift, trunc included."""

    def build(self, op: str = "round", **more: Any) -> Rounding:
        return self.cls(**self.arguments, op=op, **more)

    def expected(self, op: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Soft value and slope; for trunc where |x| >= 1 or the method is flat."""
        soft, slope = self.formula
        if op != "trunc":
            return soft(x + SHIFT[op]), slope(x + SHIFT[op])
        if self.flat:
            return x, np.ones_like(x)
        return np.sign(x) * soft(np.abs(x) - 0.5), slope(np.abs(x) - 0.5)


def smooth_custom(x: Tensor) -> Tensor:
    return x - torch.sin(2 * math.pi * x) / (2 * math.pi)


CASES = [
    Case(StraightThrough, {}, flat(), flat=True),
    Case(UniformNoise, {}, flat(), flat=True),
    Case(Stochastic, {}, flat(), flat=True),
    Case(CustomGradient, {}, flat(), flat=True),
    Case(CustomGradient, {"surrogate": Sigmoid(5.0, normalized=True)}, tanh_soft_round(5.0)),
    Case(CustomGradient, {"surrogate": Fourier(3, "fejer")}, series(3, "fejer")),
    # x - sin(2 pi x) / 2 pi is the Fejér series of one term, written by a user.
    Case(CustomGradient, {"surrogate": smooth_custom}, series(1, "fejer")),
    Case(Sigmoid, {"sharpness": 0.5}, sigmoid(0.5), math.tanh(0.5 / 4)),
    Case(Sigmoid, {"sharpness": 4.0}, sigmoid(4.0), math.tanh(1)),
    Case(Sigmoid, {"sharpness": 30.0}, sigmoid(30.0), math.tanh(7.5)),
    Case(Sigmoid, {"sharpness": 1e-3, "normalized": True}, tanh_soft_round(1e-3)),
    Case(Sigmoid, {"sharpness": 4.0, "normalized": True}, tanh_soft_round(4.0)),
    Case(Sigmoid, {"sharpness": 30.0, "normalized": True}, tanh_soft_round(30.0)),
    Case(Linear, {"sharpness": 2}, flat()),  # clip never acts: floor(x) + 1/2 + f = x
    Case(Linear, {"sharpness": 4.0}, ramp(4.0), kink=0.25),
    Case(Linear, {"sharpness": 10.0}, ramp(10.0), kink=0.1),
    Case(FiniteDifference, {"epsilon": 0.5}, flat()),
    Case(FiniteDifference, {"epsilon": 0.25}, ramp(4.0), kink=0.25),
    Case(FiniteDifference, {"epsilon": 0.1}, ramp(10.0), kink=0.1),
    # With k = 2 beta two neighbours are the plain sigmoid; with more, the mean slope is 2 E[m - 1/2] at the integer's
    # left side, counted by hand: the neighbours lie there at distances 0, 1, 1, 2 (, 2, 3), unpaired is the last.
    Case(Softmax, {"beta": 2.0}, sigmoid(4.0), math.tanh(1)),
    Case(Softmax, {"beta": 15.0}, sigmoid(30.0), math.tanh(7.5)),
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
        for weights in ("dirichlet", "fejer", "lanczos")
        for terms in (1, 2, 5, 20)
    ),
]


def concrete(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        public = not child.__name__.startswith("_") and child.__module__.startswith("discrete_ae.")
        if public and not inspect.isabstract(child):
            yield child
        yield from concrete(child)


FAMILY = sorted(set(concrete(Rounding)), key=lambda cls: cls.__name__)
# A class without a case is tested with its defaults all the same.
CASES += [Case(cls) for cls in FAMILY if cls not in {case.cls for case in CASES}]


def name(case: Case) -> str:
    values = [getattr(v, "__name__", None) or (type(v).__name__ if isinstance(v, Rounding) else str(v))
              for v in case.arguments.values()]  # fmt: skip
    return "-".join([case.cls.__name__, *values])


every_case = pytest.mark.parametrize("case", CASES, ids=name)
every_class = pytest.mark.parametrize("cls", FAMILY, ids=lambda cls: cls.__name__)
every_op = pytest.mark.parametrize("op", OPS)


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


def test_every_method_has_a_formula_written_a_second_time():
    assert {case.cls for case in CASES if case.formula} == set(FAMILY)
    assert all(getattr(roundings, cls.__name__) is cls for cls in FAMILY)


# The curves -----------------------------------------------------------------------------------------------------------


@every_op
@every_case
def test_value_and_slope_are_the_formula(case, op):
    if case.formula is None:
        pytest.skip("no formula")
    x = regular_points(case).numpy()
    x = x[np.abs(x) > 1] if op == "trunc" else x
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


@pytest.mark.parametrize("weights", ["dirichlet", "fejer", "lanczos"])
@pytest.mark.parametrize("terms", [1, 7, 100])
def test_fourier_in_float32_stays_within_1e4_of_the_naive_sum_whatever_n(terms, weights):
    # Every point counts here, the singular ones and their neighbours included.
    x = torch.cat([torch.linspace(-2, 2, 2001), torch.tensor([0.5, 1.5, 1.0]).repeat(2).nextafter(torch.tensor(9.0))])
    value, slope = series(terms, weights)
    rounding = Fourier(terms, weights)
    np.testing.assert_allclose(rounding.value(x).numpy(), value(x.double().numpy()), rtol=0, atol=1e-4)
    peak = 2 * terms + 1
    np.testing.assert_allclose(rounding.slope(x).numpy(), slope(x.double().numpy()), rtol=0, atol=1e-4 * peak)


@every_op
@every_case
def test_half_precision_is_the_float32_result_rounded(case, op):
    rounding = case.build(op)
    for dtype in (torch.bfloat16, torch.float16):
        x = regular_points(case).to(dtype)
        assert torch.equal(rounding.value(x), rounding.value(x.float()).to(dtype))
        assert torch.equal(rounding.slope(x), rounding.slope(x.float()).to(dtype))


@pytest.mark.parametrize("op", ["round", "floor", "ceil"])  # trunc is not periodic
@every_case
def test_one_step_up_for_each_step_right(case, op):
    x = regular_points(case)
    rounding = case.build(op)
    torch.testing.assert_close(rounding.value(x + 1), rounding.value(x) + 1, rtol=0, atol=1e-10)
    torch.testing.assert_close(rounding.slope(x + 1), rounding.slope(x), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("op", ["round", "trunc"])  # floor and ceil are not odd
@every_case
def test_odd(case, op):
    x = regular_points(case)
    rounding = case.build(op)
    torch.testing.assert_close(rounding.value(-x), -rounding.value(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(rounding.slope(-x), rounding.slope(x), rtol=1e-8, atol=1e-9)


@every_case
def test_soft_ceil_mirrors_soft_floor(case):
    x = regular_points(case)
    torch.testing.assert_close(case.build("ceil").value(-x), -case.build("floor").value(x), rtol=0, atol=1e-10)


# class, arguments, share by which one more tenfold sharpness shrinks the error at a fixed distance from the boundary
SHARPER = [
    (Sigmoid, {"sharpness": 2000.0}),
    (Sigmoid, {"sharpness": 2000.0, "normalized": True}),
    (Linear, {"sharpness": 2000.0}),
    (FiniteDifference, {"epsilon": 1e-3}),
    (Softmax, {"beta": 1000.0}),
    (Softmax, {"beta": 1000.0, "neighbours": 4}),
    (CustomGradient, {"surrogate": Sigmoid(2000.0)}),
    (Fourier, {"terms": 400, "weights": "dirichlet"}),
    (Fourier, {"terms": 400, "weights": "fejer"}),
    (Fourier, {"terms": 400, "weights": "lanczos"}),
]


@every_op
@pytest.mark.parametrize(("cls", "arguments"), SHARPER, ids=lambda v: getattr(v, "__name__", ""))
def test_tends_to_the_operation_away_from_its_boundaries(cls, arguments, op):
    x = np.linspace(-3.47, 3.47, 348)
    steps_at = x + SHIFT[op] if op != "trunc" else np.abs(x) - 0.5
    distance = np.abs(steps_at - np.floor(steps_at) - 0.5)
    # trunc does not step at 0
    keep = (distance > 0.1) | (np.abs(x) < 0.9 if op == "trunc" else False)
    value = cls(**arguments, op=op).value(torch.tensor(x[keep])).numpy()
    # At 0.1 from a boundary the tail of the series after N = 400 terms is below 1/(pi N sin(0.1 pi)) = 2.6e-3.
    np.testing.assert_allclose(value, NUMPY_OPS[op](x[keep]), rtol=0, atol=3e-3)


@every_class
def test_every_method_with_a_parameter_is_seen_sharp(cls):
    assert case_is_flat(cls) or cls in {sharp for sharp, _ in SHARPER}


def case_is_flat(cls: type[Rounding]) -> bool:
    return all(case.flat for case in CASES if case.cls is cls)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sharpness", [1e-3, 1e-5, 1e-7, 1e-12, 1e-300])
def test_normalized_sigmoid_tends_to_the_identity_without_0_over_0(sharpness, dtype):
    x = torch.linspace(-2, 2, 101, dtype=dtype)
    rounding = Sigmoid(sharpness, normalized=True)
    # tanh(a f)/(2 tanh(a/2)) = f (1 + O(k^2)), and k^2 <= 1e-6
    torch.testing.assert_close(rounding.value(x), x, rtol=0, atol=1e-6)
    torch.testing.assert_close(rounding.slope(x), torch.ones_like(x), rtol=0, atol=1e-6)


def test_hand_computed_points():
    half, one = torch.tensor([0.5], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    for terms in (1, 2, 5, 20):
        # At a boundary every cosine is 1 in size: slope 1 + 2 sum w_n. At an integer they alternate.
        assert Fourier(terms, "dirichlet").slope(half).item() == pytest.approx(2 * terms + 1, rel=1e-12)
        assert Fourier(terms, "dirichlet").slope(one).item() == pytest.approx((-1) ** terms, rel=1e-12)
        assert Fourier(terms, "fejer").slope(half).item() == pytest.approx(terms + 1, rel=1e-12)
    # k sigma(0) (1 - sigma(0)) = k / 4; k = 2 beta; 1 / 2 eps; k / 2
    assert Sigmoid(8.0).slope(half).item() == pytest.approx(2.0, rel=1e-12)
    assert Sigmoid(8.0, normalized=True).slope(half).item() == pytest.approx(2 / math.tanh(2), rel=1e-12)
    assert Softmax(4.0).slope(half).item() == pytest.approx(2.0, rel=1e-12)
    assert FiniteDifference(0.125).slope(half).item() == 4.0
    assert Linear(8.0).slope(half).item() == 4.0
    # The plain sigmoid jumps by 2 sigma(-k/2) at an integer.
    below = Sigmoid(4.0).value(torch.nextafter(one, 0 * one)).item()
    assert Sigmoid(4.0).value(one).item() - below == pytest.approx(2 / (1 + math.exp(2)), rel=1e-9)


def test_dirichlet_rings_fejer_does_not_and_lanczos_lies_between():
    x = torch.linspace(0, 1, 20001, dtype=torch.float64)
    for terms, low, high in ((5, -2.46, 11), (20, -8.9, 41)):  # the extremes of the kernel, by hand
        dirichlet, fejer, lanczos = (Fourier(terms, w).slope(x) for w in ("dirichlet", "fejer", "lanczos"))
        assert dirichlet.min().item() == pytest.approx(low, abs=0.05)
        assert dirichlet.max().item() == pytest.approx(high, rel=1e-9)
        assert fejer.min().item() >= 0
        assert fejer.max() < lanczos.max() < dirichlet.max()
        assert dirichlet.min() / 5 < lanczos.min() < fejer.min()


def test_equivalences():
    x = torch.linspace(-2, 2, 801, dtype=torch.float64)  # integers and half-integers included
    for epsilon in (0.5, 0.3, 0.01):
        assert torch.equal(FiniteDifference(epsilon).slope(x), Linear(1 / epsilon).slope(x))
    # The literal difference would give 0 or 2 at the integers, by ties.
    assert torch.equal(FiniteDifference(0.5).slope(x), torch.ones_like(x))
    torch.testing.assert_close(Linear(2).value(x), x, rtol=0, atol=1e-15)
    torch.testing.assert_close(Softmax(3.0).value(x), Sigmoid(6.0).value(x), rtol=0, atol=1e-13)
    torch.testing.assert_close(Softmax(3.0).slope(x), Sigmoid(6.0).slope(x), rtol=0, atol=1e-12)


# The slopes -----------------------------------------------------------------------------------------------------------


@every_op
@every_case
def test_slope_is_the_derivative_of_value(case, op):
    rounding = case.build(op)
    x = regular_points(case).requires_grad_()
    (automatic,) = torch.autograd.grad(rounding.value(x).sum(), x)
    x = x.detach()
    slope = rounding.slope(x)
    torch.testing.assert_close(slope, automatic, rtol=1e-9, atol=1e-9)
    h = 1e-6
    central = (rounding.value(x + h) - rounding.value(x - h)) / (2 * h)
    # The third derivative of 20 terms is at most 2 * 20 * (40 pi)^2: h^2 / 6 of it is 1e-7.
    torch.testing.assert_close(slope, central, rtol=1e-6, atol=1e-6)


@every_op
@every_case
def test_mean_slope_over_a_period(case, op):
    count = 1000
    x = 2 + (torch.arange(count, dtype=torch.float64) + 0.5) / count  # trunc is a floor there
    # Midpoints of a smooth or even kernel: off by O(1 / count^2). The ramps' edges fall between two of them.
    assert case.build(op).slope(x).mean().item() == pytest.approx(case.mean_slope, abs=1e-5)


@every_op
@every_case
def test_gradient_through_forward_is_the_slope_in_both_modes(case, op):
    for dtype in DTYPES:
        x = regular_points(case).to(dtype)
        upstream = torch.linspace(-2, 3, len(x)).to(dtype)
        for hard in (True, False):
            for training in (True, False):
                rounding = case.build(op, hard=hard).train(training)
                assert torch.equal(gradient(rounding, x, upstream), upstream * rounding.slope(x))


@every_op
@every_case
def test_gradcheck_and_gradgradcheck(case, op):
    x = regular_points(case, count=7).requires_grad_()

    def soft(x):
        torch.default_generator.manual_seed(0)  # noise, where there is any, is the same at every evaluation
        return case.build(op, hard=False)(x)

    assert torch.autograd.gradcheck(soft, x)
    for hard, training in ((True, True), (False, True), (False, False)):
        assert torch.autograd.gradgradcheck(case.build(op, hard=hard).train(training), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_op
@every_case
def test_finite_at_the_singular_points(case, op, dtype):
    at = torch.cat([torch.arange(-6, 7, dtype=dtype) / 2, torch.tensor([1e6, 1e6 + 0.5, -1e6 - 0.5], dtype=dtype)])
    x = torch.cat([at, at.nextafter(at + 1), at.nextafter(at - 1)])
    for hard in (True, False):
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


@pytest.mark.parametrize("sharpness", [100.0, 1e4, 1e30])
def test_no_sharpness_overflows(sharpness):
    x = torch.tensor([-2.0, -1.5, -0.2, 0.0, 0.5, 0.7, 1.0], requires_grad=True)
    for rounding in (
        Sigmoid(sharpness),
        Sigmoid(sharpness, normalized=True),
        Linear(sharpness),
        Softmax(sharpness),
        Softmax(sharpness, neighbours=4),
    ):
        y = rounding(x)
        assert y.isfinite().all(), rounding
        assert torch.autograd.grad(y.sum(), x)[0].isfinite().all(), rounding


@every_op
@every_case
def test_at_most_one_tensor_of_the_inputs_size_is_saved(case, op):
    x = torch.linspace(-2, 2, 1000, requires_grad=True)
    for hard in (True, False):
        for training in (True, False):
            saved = []

            def pack(tensor: Tensor, saved: list[int] = saved) -> Tensor:
                saved.append(tensor.numel())
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                y = case.build(op, hard=hard).train(training)(x)
            assert len([size for size in saved if size > 1]) <= 1
            y.sum().backward()


# The exact values -----------------------------------------------------------------------------------------------------

TIES_AND_ODD_INTEGERS = [-3.0, -2.5, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 5.0, 7.0, 7.5]
OTHERS = [-7.3, -0.3, 0.49, 0.51, 2.9, 100.7, 1023.5, 2047.0, -2047.0, 3.0e4]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@every_op
@every_case
def test_hard_values_are_the_operation_exactly(case, op, dtype):
    x = torch.tensor(TIES_AND_ODD_INTEGERS + OTHERS).to(dtype)
    # An integer between two integers that dtype holds is held too, so numpy's float64 result is exact in dtype.
    expected = torch.tensor(NUMPY_OPS[op](x.double().numpy())).to(dtype)
    training_by_chance = case.cls is Stochastic
    for hard in (True, False):
        rounding = case.build(op, hard=hard)
        modes = (True, False) if hard and not training_by_chance else (False,)
        for training in modes:
            y = rounding.train(training)(x)
            assert y.dtype == dtype
            assert torch.equal(y, expected)


@every_case
def test_training_matches_evaluation_where_it_is_hard_for_good_and_by_no_chance(case):
    for hard in (True, False, Schedule("switch", 0, 1), Schedule("constant", 1)):
        expected = hard is True and case.cls is not Stochastic
        assert case.build(hard=hard).matches_evaluation == expected


@every_class
def test_defaults_of_hard(cls):
    assert cls().hard == (cls in (StraightThrough, CustomGradient, FiniteDifference, Stochastic))
    assert cls().op == "round"


@every_case
def test_soft_forward_emits_the_value_in_training(case):
    if case.cls is UniformNoise:
        pytest.skip("emits noise")
    x = regular_points(case, dtype=torch.float32)
    rounding = case.build(hard=False)
    assert torch.equal(rounding(x), rounding.value(x))


def test_no_hidden_epsilon():
    x = torch.tensor([2.9999999], dtype=torch.float64)
    assert StraightThrough(op="floor")(x).item() == 2
    # In float32 the same decimal is the number 3.
    assert StraightThrough(op="floor")(x.float()).item() == 3


@every_op
def test_exact_on_every_number_that_half_precision_holds(op):
    bits = torch.arange(-(2**15), 2**15).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        x = bits.view(dtype)
        x = x[x.isfinite()]
        expected = torch.tensor(NUMPY_OPS[op](x.double().numpy())).to(dtype)
        assert torch.equal(StraightThrough(op=op)(x), expected)


@every_op
@every_case
def test_inf_and_nan_raise_nothing_and_stay_no_numbers(case, op):
    for dtype in DTYPES:
        x = torch.tensor([math.inf, -math.inf, math.nan], dtype=dtype)
        assert case.build(op).slope(x).shape == x.shape
        assert not case.build(op).value(x).isfinite().any()
        for hard in (True, False):
            for training in (True, False):
                rounding = case.build(op, hard=hard).train(training)
                y = rounding(x)
                assert not y.isfinite().any()
                assert y[2].isnan()
                if hard or not training:
                    assert torch.equal(y[:2], x[:2])
                gradient(rounding, x)


# Trunc ----------------------------------------------------------------------------------------------------------------


@every_case
def test_soft_trunc_is_continuous_at_zero(case):
    near = torch.tensor([-1e-9, 0.0, 1e-9], dtype=torch.float64)
    value = case.build("trunc").value(near)
    assert value[1] == 0
    assert value.abs().max() <= 1e-8


@pytest.mark.parametrize(("cls", "arguments"), SHARPER, ids=lambda v: getattr(v, "__name__", ""))
def test_soft_trunc_has_no_slope_around_zero_when_sharp(cls, arguments):
    x = torch.linspace(-0.3, 0.3, 61, dtype=torch.float64)
    assert cls(**arguments, op="trunc").slope(x).abs().max() < 1e-6


@pytest.mark.parametrize("rounding", [StraightThrough(op="trunc"), CustomGradient(op="trunc")], ids=["ste", "custom"])
def test_straight_through_keeps_slope_one_for_trunc(rounding):
    x = torch.linspace(-2, 2, 33)
    assert torch.equal(rounding.slope(x), torch.ones_like(x))
    assert torch.equal(gradient(rounding, x), torch.ones_like(x))
    assert torch.equal(rounding.value(x), x)


# Recipes that circulate and are wrong ---------------------------------------------------------------------------------

PERIOD = torch.linspace(-3, 3, 12_001, dtype=torch.float64)[:-1]
# mean |s - r| of the plain sigmoid: twice the integral of sigma(-k f) over f in (0, 1/2), 2 ln 2 / k for large k
SIGMOID_MEAN_ERROR = 2 * math.log(2) / 50


def mean_error(value: Tensor, target: Tensor) -> float:
    return (value - target).abs().mean().item()


def test_wrong_recipe_1_sigmoid_around_the_rounded_value():
    x, r, k = PERIOD, PERIOD.round(), 50
    wrong = torch.sigmoid(k * (x - r)) + r - 0.5
    assert mean_error(wrong, r) == pytest.approx(0.5 - SIGMOID_MEAN_ERROR, abs=1e-3)  # 0.47
    assert mean_error(Sigmoid(50.0).value(x), r) == pytest.approx(SIGMOID_MEAN_ERROR, abs=1e-3)


def test_wrong_recipe_2_softmax_of_distances_picks_the_farther_neighbour():
    x, r, beta = PERIOD, PERIOD.round(), 50
    weights = torch.softmax(beta * torch.stack([x - x.floor(), x.ceil() - x]), dim=0)
    wrong = weights[0] * x.floor() + weights[1] * x.ceil()
    assert mean_error(wrong, r) > 0.95
    # k = 2 beta
    assert mean_error(Softmax(50.0).value(x), r) == pytest.approx(SIGMOID_MEAN_ERROR / 2, abs=1e-3)


def test_wrong_recipe_3_a_smooth_round_sold_as_a_smooth_floor():
    x, k = PERIOD, 50
    recipe = x.floor() + torch.sigmoid(k * (x - x.floor() - 0.5))
    assert mean_error(recipe, x.floor()) == pytest.approx(0.5, abs=1e-3)
    assert mean_error(recipe, x.round()) < 0.03
    torch.testing.assert_close(Sigmoid(50.0).value(x), recipe, rtol=0, atol=1e-12)
    assert mean_error(Sigmoid(50.0, op="floor").value(x), x.floor()) == pytest.approx(SIGMOID_MEAN_ERROR, abs=1e-3)


@every_class
def test_wrong_recipe_4_a_ramp_without_gradient(cls):
    x = torch.linspace(0, 1, 20_001, dtype=torch.float64, requires_grad=True)
    ((x - 0.499).clamp_min(0) * 10_000).clamp_max(1).sum().backward()
    assert (x.grad != 0).double().mean() < 2e-4
    # By default at least half of the inputs learn (the ramps), each by a slope of the order of 1.
    assert (gradient(cls(), x.detach()).abs() > 0.05).double().mean() > 0.49


@every_class
def test_wrong_recipe_5_the_logistic_as_a_quotient_overflows(cls):
    x = torch.tensor([2.0, 3.3, 1000.0])
    e = torch.exp(1000 * (x - 0.5))
    assert (e / (e + 1)).isnan().all()
    assert torch.equal(Sigmoid(1000.0)(x), torch.tensor([2.0, 3.0, 1000.0]))
    assert cls()(x).isfinite().all()
    assert gradient(cls(), x).isfinite().all()


def test_wrong_recipe_6_finite_differences_of_a_tiny_step():
    x = torch.linspace(-1.9, 1.93, 1001, dtype=torch.float64)

    def literal(epsilon):
        return ((x + epsilon).round() - (x - epsilon).round()) / (2 * epsilon)

    assert literal(1e-6).count_nonzero() == 0
    rounding = FiniteDifference()
    # The kernel of width 2 eps covers that share of all inputs.
    assert (gradient(rounding, x) != 0).double().mean().item() == pytest.approx(2 * rounding.epsilon, abs=0.03)
    assert rounding.epsilon >= 0.1
    # Off the ties the literal difference is our kernel.
    torch.testing.assert_close(rounding.slope(x), literal(rounding.epsilon), rtol=1e-12, atol=0)


class _OnceDifferentiable(torch.autograd.Function):
    """The wrong recipe: the backward is computed outside the graph."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.round()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * Sigmoid(4.0).slope(x.detach())


def test_wrong_recipe_7_a_backward_that_cannot_be_differentiated():
    x = torch.linspace(-1.4, 1.4, 29, dtype=torch.float64, requires_grad=True)
    (wrong,) = torch.autograd.grad(_OnceDifferentiable.apply(x).sum(), x, create_graph=True)
    assert not wrong.requires_grad  # the second derivative is silently lost
    (first,) = torch.autograd.grad(Sigmoid(4.0, hard=True)(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    # d/dx of k sigma (1 - sigma) is k^2 sigma (1 - sigma) (1 - 2 sigma).
    sigma = 1 / (1 + np.exp(-4 * (x.detach().numpy() - np.floor(x.detach().numpy()) - 0.5)))
    np.testing.assert_allclose(second.numpy(), 16 * sigma * (1 - sigma) * (1 - 2 * sigma), atol=1e-12)


# Chance ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [0.3, -1.7, 2.5, -0.01, 4.0])
@every_op
def test_stochastic_is_unbiased_and_emits_only_the_neighbours(op, x):
    torch.manual_seed(1)
    count = 10_000
    target = x + SHIFT.get(op, 0.0)  # trunc: the flat staircase is x itself
    y = Stochastic(op=op)(torch.full((count,), x, dtype=torch.float64))
    above = target - math.floor(target)
    assert set(y.tolist()) == ({target} if above == 0 else {math.floor(target), math.floor(target) + 1})
    standard_error = math.sqrt(above * (1 - above) / count)
    assert abs(y.mean().item() - target) <= 4.5 * standard_error + 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_stochastic_emits_exact_neighbours_in_low_precision(dtype):
    torch.manual_seed(2)
    x = torch.linspace(-40, 40, 4001).to(dtype).repeat(8)
    y = Stochastic()(x)
    assert y.dtype == dtype
    assert torch.equal(y, y.round())
    assert ((y == x.floor()) | (y == x.floor() + 1)).all()


@every_op
def test_uniform_noise_is_uniform_within_one_half(op):
    torch.manual_seed(3)
    count = 40_000
    x = torch.full((count,), 1.25, dtype=torch.float64)
    noise = (UniformNoise(op=op)(x) - x - SHIFT.get(op, 0.0)).sort().values
    assert noise.abs().max() <= 0.5 + 1e-12
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5
    # Kolmogorov-Smirnov: a true uniform sample exceeds 1.95 / sqrt(n) once in a thousand seeds.
    assert (noise - uniform).abs().max() <= 1.95 / math.sqrt(count)


def test_noise_is_drawn_for_each_element_and_only_in_training():
    x = torch.zeros(1000)
    for rounding in (UniformNoise(), Stochastic()):
        soft = x + 0.5 if isinstance(rounding, Stochastic) else x
        assert rounding(soft).unique().numel() > 1
        assert not torch.equal(rounding(soft), rounding(soft))
        state = torch.get_rng_state()
        assert torch.equal(rounding.eval()(soft), soft.round())
        assert torch.equal(torch.get_rng_state(), state)


# Wrong arguments ------------------------------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf
WRONG = [
    *[(Sigmoid, {"sharpness": value}, "sharpness") for value in (0, -1.0, NAN, INF, "steep")],
    *[(Linear, {"sharpness": value}, "sharpness") for value in (0, -1.0, 1.99, NAN, INF)],
    *[(FiniteDifference, {"epsilon": value}, "epsilon") for value in (0, -0.1, 0.51, NAN, INF, "small")],
    *[(Softmax, {"beta": value}, "beta") for value in (0, -1.0, NAN, INF)],
    *[(Softmax, {"neighbours": value}, "neighbours") for value in (0, 1, 3, -2, 2.5, NAN)],
    *[(Fourier, {"terms": value}, "terms") for value in (0, -1, 1.5, NAN, INF, "many")],
    (Fourier, {"weights": "hann"}, "weights"),
    (CustomGradient, {"surrogate": 3}, "surrogate"),
    (CustomGradient, {"surrogate": Sigmoid(op="floor")}, "surrogate"),
]


@pytest.mark.parametrize(("cls", "arguments", "named"), WRONG, ids=str)
def test_wrong_arguments_are_refused_by_name(cls, arguments, named):
    (value,) = arguments.values()
    shown = value.op if isinstance(value, Rounding) else str(value)
    with pytest.raises(ValueError, match=rf"(?s){named}.*expected.*got.*{shown}"):
        cls(**arguments)


@every_class
def test_wrong_operation_and_dtype_are_refused(cls):
    with pytest.raises(ValueError, match=r"op.*round, floor, ceil, trunc.*nearest"):
        cls(op="nearest")
    for dtype in (torch.int64, torch.complex64):
        for training in (True, False):
            with pytest.raises(ValueError, match=rf"floating-point.*{dtype}"):
                cls().train(training)(torch.ones(3, dtype=dtype))


def test_whole_floats_are_whole_numbers():
    x = torch.tensor([0.2, 0.7])
    assert torch.equal(Fourier(terms=3.0).value(x), Fourier(terms=3).value(x))
    assert torch.equal(Softmax(neighbours=4.0).value(x), Softmax(neighbours=4).value(x))


def test_arguments_are_shown():
    assert "sharpness=3.0" in repr(Sigmoid(3.0))
    assert "op='floor'" in repr(Sigmoid(3.0, op="floor"))


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
