"""Numbers that follow the course of training: annealed sharpness, temperature, share of noise, number of terms.

A schedule is a pure function of the step, so a resumed run goes on exactly. A number that follows one is held in a
zero-dimensional buffer that is written in place: a compiled graph reads its new value and is not compiled again. The
buffers stand outside the state_dict, since no code depends on them; a training checkpoint names their values beside it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from torch import nn

from discrete_ae.checks import in_unit_interval

Shape = Literal["constant", "linear", "cosine", "exponential", "switch"]
Unit = Literal["fraction", "steps"]


class Schedule:
    """A number that goes from `first` to `last` while training goes from `begin` to `end`, and stays there.

    >>> schedule = Schedule("linear", first=1, last=5, end=0.5)
    >>> [schedule.at(step, total_steps=1000) for step in (0, 250, 500, 1000)]
    [1.0, 3.0, 5.0, 5.0]

    Args:
        shape: "linear"; "cosine" (half a cosine, flat at both ends); "exponential" (equal factors in equal times);
            "switch" (`first` before `end`, then `last`); or "constant" (`first` throughout).
        first: value up to `begin`.
        last: value from `end` on; None where the shape is "constant".
        begin: where the change begins.
        end: where it has ended.
        unit: of `begin` and `end`: "fraction" of the run, in [0, 1], or optimizer "steps".

    Raises:
        ValueError: for an unknown shape or unit, values that are not finite, an exponential through 0, or a begin and
            an end out of order or range.
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
        for name, value in (("first", first), ("last", last), ("begin", begin), ("end", end)):
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"schedule: {name}: expected a finite number, got {value!r}")
        assert last is not None
        if shape == "constant" and last != first:
            raise ValueError(f"schedule: last: expected none for a constant, got {last!r}; choose another shape")
        if shape == "exponential" and not first * last > 0:
            raise ValueError(f"schedule: expected first and last of one sign and not 0, got {first} and {last}")
        if not 0 <= begin <= end or (unit == "fraction" and end > 1):
            upper = " <= 1 (fractions of the run)" if unit == "fraction" else " (steps)"
            raise ValueError(f"schedule: expected 0 <= begin <= end{upper}, got begin {begin} and end {end}")
        self.shape, self.first, self.last = shape, float(first), float(last)
        self.begin, self.end, self.unit = float(begin), float(end), unit

    def at(self, step: int, total_steps: int) -> float:
        """The value after `step` optimizer steps of a run of `total_steps`.

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
            raise ValueError("schedule: a fraction of the run needs an end; set trainer.max_steps, or unit=steps")
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
    """A module of which some numbers may follow a schedule."""

    def __init__(self) -> None:
        super().__init__()
        self.schedules: dict[str, Schedule] = {}

    def set_number(self, name: str, value: float | Schedule, check: Callable[[str, float], float]) -> None:
        """Keep a number as the attribute `name`: as it is, or as a buffer that follows a schedule.

        Args:
            name: of the attribute and of the argument that it came from.
            value: a number, or a schedule whose first and last value are both numbers that `check` lets pass.
            check: (name, number) to the number, or ValueError.
        """
        if isinstance(value, Schedule):
            check(name, value.last)
            self.register_buffer(name, torch.tensor(check(name, value.first), dtype=torch.float32), persistent=False)
            self.schedules[name] = value
        else:
            setattr(self, name, check(name, value))

    def set_flag(self, name: str, value: bool | Schedule) -> None:
        """Keep a flag as the attribute `name`; one that follows a schedule is on while its number is at least 1/2."""
        if isinstance(value, Schedule):
            self.set_number(name, value, in_unit_interval)
        elif isinstance(value, bool):
            setattr(self, name, value)
        else:
            raise ValueError(f"{name}: expected true, false or a schedule from 0 to 1, got {value!r}")

    def write_number(self, name: str, value: float) -> float:
        """Write the present value of a scheduled number and return it; a subclass adds what follows from it."""
        getattr(self, name).fill_(value)
        return value


def scheduled_numbers(module: nn.Module) -> dict[str, float]:
    """The present value of every scheduled number below `module`, by its dotted name."""
    return {name: float(getattr(part, number)) for name, part, number in _numbers(module)}


def write_scheduled_numbers(module: nn.Module, values: Mapping[str, float]) -> None:
    """Write values that `scheduled_numbers` gave; names that the module does not have are left out.

    Raises:
        ValueError: for a value that its schedule does not go through.
    """
    for name, part, number in _numbers(module):
        if name in values:
            value, ends = values[name], sorted((part.schedules[number].first, part.schedules[number].last))
            slack = 1e-6 * max(map(abs, ends))  # the buffer holds float32
            if not isinstance(value, int | float) or not ends[0] - slack <= value <= ends[1] + slack:
                raise ValueError(f"{name}: expected a number from {ends[0]:g} to {ends[1]:g}, got {str(value)[:20]}")
            part.write_number(number, value)


def follow_schedules(module: nn.Module, step: int, total_steps: int) -> dict[str, float]:
    """Write what every schedule below `module` says for this step; returns the values by dotted name.

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
