"""Numbers that change during training: annealed sharpness, temperature, share of noise, number of terms.

A schedule is a pure function of the step, so a resumed run continues exactly. A number that follows a schedule is kept
in a zero-dimensional buffer and written in place: a compiled graph reads the new value without being compiled again.
The buffers are not part of the state_dict, since codes do not depend on them. A training checkpoint stores their values
separately.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal, Self, cast, get_args

import torch
from torch import Tensor, nn

from discrete_ae.checks import finite, in_unit_interval, true_or_false

Shape = Literal["constant", "linear", "cosine", "exponential", "switch"]
Unit = Literal["fraction", "steps"]


class Schedule:
    """A number that changes from `first` to `last` between `begin` and `end` of the training.

    >>> schedule = Schedule("linear", first=1, last=5, end=0.5)
    >>> [schedule.at(step, total_steps=1000) for step in (0, 250, 500, 1000)]
    [1.0, 3.0, 5.0, 5.0]

    Args:
        shape: "linear"; "cosine" (half a cosine, flat at both ends); "exponential" (equal factors in equal times);
            "switch" (`first` before `end`, then `last`); or "constant" (`first` throughout).
        first: value up to `begin`.
        last: value from `end` on; None for a constant.
        begin: start of the change.
        end: end of the change.
        unit: unit of `begin` and `end`: "fraction" of the run, in [0, 1], or optimizer "steps".

    Raises:
        ValueError: for an unknown shape or unit, values that are not finite, an exponential through 0, a begin after
            the end, or a begin or end outside its range.
    """

    def __init__(
        self,
        shape: Shape,
        first: float,
        last: float | None = None,
        begin: float = 0.0,
        end: float = 1.0,
        unit: Unit = "fraction",
    ) -> None:
        for name, choice, known in (("shape", shape, get_args(Shape)), ("unit", unit, get_args(Unit))):
            if choice not in known:
                raise ValueError(f"schedule: {name}: expected one of {', '.join(known)}, got {choice!r}")
        last = first if shape == "constant" and last is None else last
        given = {"first": first, "last": last, "begin": begin, "end": end}
        first, last, begin, end = (finite(f"schedule: {name}", cast(float, value)) for name, value in given.items())
        if shape == "constant" and last != first:
            raise ValueError(f"schedule: last: expected none for a constant, got {last!r}; choose another shape")
        if shape == "exponential" and not first * last > 0:
            raise ValueError(f"schedule: expected first and last above 0, or both below 0, got {first} and {last}")
        if not 0 <= begin <= end or (unit == "fraction" and end > 1):
            upper = " <= 1 (fractions of the run)" if unit == "fraction" else " (steps)"
            raise ValueError(f"schedule: expected 0 <= begin <= end{upper}, got begin {begin} and end {end}")
        self.shape, self.first, self.last = shape, first, last
        self.begin, self.end, self.unit = begin, end, unit

    def at(self, step: int, total_steps: int) -> float:
        """Return the value after `step` optimizer steps of a run of `total_steps`.

        Raises:
            ValueError: for a schedule by fraction in a run without an end (total_steps below 1).
        """
        if self.shape == "constant":
            return self.first
        if self.unit == "steps":
            place = float(step)
        elif total_steps >= 1:
            place = step / total_steps
        else:
            raise ValueError("schedule: unit=fraction needs a run with an end; set trainer.max_steps, or unit=steps")
        if place >= self.end:
            return self.last
        if place <= self.begin or self.shape == "switch":
            return self.first
        share = (place - self.begin) / (self.end - self.begin)
        if self.shape == "exponential":
            return self.first * (self.last / self.first) ** share
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.first + (self.last - self.first) * share

    def __repr__(self) -> str:
        return f"{self.shape}({self.first:g} -> {self.last:g})"


class Scheduled(nn.Module):
    """Base class of modules with numbers that may follow a schedule.

    A cast (`half`, `bfloat16`, `double`, `to` of a dtype) does not change the dtype of parameters and buffers, here or
    in modules below. Roundings and quantizers compute in float32 for any input dtype; a schedule, a table or a codebook
    in half precision would give other codes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.schedules: dict[str, Schedule] = {}

    def set_number(self, name: str, value: float | Schedule, check: Callable[[str, float], float]) -> None:
        """Set the attribute `name` to a number, or to a buffer that follows a schedule.

        Args:
            name: name of the attribute, and of the argument in error messages.
            value: a number, or a schedule whose first and last value both pass `check`.
            check: function of (name, number) that returns the number or raises a ValueError.
        """
        if isinstance(value, Schedule):
            check(name, value.last)
            self.register_buffer(name, torch.tensor(check(name, value.first), dtype=torch.float32), persistent=False)
            self.schedules[name] = value
        else:
            setattr(self, name, check(name, value))

    def set_flag(self, name: str, value: bool | Schedule) -> None:
        """Set the attribute `name` to a flag, or to a buffer that follows a schedule; values of at least 1/2 are on."""
        if isinstance(value, Schedule):
            self.set_number(name, value, in_unit_interval)
        else:
            setattr(self, name, true_or_false(name, value))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def keeping_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keeping_dtype, recurse)

    def write_number(self, name: str, value: float) -> float:
        """Write the current value of a scheduled number and return it; a subclass may update dependent tensors."""
        getattr(self, name).fill_(value)
        return value


def scheduled_numbers(module: nn.Module) -> dict[str, float]:
    """Return the current value of every scheduled number in `module` and below, by its dotted name."""
    return {name: float(getattr(part, number)) for name, part, number in _numbers(module)}


def write_scheduled_numbers(module: nn.Module, values: Mapping[str, float]) -> None:
    """Write values as returned by `scheduled_numbers`; ignore names that the module does not have.

    Raises:
        ValueError: for a value outside the range of its schedule.
    """
    for name, part, number in _numbers(module):
        if name in values:
            value, ends = values[name], sorted((part.schedules[number].first, part.schedules[number].last))
            slack = 1e-6 * max(map(abs, ends))  # the buffer holds float32
            if not isinstance(value, int | float) or not ends[0] - slack <= value <= ends[1] + slack:
                raise ValueError(f"{name}: expected a number from {ends[0]:g} to {ends[1]:g}, got {str(value)[:20]}")
            part.write_number(number, value)


def follow_schedules(module: nn.Module, step: int, total_steps: int) -> dict[str, float]:
    """Write the value at this step of every schedule in `module` and below; return the values by dotted name.

    Raises:
        ValueError: for a schedule by fraction in a run without an end.
    """
    return {
        name: part.write_number(number, part.schedules[number].at(step, total_steps))
        for name, part, number in _numbers(module)
    }


def _numbers(module: nn.Module) -> list[tuple[str, Scheduled, str]]:
    return [
        (f"{path}.{number}" if path else number, part, number)
        for path, part in module.named_modules()
        if isinstance(part, Scheduled)
        for number in part.schedules
    ]
