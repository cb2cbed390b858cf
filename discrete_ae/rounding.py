"""Differentiable round, floor, ceil and trunc: one picture for every method.

The derivative of rounding is zero almost everywhere, so each method replaces it by the slope s'(x) of a soft
staircase s(x) with s(x + 1) = s(x) + 1 and s(-x) = -s(x). That slope is a periodic kernel of the distance to the
nearest decision boundary, f = x - floor(x) - 1/2 in [-1/2, 1/2). A method is a choice in two places: what the
training forward emits (exact integers, s(x), or noise) and which slope the backward uses. Evaluation always emits
torch.round (floor, ceil, trunc) itself, so that codes are exact; the gradient is slope(x) in both modes.

The other three operations are the same staircase shifted: soft floor is s(x - 1/2), soft ceil s(x + 1/2), soft
trunc sign(x) s(|x| - 1/2) for |x| >= 1/2 and 0 in between, continuous at 0 where a literal shift would jump.
Values such as 2.9999999 floor as their float representation says; there is no hidden epsilon.

    rounding = Fourier(terms=5, weights="fejer", hard=True)
    integers = rounding(x)          # torch.round(x); d integers / d x = rounding.slope(x)
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

Op = Literal["round", "floor", "ceil", "trunc"]
FourierWeights = Literal["dirichlet", "fejer", "lanczos"]

EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "round": torch.round,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "trunc": torch.trunc,
}
SHIFT = {"round": 0.0, "floor": -0.5, "ceil": 0.5}


class _WithSlope(torch.autograd.Function):
    """Emits value(x), whatever that is, and backpropagates slope(x) times the gradient (slope None: the flat 1).

    The only tensor saved is x. The backward is made of differentiable operations, so second derivatives exist.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, value: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor] | None
    ) -> Tensor:
        ctx.slope = slope
        if slope is not None:
            ctx.save_for_backward(x)
        return value(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        if ctx.slope is not None:
            gradient = gradient * ctx.slope(*ctx.saved_tensors)
        return gradient, None, None


def _boundary_distance(x: Tensor) -> Tensor:
    """Distance f from the nearest decision boundary of round, in [-1/2, 1/2]; zero at the half-integers."""
    return x - x.floor() - 0.5


def _require_floating_point(x: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"rounding: expected a floating-point tensor, got {x.dtype}; convert it with .float()")


def _in_float32(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Evaluate in float32 what comes in half precision, and return it in the dtype of x."""
    _require_floating_point(x)
    return function(x.float()).to(x.dtype) if x.dtype in (torch.float16, torch.bfloat16) else function(x)


def _positive(name: str, value: float) -> float:
    if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a finite number above 0, got {value!r}")
    return value


class Rounding(nn.Module, ABC):
    """Base of the family. A subclass writes the soft round and its slope; the operations and modes are done here.

    Args:
        op: the operation that is imitated: "round" (ties to even, as torch.round), "floor", "ceil" or "trunc".
        hard: whether the training forward emits exact integers (True) or the soft value (False).

    Raises:
        ValueError: for an unknown `op`, and for a tensor that is not floating-point.
    """

    def __init__(self, *, op: Op = "round", hard: bool) -> None:
        super().__init__()
        if op not in EXACT:
            raise ValueError(f"op: expected one of {', '.join(EXACT)}, got {op!r}")
        self.op = op
        self.hard = hard

    @abstractmethod
    def _soft_round(self, x: Tensor) -> Tensor:
        """s(x), elementwise, in float32 or float64."""

    @abstractmethod
    def _soft_round_slope(self, x: Tensor) -> Tensor:
        """s'(x), elementwise and finite everywhere."""

    def value(self, x: Tensor) -> Tensor:
        """The soft staircase s(x) of the operation, elementwise, in the dtype of x."""
        return _in_float32(self._soft_trunc if self.op == "trunc" else self._shifted(self._soft_round), x)

    def slope(self, x: Tensor) -> Tensor:
        """The derivative s'(x) in closed form, elementwise, finite also at integers and half-integers."""
        return _in_float32(self._soft_trunc_slope if self.op == "trunc" else self._shifted(self._soft_round_slope), x)

    def exact(self, x: Tensor) -> Tensor:
        """What evaluation emits: torch.round, floor, ceil or trunc of x."""
        _require_floating_point(x)
        return EXACT[self.op](x)

    def forward(self, x: Tensor) -> Tensor:
        """Round x elementwise; in training by `hard`, in evaluation exactly. The gradient is slope(x) in both."""
        return _WithSlope.apply(x, self._emitted if self.training else self.exact, self.slope)

    def _emitted(self, x: Tensor) -> Tensor:
        return self.exact(x) if self.hard else self.value(x)

    def _shifted(self, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        shift = SHIFT[self.op]
        return (lambda x: function(x + shift)) if shift else function

    def _soft_trunc(self, x: Tensor) -> Tensor:
        beyond = x.abs() - 0.5
        return torch.where(beyond >= 0, x.sign() * self._soft_round(beyond), 0.0)

    def _soft_trunc_slope(self, x: Tensor) -> Tensor:
        beyond = x.abs() - 0.5
        return torch.where(beyond >= 0, self._soft_round_slope(beyond), 0.0)

    def extra_repr(self) -> str:
        """The arguments, for print(module)."""
        own = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "training"}
        return ", ".join(f"{name}={value!r}" for name, value in own.items())


class _Flat(Rounding):
    """The flat kernel: s(x) = x, slope 1."""

    def _soft_round(self, x: Tensor) -> Tensor:
        return x

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)

    # Shifting the identity by 1/2 on both sides of 0 would tear it apart there: the flat trunc stays x, with slope 1.
    _soft_trunc = _soft_round
    _soft_trunc_slope = _soft_round_slope

    def forward(self, x: Tensor) -> Tensor:
        """Round x elementwise; the gradient passes unchanged."""
        return _WithSlope.apply(x, self._emitted if self.training else self.exact, None)


class StraightThrough(_Flat):
    """Straight-through estimator: exact integers forward, slope 1 backward (Bengio et al. 2013, arXiv:1308.3432).

    Written as an autograd function rather than x + (round(x) - x).detach(): one pass over x, and nothing is saved.
    """

    def __init__(self, *, op: Op = "round", hard: bool = True) -> None:
        super().__init__(op=op, hard=hard)


class UniformNoise(_Flat):
    """Additive noise x + u, u ~ U(-1/2, 1/2), in training (Ballé et al. 2017, arXiv:1611.01704); slope 1."""

    def __init__(self, *, op: Op = "round", hard: bool = False) -> None:
        super().__init__(op=op, hard=hard)

    def _emitted(self, x: Tensor) -> Tensor:
        return self.exact(x) if self.hard else self.value(x) + torch.rand_like(x) - 0.5


class Stochastic(_Flat):
    """Stochastic rounding in training: floor(x) + Bernoulli(x - floor(x)), unbiased (E = x); slope 1.

    The other operations round their soft value x - 1/2 (floor) or x + 1/2 (ceil) stochastically.
    """

    def __init__(self, *, op: Op = "round", hard: bool = True) -> None:
        super().__init__(op=op, hard=hard)

    def _emitted(self, x: Tensor) -> Tensor:
        soft = self.value(x)
        if not self.hard:
            return soft
        below = soft.floor()
        # Comparing with the fraction, rather than flooring soft + u, emits exact neighbours in half precision too.
        return below + (torch.rand_like(soft) < soft - below)


class _Function(Rounding):
    """A function given by the user as the soft round; its slope comes from automatic differentiation."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(hard=False)
        self.function = function

    def _soft_round(self, x: Tensor) -> Tensor:
        return self.function(x)

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        differentiate_again = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            x = x if differentiate_again else x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.function(x).sum(), x, create_graph=differentiate_again)
        return slope


class CustomGradient(Rounding):
    """Exact integers forward, the slope of any surrogate backward.

    Args:
        surrogate: the soft round whose slope is used: a Rounding with op="round", or an elementwise differentiable
            function of a tensor. None is the identity with slope 1, the straight-through estimator.

    Raises:
        ValueError: for a surrogate of another operation, or one that is not callable.
    """

    def __init__(
        self,
        surrogate: Rounding | Callable[[Tensor], Tensor] | None = None,
        *,
        op: Op = "round",
        hard: bool = True,
    ) -> None:
        super().__init__(op=op, hard=hard)
        if surrogate is None:
            surrogate = StraightThrough()
        elif not callable(surrogate):
            raise ValueError(f"surrogate: expected a Rounding or a function of a tensor, got {surrogate!r}")
        elif isinstance(surrogate, Rounding) and surrogate.op != "round":
            raise ValueError(
                f'surrogate: expected a soft round, got op="{surrogate.op}"; give op= to CustomGradient, not to both'
            )
        self.surrogate: Rounding = surrogate if isinstance(surrogate, Rounding) else _Function(surrogate)

    def _soft_round(self, x: Tensor) -> Tensor:
        return self.surrogate._soft_round(x)

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        return self.surrogate._soft_round_slope(x)

    def _soft_trunc(self, x: Tensor) -> Tensor:
        return self.surrogate._soft_trunc(x)

    def _soft_trunc_slope(self, x: Tensor) -> Tensor:
        return self.surrogate._soft_trunc_slope(x)


class Sigmoid(Rounding):
    """A logistic step at every decision boundary.

    Plain: floor(x) + sigma(k f), which jumps by 2 sigma(-k/2) at the integers and has mean slope tanh(k/4).
    Normalized: floor(x) + 1/2 + tanh(k f / 2) / (2 tanh(k/4)), continuous with mean slope 1; with alpha = k/2 the
    soft round of Agustsson & Theis 2020 (arXiv:2006.09952, eq. 4). It tends to x as k tends to 0.

    Args:
        sharpness: k > 0, the slope at a boundary is k/4 (plain).
        normalized: whether the jumps at the integers are scaled away.

    Raises:
        ValueError: for a sharpness that is not a finite number above 0.
    """

    def __init__(
        self, sharpness: float = 4.0, normalized: bool = False, *, op: Op = "round", hard: bool = False
    ) -> None:
        super().__init__(op=op, hard=hard)
        self.sharpness = _positive("sharpness", sharpness)
        self.normalized = normalized

    @property
    def _scale(self) -> float:
        return 1 / math.tanh(self.sharpness / 4) if self.normalized else 1.0

    @property
    def _is_identity(self) -> bool:
        # Below this the curve differs from x by less than one part in 1e14, and k f underflows instead of helping.
        return self.normalized and self.sharpness < 1e-6

    def _soft_round(self, x: Tensor) -> Tensor:
        if self._is_identity:
            return x
        # sigma(k f) = 1/2 + tanh(k f / 2) / 2 does not overflow at any sharpness.
        step = torch.tanh(_boundary_distance(x) * (self.sharpness / 2))
        return x.floor() + 0.5 + step * (0.5 * self._scale)

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        if self._is_identity:
            return torch.ones_like(x)
        step = torch.tanh(_boundary_distance(x) * (self.sharpness / 2))
        return (1 - step * step) * (self.sharpness / 4 * self._scale)


class Softmax(Rounding):
    """Soft assignment to the two neighbouring integers by their squared distance (arXiv:1704.00648).

    The weights of floor(x) and floor(x) + 1 are softmax(-beta d^2); algebraically the plain sigmoid with k = 2 beta.
    With more neighbours, the nearest `neighbours` integers take part and the curve is a different one.

    Args:
        beta: inverse temperature, above 0.
        neighbours: how many of the nearest integers take part: an even number, at least 2.

    Raises:
        ValueError: for a beta or a number of neighbours outside these ranges.
    """

    def __init__(self, beta: float = 2.0, neighbours: int = 2, *, op: Op = "round", hard: bool = False) -> None:
        super().__init__(op=op, hard=hard)
        self.beta = _positive("beta", beta)
        if not isinstance(neighbours, int | float) or not neighbours >= 2 or neighbours % 2:
            raise ValueError(f"neighbours: expected an even number, at least 2, got {neighbours!r}")
        self.neighbours = int(neighbours)

    def _mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the neighbours' offsets from the boundary under the softmax weights.

        With offsets d_i = +-1/2, +-3/2 ... from the boundary, -beta (f - d_i)^2 = const + beta (2 f d_i - d_i^2).
        """
        distance = _boundary_distance(x)
        half = self.neighbours // 2
        offsets = [i + 0.5 for i in range(-half, half)]
        largest = torch.stack([2 * distance * d - d * d for d in (-0.5, 0.5)]).amax(0)
        total = mean = second = torch.zeros_like(x)
        for d in offsets:
            weight = torch.exp(self.beta * (2 * distance * d - d * d - largest))
            total, mean, second = total + weight, mean + weight * d, second + weight * (d * d)
        mean = mean / total
        return mean, second / total - mean * mean

    def _soft_round(self, x: Tensor) -> Tensor:
        return x.floor() + 0.5 + self._mean_and_variance(x)[0]

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        return 2 * self.beta * self._mean_and_variance(x)[1]


class Linear(Rounding):
    """A ramp of slope k/2 around every boundary, flat elsewhere: floor(x) + 1/2 + clip(k f, -1, 1) / 2.

    Args:
        sharpness: k >= 2; k = 2 is the identity. Below 2 the staircase would not be continuous.

    Raises:
        ValueError: for a sharpness below 2.
    """

    def __init__(self, sharpness: float = 4.0, *, op: Op = "round", hard: bool = False) -> None:
        super().__init__(op=op, hard=hard)
        if _positive("sharpness", sharpness) < 2:
            raise ValueError(
                f"sharpness: expected at least 2 (2 is the identity, less is not a continuous staircase), "
                f"got {sharpness}"
            )
        self.sharpness = sharpness

    def _soft_round(self, x: Tensor) -> Tensor:
        ramp = (_boundary_distance(x) * self.sharpness).clamp(-1, 1)
        return x.floor() + 0.5 + 0.5 * ramp

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        # Multiplied by k rather than compared with 1/k, so that the ramp of k = 2 reaches the integers exactly.
        inside = (_boundary_distance(x) * self.sharpness).abs() <= 1
        return inside.to(x.dtype) * (self.sharpness / 2)


class FiniteDifference(Linear):
    """Exact integers forward, the central difference (r(x + eps) - r(x - eps)) / 2 eps backward.

    That difference is 1 / 2 eps within eps of a boundary and 0 elsewhere: the linear kernel with k = 1 / eps.
    eps = 1/2 is the straight-through estimator; a tiny eps has no gradient almost everywhere.

    Args:
        epsilon: 0 < epsilon <= 1/2.

    Raises:
        ValueError: for an epsilon outside this range.
    """

    def __init__(self, epsilon: float = 0.25, *, op: Op = "round", hard: bool = True) -> None:
        if not isinstance(epsilon, int | float) or not 0 < epsilon <= 0.5:
            raise ValueError(f"epsilon: expected 0 < epsilon <= 1/2, got {epsilon!r}")
        super().__init__(1 / epsilon, op=op, hard=hard)
        self.epsilon = epsilon


class Fourier(Rounding):
    """The sawtooth's Fourier series cut after N terms: x + (1/pi) sum_n w_n (-1)^n sin(2 pi n x) / n.

    Written in the distance f from the boundary the signs disappear: x + (1/pi) sum_n w_n sin(2 pi n f) / n, with
    slope 1 + 2 sum_n w_n cos(2 pi n f). The weights tell how the series is cut:
        dirichlet: w_n = 1. Slope sin((2N+1) pi f) / sin(pi f); rings, and is negative in places.
        fejer: w_n = 1 - n/(N+1). Slope (sin((N+1) pi f) / sin(pi f))^2 / (N+1), never negative.
        lanczos: w_n = sinc(n/(N+1)). Little ringing, steeper than Fejér.
    The mean slope is 1 for each.

    Args:
        terms: N >= 1.
        weights: "dirichlet", "fejer" or "lanczos".

    Raises:
        ValueError: for terms below 1 or unknown weights.
    """

    def __init__(
        self, terms: int = 5, weights: FourierWeights = "dirichlet", *, op: Op = "round", hard: bool = False
    ) -> None:
        super().__init__(op=op, hard=hard)
        if not isinstance(terms, int | float) or not terms >= 1 or not float(terms).is_integer():
            raise ValueError(f"terms: expected a whole number, at least 1, got {terms!r}")
        if weights not in get_args(FourierWeights):
            raise ValueError(f"weights: expected one of {', '.join(get_args(FourierWeights))}, got {weights!r}")
        self.terms = int(terms)
        self.weights = weights

    def _weight(self, n: int) -> float:
        share = n / (self.terms + 1)
        if self.weights == "fejer":
            return 1 - share
        return math.sin(math.pi * share) / (math.pi * share) if self.weights == "lanczos" else 1.0

    def _soft_round(self, x: Tensor) -> Tensor:
        angle = _boundary_distance(x) * (2 * math.pi)
        cosine, upper, lower = 2 * torch.cos(angle), torch.zeros_like(x), torch.zeros_like(x)
        for n in range(self.terms, 0, -1):  # Clenshaw's recurrence: one sine and one cosine, whatever N
            upper, lower = lower, self._weight(n) / n + cosine * lower - upper
        return x + torch.sin(angle) * lower / math.pi

    def _soft_round_slope(self, x: Tensor) -> Tensor:
        distance = _boundary_distance(x)
        if self.weights == "lanczos":
            cosine, upper, lower = 2 * torch.cos(distance * (2 * math.pi)), torch.zeros_like(x), torch.zeros_like(x)
            for n in range(self.terms, 0, -1):
                upper, lower = lower, self._weight(n) + cosine * lower - upper
            return 1 + cosine * lower - 2 * upper
        # 0/0 at the boundary itself, where the kernel is flat: a step aside of a few float spacings is its limit.
        step = 8 * torch.finfo(x.dtype).eps
        angle = torch.where(distance.abs() < step, step, distance) * math.pi
        if self.weights == "dirichlet":
            return torch.sin((2 * self.terms + 1) * angle) / torch.sin(angle)
        ratio = torch.sin((self.terms + 1) * angle) / torch.sin(angle)
        return ratio * ratio / (self.terms + 1)
