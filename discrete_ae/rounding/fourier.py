"""Rounding as a truncated Fourier series of N terms, at a cost that does not grow with N."""

import math
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from discrete_ae.checks import whole_number
from discrete_ae.rounding.base import Op, Rounding, boundary_distance
from discrete_ae.schedules import Schedule

FourierWeights = Literal["dirichlet", "fejer", "lanczos"]


def _sin_pi(x: Tensor) -> Tensor:
    """Return sin(pi x); in float32 by a polynomial, which takes a third of the time of torch.sin."""
    if x.dtype == torch.float64:
        return torch.sin(math.pi * x)
    half_turns = torch.round(x)
    r = x - half_turns
    # Taylor series in r up to power 9; the first omitted term is below (pi / 2)^11 / 11! = 4e-6.
    square, sine = r * r, torch.zeros_like(x)
    for i in range(4, -1, -1):
        sine = sine * square + (-1) ** i * math.pi ** (2 * i + 1) / math.factorial(2 * i + 1)
    halved = half_turns * 0.5
    return sine * r * (1 - 4 * (halved - halved.floor()))


class Fourier(Rounding):
    """Fourier series of round(x) with N terms: x + (1/pi) sum_n w_n (-1)^n sin(2 pi n x) / n.

    With f, the distance from the boundary, the series is x + (1/pi) sum_n w_n sin(2 pi n f) / n, and its slope is
    1 + 2 sum_n w_n cos(2 pi n f). The weights set how the series is truncated:
        dirichlet: w_n = 1. Slope sin((2N+1) pi f) / sin(pi f), which rings and is negative in places.
        fejer: w_n = 1 - n/(N+1). Slope (sin((N+1) pi f) / sin(pi f))^2 / (N+1), never negative.
        lanczos: w_n = sinc(n/(N+1)). Little ringing, steeper than Fejér.
    The mean slope is 1 for all three.

    In float32 the curves are interpolated linearly in a table of one period, at a cost that does not depend on N. The
    error of s(x) is below 1e-4, and the error of s'(x) is below 1e-4 of its peak. In float64, which is for tests, the
    series is summed.

    >>> x = torch.tensor([0.25, 0.5, 1.0], requires_grad=True)
    >>> integers = Fourier(terms=1, weights="fejer", hard=True)(x)
    >>> integers.sum().backward()
    >>> integers.detach(), x.grad.round(decimals=2)  # the slope is 1 + cos(2 pi f), f = 0 at the boundary 1/2
    (tensor([0., 0., 1.]), tensor([1., 2., 0.]))

    Args:
        terms: number of terms N >= 1; may be a schedule, whose values are rounded to whole numbers.
        weights: "dirichlet", "fejer" or "lanczos".

    Raises:
        ValueError: for terms below 1 or unknown weights.
    """

    terms: int | Tensor
    _table: Tensor

    def __init__(
        self,
        terms: int | Schedule = 5,
        weights: FourierWeights = "dirichlet",
        *,
        op: Op = "round",
        hard: bool | Schedule = False,
    ) -> None:
        super().__init__(op=op, hard=hard)
        if weights not in get_args(FourierWeights):
            raise ValueError(f"weights: expected one of {', '.join(get_args(FourierWeights))}, got {weights!r}")
        self.weights = weights
        self.set_number("terms", terms, partial(whole_number, least=1))
        first, last = (terms.first, terms.last) if isinstance(terms, Schedule) else (self.terms, self.terms)
        # The error h^2/8 max|s''| of linear interpolation, with |s''| <= 2 pi N (N + 1), is below 1e-4 for h = 1/128 N.
        entries = 2 ** math.ceil(math.log2(max(128, int(first), int(last)) * 128))
        self.register_buffer("_table", torch.empty(4, entries), persistent=False)
        self._fill_table(int(first))

    def write_number(self, name: str, value: float) -> float:
        """See Scheduled."""
        if name != "terms":
            return super().write_number(name, value)
        if round(value) != self._tabulated_terms:
            super().write_number(name, round(value))
            self._fill_table(round(value))
        return round(value)

    def _coefficients(self) -> Tensor:
        """Return the weights w_1 ... w_N, float64."""
        terms = self._tabulated_terms
        n = torch.arange(1, terms + 1, dtype=torch.float64)
        if self.weights == "fejer":
            return 1 - n / (terms + 1)
        return torch.sinc(n / (terms + 1)) if self.weights == "lanczos" else torch.ones_like(n)

    def _sums(self, distance: Tensor) -> tuple[Tensor, Tensor]:
        """Return (1/pi) sum_n w_n sin(2 pi n f) / n and 2 sum_n w_n cos(2 pi n f), by Clenshaw's recurrence."""
        sine, cosine = torch.sin(2 * math.pi * distance), torch.cos(2 * math.pi * distance)
        s1, s2, c1, c2 = (torch.zeros_like(distance) for _ in range(4))
        for n, weight in reversed(list(enumerate(self._coefficients().tolist(), start=1))):
            s1, s2 = weight / n + 2 * cosine * s1 - s2, s1
            c1, c2 = weight + 2 * cosine * c1 - c2, c1
        return sine * s1 / math.pi, 2 * (cosine * c1 - c2)

    def _fill_table(self, terms: int) -> None:
        """Fill four rows: s(x) - x and s'(x) at x = 0, h, 2h ..., then the steps of both to their next entries."""
        self._tabulated_terms = terms  # a copy, since reading the buffer would wait for the GPU
        if self._table.is_meta:
            return
        fraction = torch.linspace(0, 1, self._table.shape[1] + 1, dtype=torch.float64)
        sine_sum, cosine_sum = self._sums(fraction - 0.5)
        rows = torch.stack([sine_sum, 1 + cosine_sum])
        self._table.copy_(torch.cat([rows[:, :-1], rows.diff()]))

    def _looked_up(self, row: int, x: Tensor) -> Tensor:
        """Return a row of the table, linearly interpolated at the fraction of x."""
        entries = self._table.shape[1]
        place = (x - x.floor()) * entries
        # Clamped, since inf and NaN have no index, and the fraction of -1e-9 is 1 in float32.
        below = place.to(torch.int32).clamp(0, entries - 1).flatten()
        low, step = (self._table[i].index_select(0, below).view_as(x) for i in (row, row + 2))
        return torch.addcmul(low, place - below.view_as(x), step)

    def _soft_round(self, x: Tensor) -> Tensor:
        return x + (self._sums(boundary_distance(x))[0] if x.dtype == torch.float64 else self._looked_up(0, x))

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        # The closed form is faster than two look-ups when compiled, slower otherwise.
        if x.dtype != torch.float64 and (self.weights == "lanczos" or not torch.compiler.is_compiling()):
            return self._looked_up(1, x)
        if self.weights == "lanczos":
            return 1 + self._sums(boundary_distance(x))[1]
        # The formula is 0/0 at the boundary. The kernel is flat there: a few float spacings away, it equals its limit.
        distance = boundary_distance(x).abs().clamp_min(8 * torch.finfo(x.dtype).eps)
        if self.weights == "dirichlet":
            return _sin_pi((2 * self.terms + 1) * distance) / _sin_pi(distance)
        ratio = _sin_pi((self.terms + 1) * distance) / _sin_pi(distance)
        return ratio.square() / (self.terms + 1)
