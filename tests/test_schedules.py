"""Schedules against their formulas, and modules whose numbers follow them: written, stored, compiled once."""

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discrete_ae.checks import in_unit_interval, positive
from discrete_ae.quantizers import GumbelSoftmaxQuantizer, ScalarQuantizer
from discrete_ae.rounding import (
    EXAMPLES,
    CustomGradient,
    FiniteDifference,
    Fourier,
    Linear,
    Rounding,
    Sigmoid,
    Softmax,
    Stochastic,
    UniformNoise,
)
from discrete_ae.schedules import (
    Schedule,
    Scheduled,
    follow_schedules,
    scheduled_numbers,
    write_scheduled_numbers,
)
from tests.refusals import assert_refused

NAN, INF = math.nan, math.inf
HARDENING = Schedule("switch", 0, 1, end=0.5)


class Example(NamedTuple):
    """A rounding of which one number follows a schedule."""

    number: str
    build: Callable[[Any], Rounding]
    """Of the number, or of a schedule for it."""
    schedule: Schedule


def examples() -> Iterator[tuple[str, Example]]:
    """Every number of every example that may follow a schedule, by what the signature says."""
    for cls, arguments in EXAMPLES:
        for number, parameter in inspect.signature(cls).parameters.items():
            if "Schedule" in str(parameter.annotation) and number in arguments:
                last = arguments[number]
                first = last // 2 or last / 2  # a whole number where it is one
                build = lambda value, cls=cls, changed=arguments, number=number: cls(**changed | {number: value})  # noqa: E731
                others = [str(value) for name, value in arguments.items() if name != number]
                yield "-".join([cls.__name__, number, *others]), Example(number, build, Schedule("linear", first, last))
    exponential, cosine = Schedule("exponential", 1e-8, 50), Schedule("cosine", 1, 9)
    yield "from almost 0", Example("sharpness", lambda k: Sigmoid(k, normalized=True), exponential)
    yield "trunc", Example("sharpness", lambda k: Sigmoid(k, op="trunc"), cosine)
    yield "surrogate", Example("surrogate.sharpness", lambda k: CustomGradient(Sigmoid(k), hard=False), cosine)


SCHEDULED = dict(examples())
FAMILY = {cls.__name__: cls for cls, _ in EXAMPLES}
every_scheduled = pytest.mark.parametrize("name", SCHEDULED)


def value_and_gradient(rounding: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().clone().requires_grad_()
    y = rounding(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


def gumbel(**arguments) -> GumbelSoftmaxQuantizer:
    torch.default_generator.manual_seed(0)
    return GumbelSoftmaxQuantizer(8, 2, 3, **arguments)


# Shapes ---------------------------------------------------------------------------------------------------------------

FORMULAS = {
    "constant": lambda first, last, share: first,
    "linear": lambda first, last, share: first + (last - first) * share,
    "cosine": lambda first, last, share: (first + last) / 2 + (first - last) / 2 * np.cos(np.pi * share),
    "exponential": lambda first, last, share: np.exp(np.log(first) * (1 - share) + np.log(last) * share),
    "switch": lambda first, last, share: last if share >= 1 else first,
}


@pytest.mark.parametrize(("unit", "begin", "end"), [("steps", 40, 240), ("fraction", 0.1, 0.6), ("fraction", 0, 1)])
@pytest.mark.parametrize("shape", FORMULAS)
def test_every_shape_is_its_formula(shape, unit, begin, end):
    first, last = 0.3, 0.3 if shape == "constant" else 0.1
    schedule = Schedule(shape, first, last, begin, end, unit)
    total = 400
    for step in range(0, total + 1, 10):
        place = step if unit == "steps" else step / total
        share = min(max((place - begin) / (end - begin), 0), 1)
        assert schedule.at(step, total) == pytest.approx(FORMULAS[shape](first, last, share), rel=1e-12)
        if share == 0:
            assert schedule.at(step, total) == first  # not one float beside it
        if share == 1:
            assert schedule.at(step, total) == last


def test_by_hand():
    # Half of the way from 1 to 16: 8.5; the root of 16; half a cosine is 1/2 there, and (1 - sqrt(1/2))/2 at a quarter.
    assert Schedule("linear", 1, 16).at(50, 100) == 8.5
    assert Schedule("exponential", 1, 16).at(50, 100) == pytest.approx(4, rel=1e-15)
    assert Schedule("exponential", -1, -16).at(50, 100) == pytest.approx(-4, rel=1e-15)
    assert Schedule("cosine", 0, 1).at(50, 100) == pytest.approx(0.5, abs=1e-15)
    assert Schedule("cosine", 0, 1).at(25, 100) == pytest.approx((1 - math.sqrt(0.5)) / 2, rel=1e-12)
    assert Schedule("switch", 0, 1, end=0.5).at(49, 100) == 0
    assert Schedule("switch", 0, 1, end=0.5).at(50, 100) == 1
    assert Schedule("linear", 3, 5, begin=10, end=10, unit="steps").at(9, 0) == 3
    assert Schedule("linear", 3, 5, begin=10, end=10, unit="steps").at(10, 0) == 5
    assert Schedule("linear", 3, 5).at(1000, 100) == 5  # past the end of the run


def test_steps_need_no_end_and_fractions_do():
    assert Schedule("linear", 0, 1, end=10, unit="steps").at(5, -1) == 0.5
    for total in (0, -1):
        with pytest.raises(ValueError, match=r"needs an end; set trainer.max_steps, or unit=steps"):
            Schedule("linear", 0, 1).at(5, total)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        *[({"shape": shape}, "shape: expected one of constant, linear, cosine") for shape in ("step", "", None, 3)],
        *[({"unit": unit}, "unit: expected one of fraction, steps") for unit in ("step", "epochs", None)],
        *[({name: v}, f"{name}: expected a finite") for name in ("first", "last") for v in (NAN, INF, "one", None)],
        *[({name: v}, f"{name}: expected a finite") for name in ("begin", "end") for v in (NAN, INF, "one", None)],
        *[({"shape": "constant", "first": 1.0, "last": 2.0}, "last: expected none for a constant")],
        *[({"shape": "exponential", "first": v}, "one sign and not 0") for v in (0, -1.0)],
        *[({"begin": b, "end": e}, "0 <= begin <= end <= 1") for b, e in ((-0.1, 1), (0.6, 0.5), (0, 1.1))],
        *[({"begin": b, "end": e, "unit": "steps"}, r"0 <= begin <= end \(steps\)") for b, e in ((-1, 5), (6, 5))],
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_by_name(changed, named):
    arguments = {"shape": "linear", "first": 1.0, "last": 2.0} | changed
    with pytest.raises(ValueError, match=f"^schedule: (expected )?{named}|^schedule: expected .*{named}"):
        Schedule(**arguments)


# Modules --------------------------------------------------------------------------------------------------------------


class Part(Scheduled):
    def __init__(self, rate, flag=False):
        super().__init__()
        self.set_number("rate", rate, positive)
        self.set_flag("flag", flag)


def some_parts() -> nn.Sequential:
    flag = Schedule("switch", 0, 1, end=0.25)
    return nn.Sequential(Part(Schedule("linear", 1, 3)), nn.Identity(), nn.Sequential(Part(0.5, flag)), Part(2.0, True))


def test_numbers_follow_and_are_named_by_their_place():
    module = some_parts()
    assert scheduled_numbers(module) == {"0.rate": 1, "2.0.flag": 0}
    assert follow_schedules(module, 50, 100) == {"0.rate": 2, "2.0.flag": 1}
    assert scheduled_numbers(module) == {"0.rate": 2, "2.0.flag": 1}
    assert follow_schedules(module[0], 100, 100) == {"rate": 3}
    # What follows no schedule is a plain attribute.
    assert (module[2][0].rate, module[3].rate, module[3].flag) == (0.5, 2.0, True)


def test_stored_values_that_the_schedule_does_not_go_through_are_refused():
    module = some_parts()  # whose 0.rate goes from 1 to 3
    for value in (0.5, 3.5, 1e12, NAN, INF, "2", None, [2.0]):
        with pytest.raises(ValueError, match=r"0\.rate: expected a number from 1 to 3, got"):
            write_scheduled_numbers(module, {"0.rate": value})
    assert scheduled_numbers(module)["0.rate"] == 1


def test_stored_values_come_back():
    module, other = some_parts(), some_parts()
    follow_schedules(module, 37, 100)
    values = scheduled_numbers(module)
    write_scheduled_numbers(other, {**values, "of.another.model": 7.0})
    assert scheduled_numbers(other) == values
    write_scheduled_numbers(other, {})
    assert scheduled_numbers(other) == values


def test_the_numbers_are_buffers_outside_the_state_dict_written_in_place_and_copied():
    module = some_parts()
    clone = copy.deepcopy(module)
    assert module.state_dict() == {}
    before = module[0].rate
    assert [name for name, _ in module.named_buffers()] == ["0.rate", "2.0.flag"]
    follow_schedules(module, 100, 100)
    assert module[0].rate is before
    assert before.shape == ()
    assert scheduled_numbers(clone)["0.rate"] == 1
    assert follow_schedules(clone, 50, 100)["0.rate"] == 2
    assert scheduled_numbers(module)["0.rate"] == 3


def test_both_ends_of_a_schedule_are_checked():
    for wrong in (Schedule("linear", 0, 1), Schedule("linear", 1, -1)):
        with pytest.raises(ValueError, match=r"^rate: expected a finite number above 0, got"):
            Part(wrong)
    for wrong in (Schedule("linear", 0, 2), "yes", None, 1):
        with pytest.raises(ValueError, match=r"^flag: expected .*got"):
            Part(1.0, wrong)
    Scheduled().set_number("share", Schedule("linear", 0, 1), in_unit_interval)


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (Sigmoid, {"sharpness": [Schedule("linear", 4, 0)], "hard": ["yes", None, 1]}),
        (Linear, {"sharpness": [Schedule("linear", 1, 4)]}),
        (FiniteDifference, {"epsilon": [Schedule("linear", 0.5, 0.6)]}),
        (Softmax, {"beta": [Schedule("linear", -1, 1)]}),
        (Fourier, {"terms": [Schedule("linear", 1, 2.5), Schedule("linear", 0, 5)]}),
        (UniformNoise, {"share": [-0.1, 1.1, NAN, "some"]}),
        (Stochastic, {"share": [-0.1, 1.1, NAN, "some", Schedule("linear", 0, 1.5)]}),
        (gumbel, {"temperature": [Schedule("linear", 1, 0)], "hard": ["yes"]}),
    ],
)
def test_roundings_and_quantizers_check_their_schedules_by_name(cls, wrong):
    assert_refused(cls, wrong)


# Roundings ------------------------------------------------------------------------------------------------------------


@every_scheduled
def test_a_scheduled_rounding_is_the_one_of_the_present_value(name):
    number, build, schedule = SCHEDULED[name]
    scheduled = build(schedule)
    x = torch.linspace(-2.97, 3.03, 401)
    for step in (0, 3, 5, 10, 4):  # backwards too: a resumed run
        assert list(follow_schedules(scheduled, step, 10)) == [number]
        value = schedule.at(step, 10)
        fixed = build(round(value) if number == "terms" else value)
        torch.default_generator.manual_seed(step)
        ours = value_and_gradient(scheduled, x)
        torch.default_generator.manual_seed(step)
        for found, expected in zip(ours, value_and_gradient(fixed, x), strict=True):
            if number == "terms":
                assert torch.equal(found, expected)  # the same table, refilled
            else:
                # The number is rounded to float32, a relative change of 6e-8 in k f and so in the slope's exponent.
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        assert {tensor.dtype for tensor in value_and_gradient(scheduled, x.to(dtype))} == {dtype}
    assert torch.equal(scheduled.eval()(x), scheduled.exact(x))
    assert scheduled.state_dict() == {}


@pytest.mark.parametrize("cls", FAMILY.values(), ids=FAMILY)
def test_soft_before_the_switch_and_hard_after(cls):
    rounding = cls(hard=HARDENING)
    x = torch.linspace(-2.3, 2.4, 48)
    for step, fixed in ((49, cls(hard=False)), (50, cls(hard=True))):
        follow_schedules(rounding, step, 100)
        torch.default_generator.manual_seed(0)
        ours = value_and_gradient(rounding, x)
        torch.default_generator.manual_seed(0)
        for found, expected in zip(ours, value_and_gradient(fixed, x), strict=True):
            assert torch.equal(found, expected)


def test_noise_of_a_share():
    noise, count = UniformNoise(Schedule("linear", 0, 1)), 100_000
    x = torch.full((count,), 0.3, dtype=torch.float64)
    assert torch.equal(noise(x), x)  # share 0: the identity
    for step, share in ((5, 0.5), (10, 1.0)):
        follow_schedules(noise, step, 10)
        torch.default_generator.manual_seed(0)
        added = noise(x) - x
        assert added.abs().max() <= share / 2
        # Variance share^2 / 12 of a uniform variable of that width; its own relative standard error is
        # sqrt((9/5 - 1) / count), by the kurtosis 9/5.
        assert added.var().item() == pytest.approx(share**2 / 12, rel=4.5 * math.sqrt(0.8 / count))
        assert added.mean().item() == pytest.approx(0, abs=4.5 * share / math.sqrt(12 * count))


def test_stochastic_rounding_of_a_share():
    stochastic, count = Stochastic(Schedule("linear", 0, 1)), 40_000
    x = torch.linspace(-3.03, 2.99, 302)
    assert torch.equal(stochastic(x), x.round())  # share 0
    for share, steps in ((0.5, 5), (1.0, 10)):
        follow_schedules(stochastic, steps, 10)
        for fraction in (0.1, 0.3, 0.6):
            torch.default_generator.manual_seed(0)
            # round(x + share u) is 1 where u > (1/2 - x) / share, of U(-1/2, 1/2).
            above = min(max(0.5 - (0.5 - fraction) / share, 0), 1)
            mean = stochastic(torch.full((count,), fraction)).mean().item()
            assert mean == pytest.approx(above, abs=4.5 * math.sqrt(above * (1 - above) / count) + 1e-9)


# Quantizers -----------------------------------------------------------------------------------------------------------


def seeded(module: nn.Module, x: Tensor) -> Tensor:
    torch.default_generator.manual_seed(1)
    return module(x).latents


def test_gumbel_temperature_and_hardness_follow():
    scheduled = gumbel(temperature=Schedule("exponential", 2, 0.5), hard=HARDENING)
    x = torch.randn(2, 6, 20, generator=torch.Generator().manual_seed(0))
    # 2, 1 and 1/2 at begin, middle and end are exact in float32.
    for step, temperature, hard in ((0, 2.0, False), (50, 1.0, True), (100, 0.5, True)):
        assert follow_schedules(scheduled, step, 100) == {"temperature": temperature, "hard": hard}
        fixed = gumbel(temperature=temperature, hard=hard)
        torch.testing.assert_close(seeded(scheduled, x), seeded(fixed, x), rtol=1e-5, atol=1e-6)
        assert torch.equal(scheduled.encode(x), fixed.encode(x))
    assert set(scheduled.state_dict()) == {"codebooks", "log_precision"}


def test_a_schedule_is_found_below_a_quantizer():
    quantizer = ScalarQuantizer([4, 5], 2, Sigmoid(Schedule("linear", 2, 10)))
    assert follow_schedules(quantizer, 1, 4) == {"rounding.sharpness": 4}
    latents = torch.randn(2, 4, 20, generator=torch.Generator().manual_seed(0))
    fixed = ScalarQuantizer([4, 5], 2, Sigmoid(4.0))
    torch.testing.assert_close(quantizer(latents).latents, fixed(latents).latents, rtol=1e-6, atol=1e-6)


# Compiled -------------------------------------------------------------------------------------------------------------

# torch's own: how dynamo makes the context of an autograd function.
dynamo_warns = pytest.mark.filterwarnings(
    "ignore:<class 'torch.autograd.function.Function'> should not be instantiated:DeprecationWarning"
)


class Counting:
    """A backend that runs the graph as it is and counts the compilations."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph, inputs):
        self.count += 1
        return graph.forward


class Latents(nn.Module):
    """The latents of a quantizer, for the decoder."""

    def __init__(self, rounding: Rounding) -> None:
        super().__init__()
        self.quantizer = ScalarQuantizer([4, 5], 2, rounding)

    def forward(self, x: Tensor) -> Tensor:
        return self.quantizer(x).latents


COMPILED = {
    **{name: lambda given=given: given.build(given.schedule) for name, given in SCHEDULED.items()},
    **{f"hard-{name}": lambda cls=cls: cls(hard=HARDENING) for name, cls in FAMILY.items()},
    "quantizer-sigmoid": lambda: Latents(Sigmoid(Schedule("linear", 1, 12), hard=HARDENING)),
    "quantizer-fourier": lambda: Latents(Fourier(Schedule("linear", 1, 20))),
    "quantizer-noise": lambda: Latents(UniformNoise(Schedule("linear", 0, 1))),
}


@dynamo_warns
@pytest.mark.parametrize("name", COMPILED)
def test_ten_steps_are_compiled_once(name):
    torch.compiler.reset()
    module = COMPILED[name]()
    plain, backend = copy.deepcopy(module), Counting()
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    x = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0)) * 2
    outputs = []
    for step in range(11):
        for part in (module, plain):
            follow_schedules(part, step, 10)
        torch.default_generator.manual_seed(step)
        ours = value_and_gradient(compiled, x)
        torch.default_generator.manual_seed(step)
        for tensor, expected in zip(ours, value_and_gradient(plain, x), strict=True):
            # A compiled float32 sine is a polynomial: 1e-4 of the peak, N + 1 or 2 N + 1.
            torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=5e-3 if "fourier" in name else 1e-5)
        outputs.append(torch.stack(ours))
    assert backend.count == 1
    assert not torch.equal(outputs[0], outputs[-1])


@dynamo_warns
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_quantizer_itself_is_compiled_as_a_whole(training):
    torch.compiler.reset()
    quantizer = ScalarQuantizer([4, 5], 2, Sigmoid(Schedule("linear", 1, 12))).train(training)
    x = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0))
    expected = quantizer(x)
    out = torch.compile(quantizer, backend=Counting(), fullgraph=True)(x)
    assert torch.equal(out.codes, expected.codes)
    torch.testing.assert_close(out.latents, expected.latents, rtol=1e-5, atol=1e-5)
    assert set(out.losses) == ({"code_entropy"} if quantizer.training else set())
