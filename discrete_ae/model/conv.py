"""Strided convolutional network, as in SEANet, EnCodec and DAC.

Tagliasacchi et al. 2020 (SEANet, arXiv:2009.02095), Défossez et al. 2022 (EnCodec, arXiv:2210.13438) and Kumar et al.
2023 (DAC, arXiv:2306.06546). Each stage of the encoder has a few dilated residual units and a strided convolution that
doubles the channels. The decoder mirrors the encoder with transposed convolutions.

With the arguments of conf/experiment/dac_like.yaml this is DAC's network without the last tanh. `frame_dilations` adds
residual units with a finite receptive field, in place of EnCodec's recurrent layer at the frame rate.

Axes: B batch, C audio channels, D hidden channels, N samples, T frames.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from discrete_ae.checks import true_or_false, whole_number
from discrete_ae.model.base import Decoder, Encoder, Half, Span, State, input_span, step
from discrete_ae.model.layers import (
    ACTIVATIONS,
    NORMS,
    Activation,
    Conv,
    Downsample,
    Norm,
    ResidualUnit,
    Upsample,
    require_choice,
    zero_biases,
)


class _ConvHalf(Half):
    """Base class of ConvEncoder and ConvDecoder: their arguments and common layers."""

    def __init__(
        self,
        channels: int,
        width: int,
        strides: Sequence[int],
        dim: int,
        dilations: Sequence[int] = (1, 3),
        kernel_size: int = 3,
        compress: int = 2,
        frame_dilations: Sequence[int] = (),
        frame_kernel_size: int = 3,
        activation: Activation = "elu",
        norm: Norm = "none",
        causal: bool = False,
    ) -> None:
        super().__init__(channels, dim, strides)
        require_choice("activation", activation, Activation)
        require_choice("norm", norm, Norm)
        causal = true_or_false("causal", causal)
        for name, value in (("width", width), ("kernel_size", kernel_size), ("compress", compress)):
            whole_number(name, value, 1)
        for name, values in (("dilations", dilations), ("frame_dilations", frame_dilations)):
            for dilation in values:
                whole_number(name, dilation, 1)
        if compress > width:
            raise ValueError(f"compress: expected at most width, {width}, got {compress}; units would have no channels")
        self._common: dict[str, Any] = {"norm": norm, "causal": causal}
        self._unit = {"kernel_size": kernel_size, "compress": compress, "activation": activation, **self._common}
        self.layers = nn.Sequential(*self._build(width, dilations, frame_dilations, frame_kernel_size))
        zero_biases(self)

    @abstractmethod
    def _build(
        self, width: int, dilations: Sequence[int], frame_dilations: Sequence[int], frame_kernel_size: int
    ) -> list[nn.Module]:
        """Return the layers, from the input to the output."""

    def _units(self, dim: int, dilations: Sequence[int]) -> list[nn.Module]:
        return [ResidualUnit(dim, dilation=dilation, **self._unit) for dilation in dilations]

    def _activation(self, dim: int) -> nn.Module:
        return ACTIVATIONS[self._unit["activation"]](dim)

    def _conv(self, dim_in: int, dim_out: int, kernel_size: int) -> nn.Module:
        return NORMS[self._common["norm"]](Conv(dim_in, dim_out, kernel_size, causal=self._common["causal"]))

    def forward(self, x: Tensor) -> Tensor:
        """See Encoder and Decoder."""
        return self.layers(x)

    def input_span(self, outputs: Span) -> Span:
        """See Encoder and Decoder."""
        return input_span(self.layers, outputs)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See Half."""
        return step(self.layers, x, state)


class ConvEncoder(_ConvHalf, Encoder):
    """Audio to frames by strided convolutions.

    Args:
        channels: number of audio channels, C.
        width: number of channels before the first stride; each stride doubles it.
        strides: downsampling factors, in this order.
        dim: number of hidden channels at the frame rate, D.
        dilations: dilations of the residual units of each stage.
        kernel_size: kernel size of the dilated convolutions, odd unless causal.
        compress: factor by which a residual unit reduces its channels between its two convolutions.
        frame_dilations: dilations of residual units after the last stride.
        frame_kernel_size: kernel size of the convolution to D channels, odd unless causal.
        activation: "elu" or "snake".
        norm: "weight" for weight normalization (Salimans & Kingma 2016, arXiv:1602.07868), or "none".
        causal: whether a frame depends only on its own and earlier samples.

    Raises:
        ValueError: for an unknown activation or norm, an even kernel that is not causal, a number below 1, or a
            compress above width.
    """

    def _build(
        self, width: int, dilations: Sequence[int], frame_dilations: Sequence[int], frame_kernel_size: int
    ) -> list[nn.Module]:
        layers = [self._conv(self.channels, width, 7)]
        for stride in self.strides:
            layers += self._units(width, dilations)
            layers += [self._activation(width), Downsample(width, 2 * width, stride, **self._common)]
            width *= 2
        layers += self._units(width, frame_dilations)
        return [*layers, self._activation(width), self._conv(width, self.dim, frame_kernel_size)]


class ConvDecoder(_ConvHalf, Decoder):
    """Frames to audio by transposed convolutions, the mirror of ConvEncoder.

    Args, if different from those of ConvEncoder:
        width: number of channels after the last upsampling; each upsampling halves it.
        strides: the encoder's downsampling factors, in the encoder's order; the decoder upsamples in reverse order.
        frame_dilations: dilations of residual units before the first upsampling.
        frame_kernel_size: kernel size of the convolution from D channels, odd unless causal.
        causal: whether a sample depends only on its own and earlier frames.

    Raises:
        ValueError: as for ConvEncoder.
    """

    def _build(
        self, width: int, dilations: Sequence[int], frame_dilations: Sequence[int], frame_kernel_size: int
    ) -> list[nn.Module]:
        width *= 2 ** len(self.strides)
        layers = [self._conv(self.dim, width, frame_kernel_size), *self._units(width, frame_dilations)]
        for stride in reversed(self.strides):
            layers += [self._activation(width), Upsample(width, width // 2, stride, **self._common)]
            width //= 2
            layers += self._units(width, dilations)
        return [*layers, self._activation(width), self._conv(width, self.channels, 7)]
