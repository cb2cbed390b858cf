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

from discrete_ae.checks import positive
from discrete_ae.quantizers import GumbelSoftmaxQuantizer, ScalarQuantizer
from discrete_ae.rounding import (
    EXAMPLES,
    CustomGradient,
    Fourier,
    Rounding,
    Sigmoid,
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

# torch's own: how dynamo makes the context of an autograd function.
pytestmark = pytest.mark.filterwarnings(
    "ignore:<class 'torch.autograd.function.Function'> should not be instantiated:DeprecationWarning"
)

NAN, INF = math.nan, math.inf
HARDENING = Schedule("switch", 0, 1, end=0.5)


class Example(NamedTuple):
    """A rounding with one scheduled number."""

    number: str
    build: Callable[[Any], Rounding]
    """Function that builds the rounding from a number or a schedule."""
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
    """Value and gradient with the same noise at each call."""
    torch.default_generator.manual_seed(0)
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
    for step in range(0, 401, 10):
        place = step if unit == "steps" else step / 400
        share = min(max((place - begin) / (end - begin), 0), 1)
        assert schedule.at(step, 400) == pytest.approx(FORMULAS[shape](first, last, share), rel=1e-12)
        if share in (0, 1):  # not one float beside it
            assert schedule.at(step, 400) == (last if share else first)


def test_by_hand():
    assert Schedule("exponential", -1, -16).at(50, 100) == pytest.approx(-4, rel=1e-15)
    at_once = Schedule("linear", 3, 5, begin=10, end=10, unit="steps")
    assert (at_once.at(9, 0), at_once.at(10, -1)) == (3, 5)  # steps need no end of the run, and fractions do
    assert Schedule("linear", 3, 5).at(1000, 100) == 5  # past the end of the run
    for total in (0, -1):
        with pytest.raises(ValueError, match=r"needs a run with an end; set trainer.max_steps, or unit=steps"):
            Schedule("linear", 0, 1).at(5, total)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        *[({"shape": shape}, "shape: expected one of constant, linear, cosine") for shape in ("step", None)],
        *[({"unit": unit}, "unit: expected one of fraction, steps") for unit in ("epochs", None)],
        *[({name: "one"}, f"{name}: expected a finite") for name in ("first", "last", "begin", "end")],
        *[({"last": v}, "last: expected a finite") for v in (NAN, INF, None)],
        ({"shape": "constant"}, "last: expected none for a constant"),
        *[({"shape": "exponential", "first": v}, "first and last above 0, or both below 0") for v in (0, -1.0)],
        *[({"begin": b, "end": e}, "0 <= begin <= end <= 1") for b, e in ((-0.1, 1), (0.6, 0.5), (0, 1.1))],
        *[({"begin": b, "end": e, "unit": "steps"}, r"0 <= begin <= end \(steps\)") for b, e in ((-1, 5), (6, 5))],
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_by_name(changed, named):
    with pytest.raises(ValueError, match=f"^schedule: (expected )?{named}|^schedule: expected .*{named}"):
        Schedule(**{"shape": "linear", "first": 1.0, "last": 2.0} | changed)


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
    clone, buffer = copy.deepcopy(module), module[0].rate
    assert scheduled_numbers(module) == {"0.rate": 1, "2.0.flag": 0}
    assert follow_schedules(module, 50, 100) == scheduled_numbers(module) == {"0.rate": 2, "2.0.flag": 1}
    assert follow_schedules(module[0], 100, 100) == {"rate": 3}
    # What follows no schedule is a plain attribute; the others are buffers outside the state_dict, written in place.
    assert (module[2][0].rate, module[3].rate, module[3].flag) == (0.5, 2.0, True)
    assert [name for name, _ in module.named_buffers()] == ["0.rate", "2.0.flag"]
    assert module.state_dict() == {}
    assert module[0].rate is buffer
    assert scheduled_numbers(clone)["0.rate"] == 1
    assert follow_schedules(clone, 50, 100)["0.rate"] == 2
    assert scheduled_numbers(module)["0.rate"] == 3


def test_stored_values_come_back_and_others_are_refused():
    module, other = some_parts(), some_parts()
    follow_schedules(module, 37, 100)
    values = scheduled_numbers(module)
    write_scheduled_numbers(other, {**values, "of.another.model": 7.0})
    write_scheduled_numbers(other, {})
    for value in (0.5, 3.5, 1e12, NAN, INF, "2", None, [2.0]):  # 0.rate goes from 1 to 3
        with pytest.raises(ValueError, match=r"0\.rate: expected a number from 1 to 3, got"):
            write_scheduled_numbers(other, {"0.rate": value})
    assert scheduled_numbers(other) == values


def test_both_ends_of_a_schedule_are_checked():
    assert_refused(
        lambda **given: Part(**{"rate": 1.0} | given),
        {
            "rate": (Schedule("linear", 0, 1), Schedule("linear", 1, -1)),
            "flag": (Schedule("linear", 0, 2), "yes", None, 1),
        },
    )
    assert_refused(Fourier, {"terms": [Schedule("linear", 1, 2.5), Schedule("linear", 0, 5)]})
    assert_refused(gumbel, {"temperature": [Schedule("linear", 1, 0)], "hard": ["yes"]})


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
        # A number is rounded to float32, a relative change of 6e-8 in k f and so in the slope's exponent; terms are
        # those of the same table, refilled.
        tolerance = 0 if number == "terms" else 1e-5
        found, expected = value_and_gradient(scheduled, x), value_and_gradient(fixed, x)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        assert {tensor.dtype for tensor in value_and_gradient(scheduled, x.to(dtype))} == {dtype}
    assert torch.equal(scheduled.eval()(x), scheduled.exact(x))
    assert scheduled.state_dict() == {}


@pytest.mark.parametrize("cls", FAMILY.values(), ids=FAMILY)
def test_soft_before_the_switch_and_hard_after(cls):
    rounding, x = cls(hard=HARDENING), torch.linspace(-2.3, 2.4, 48)
    for step, fixed in ((49, cls(hard=False)), (50, cls(hard=True))):
        follow_schedules(rounding, step, 100)
        for found, expected in zip(value_and_gradient(rounding, x), value_and_gradient(fixed, x), strict=True):
            assert torch.equal(found, expected)


CASTS = {
    "half": nn.Module.half,
    "bfloat16": nn.Module.bfloat16,
    "double": nn.Module.double,
    "to": lambda module: module.to(torch.bfloat16),
    "in a model": lambda module: nn.Sequential(module, nn.Linear(1, 1)).half()[0],
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
@every_scheduled
def test_a_cast_changes_no_number_and_no_table_of_a_rounding(name, cast):
    _, build, schedule = SCHEDULED[name]
    x = torch.linspace(-2.97, 3.03, 401)
    for given in (schedule, schedule.last):
        kept, rounding = build(given), cast(build(given))
        for step in (0, 1, 2):  # a third of the way is no number of half precision
            assert follow_schedules(rounding, step, 3) == follow_schedules(kept, step, 3)
            assert scheduled_numbers(rounding) == scheduled_numbers(kept)
            assert all(map(torch.equal, value_and_gradient(rounding, x), value_and_gradient(kept, x)))
            assert value_and_gradient(rounding, x.half())[0].dtype == torch.float16


def test_a_module_still_moves_and_loses_its_memory():
    for rounding in (Fourier(5), Sigmoid(Schedule("linear", 1, 3))):
        moved = copy.deepcopy(rounding).to("meta", torch.float16)
        assert {(b.device.type, b.dtype) for b in moved.buffers()} == {("meta", torch.float32)}
        assert {b.device.type for b in moved.to_empty(device="cpu").buffers()} == {"cpu"}


def test_gumbel_temperature_and_hardness_follow():
    scheduled = gumbel(temperature=Schedule("exponential", 2, 0.5), hard=HARDENING)
    x = torch.randn(2, 6, 20, generator=torch.Generator().manual_seed(0))
    # 2, 1 and 1/2 at begin, middle and end are exact in float32.
    for step, temperature, hard in ((0, 2.0, False), (50, 1.0, True), (100, 0.5, True)):
        assert follow_schedules(scheduled, step, 100) == {"temperature": temperature, "hard": hard}
        fixed = gumbel(temperature=temperature, hard=hard)
        found, expected = (value_and_gradient(lambda x, of=of: of(x).latents, x) for of in (scheduled, fixed))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert set(scheduled.state_dict()) == {"codebooks", "log_precision"}


# Compiled -------------------------------------------------------------------------------------------------------------


class Counting:
    """A backend that runs the graph as it is and counts the compilations."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph, inputs):
        self.count += 1
        return graph.forward


def quantizer(rounding: Rounding) -> ScalarQuantizer:
    return ScalarQuantizer([4, 5], 2, rounding)


COMPILED = {
    **{name: lambda given=given: given.build(given.schedule) for name, given in SCHEDULED.items()},
    **{f"hard-{name}": lambda cls=cls: cls(hard=HARDENING) for name, cls in FAMILY.items()},
    "quantizer-sigmoid": lambda: quantizer(Sigmoid(Schedule("linear", 1, 12), hard=HARDENING)),
    "quantizer-noise": lambda: quantizer(UniformNoise(Schedule("linear", 0, 1))),
}


@pytest.mark.parametrize("name", COMPILED)
def test_ten_steps_are_compiled_once(name):
    torch.compiler.reset()
    module = COMPILED[name]()
    plain, backend = copy.deepcopy(module), Counting()
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    x = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0)) * 2
    outputs = []
    for step in (0, 1, 4, 6, 10):
        results = []
        for part, function in ((module, compiled), (plain, plain)):
            follow_schedules(part, step, 10)
            latents = (lambda x, f=function: f(x).latents) if name.startswith("quantizer") else function
            results.append(value_and_gradient(latents, x))
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
        outputs.append(torch.stack(results[0]))
    assert backend.count == 1
    assert not torch.equal(outputs[0], outputs[-1])


def test_codes_and_losses_of_a_compiled_quantizer():
    torch.compiler.reset()
    plain = quantizer(Sigmoid(4.0))
    x = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(plain, backend=Counting(), fullgraph=True)
    for training in (True, False):
        plain.train(training)
        torch.testing.assert_close(tuple(compiled(x)), tuple(plain(x)), rtol=1e-5, atol=1e-5)
        assert set(plain(x).losses) == ({"code_entropy"} if training else set())
