"""Convolutions over time, the layers of the `conv` family. Axes: B batch, D channels, T time steps.

Every layer is either centered on its own time step or `causal`: an output of a causal layer does not depend on later
steps. Each layer pads its input with zeros.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from discrete_ae.model.activations import ELU, Snake
from discrete_ae.model.base import Span, State, after_past, input_span, step

Activation = Literal["elu", "snake"]
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {"elu": lambda dim: ELU(), "snake": Snake}

Norm = Literal["none", "weight"]
NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {"none": lambda layer: layer, "weight": weight_norm}


def require_choice(name: str, value: object, choices: Any) -> None:
    """Raise a ValueError unless `value` is one of the Literal `choices`."""
    if value not in get_args(choices):
        raise ValueError(f"{name}: expected one of {', '.join(get_args(choices))}, got {value!r}")


def zero_biases(*modules: nn.Module) -> None:
    """Set the biases of all convolutions to 0, where training starts; DAC does so for all but transposed ones.

    PyTorch's random biases add up to ten times the signal: a quantizer that rounds would begin with the same code for
    nearly every frame, and with some seeds and learning rates never learn another.
    """
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d) and layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Conv(nn.Conv1d):
    """Convolution (B, D, T) to (B, D', T).

    Args:
        dim_in: number of input channels, D.
        dim_out: number of output channels, D'.
        kernel_size: number of input time steps per output, odd unless causal.
        dilation: distance between these time steps.
        causal: whether an output depends only on its own and earlier time steps.
        groups: as in torch.nn.Conv1d.

    Raises:
        ValueError: for an even kernel that is not causal.
    """

    def __init__(
        self, dim_in: int, dim_out: int, kernel_size: int, *, dilation: int = 1, causal: bool = False, groups: int = 1
    ) -> None:
        if kernel_size < 1 or (kernel_size % 2 == 0 and not causal):
            raise ValueError(f"kernel_size: expected an odd number of steps, or any if causal, got {kernel_size}")
        self.reach = dilation * (kernel_size - 1)
        self.causal = causal
        # Padded by the convolution itself: a padded copy would be an additional tensor kept for the backward pass.
        padding = self.reach if causal else self.reach // 2
        super().__init__(dim_in, dim_out, kernel_size, dilation=dilation, padding=padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, T) to (B, D', T)."""
        return super().forward(x)[..., : x.shape[-1]]

    def input_span(self, outputs: Span) -> Span:
        """See MixesTime."""
        before = self.reach if self.causal else self.reach // 2
        return Span(outputs.first - before, outputs.last - before + self.reach)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See MixesTime."""
        x, state = after_past(x, state, self.reach)
        return F.conv1d(x, self.weight, self.bias, dilation=self.dilation, groups=self.groups), state


class Downsample(nn.Module):
    """Strided convolution of kernel 2 s: (B, D, T s) to (B, D', T).

    Output t depends on its own s inputs. It also depends on the s inputs before them if causal, or else on s / 2 inputs
    on either side.
    """

    def __init__(self, dim_in: int, dim_out: int, stride: int, *, causal: bool = False, norm: Norm = "none") -> None:
        super().__init__()
        self.stride = stride
        self.before = stride if causal else stride // 2
        self.conv = NORMS[norm](nn.Conv1d(dim_in, dim_out, 2 * stride, stride=stride, padding=self.before))

    def forward(self, x: Tensor) -> Tensor:
        """Downsample by the stride."""
        more = max(0, self.stride - 2 * self.before)  # 1 for an odd stride, since half of it is rounded down
        return self.conv(F.pad(x, (0, more)) if more else x)[..., : x.shape[-1] // self.stride]

    def input_span(self, outputs: Span) -> Span:
        """See MixesTime."""
        start = -self.before
        return Span(outputs.first * self.stride + start, outputs.last * self.stride + start + 2 * self.stride - 1)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See MixesTime."""
        x, state = after_past(x, state, self.before)
        # The convolution pads its input too; the first and the last output depend on this padding and are cut off.
        return self.conv(x)[..., 1 : x.shape[-1] // self.stride], state


class Upsample(nn.Module):
    """Transposed convolution of kernel 2 s: (B, D, T) to (B, D', T s).

    Input t contributes to its own s outputs. It also contributes to the s outputs after them if causal, or else to
    s / 2 outputs on either side.
    """

    def __init__(self, dim_in: int, dim_out: int, stride: int, *, causal: bool = False, norm: Norm = "none") -> None:
        super().__init__()
        self.stride = stride
        self.trim = 0 if causal else stride // 2
        self.conv = NORMS[norm](nn.ConvTranspose1d(dim_in, dim_out, 2 * stride, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        """Upsample by the stride."""
        return self.conv(x)[..., self.trim : self.trim + x.shape[-1] * self.stride]

    def input_span(self, outputs: Span) -> Span:
        """See MixesTime."""
        first, last = outputs.first + self.trim, outputs.last + self.trim
        return Span(first // self.stride - 1, last // self.stride)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See MixesTime."""
        x, state = after_past(x, state, 1)
        return self.conv(x)[..., self.stride : x.shape[-1] * self.stride], state


class ResidualUnit(nn.Module):
    """Residual unit on (B, D, T): activation, dilated convolution, activation, pointwise convolution.

    Args:
        dim: number of channels, D.
        kernel_size: kernel size of the dilated convolution.
        dilation: dilation of this convolution.
        compress: factor by which the channels between the two convolutions are reduced, to D / compress.
        activation: "elu" or "snake".
        norm: "weight" or "none".
        causal: whether an output depends only on its own and earlier time steps.
    """

    def __init__(
        self,
        dim: int,
        *,
        kernel_size: int = 3,
        dilation: int = 1,
        compress: int = 2,
        activation: Activation = "elu",
        norm: Norm = "none",
        causal: bool = False,
    ) -> None:
        super().__init__()
        inner = dim // compress
        self.activation = ACTIVATIONS[activation](dim)
        self.dilated = NORMS[norm](Conv(dim, inner, kernel_size, dilation=dilation, causal=causal))
        self.inner_activation = ACTIVATIONS[activation](inner)
        self.pointwise = NORMS[norm](nn.Conv1d(inner, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, T) to (B, D, T)."""
        return self._joined(x, self.dilated(self.activation(x)))

    def _joined(self, x: Tensor, dilated: Tensor) -> Tensor:
        return x + self.pointwise(self.inner_activation(dilated))

    def input_span(self, outputs: Span) -> Span:
        """See MixesTime."""
        branch = input_span(self.dilated, outputs)
        return Span(min(branch.first, outputs.first), max(branch.last, outputs.last))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See MixesTime."""
        dilated, state = step(self.dilated, self.activation(x), state)
        return self._joined(x, dilated), state
