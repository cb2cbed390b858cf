"""Strided convolutional network in the line of SEANet (Tagliasacchi et al. 2020, arXiv:2009.02095), EnCodec
(Défossez et al. 2022, arXiv:2210.13438) and DAC (Kumar et al. 2023, arXiv:2306.06546).

Each stage of the encoder is a few dilated residual units and a strided convolution that doubles the channels; the
decoder mirrors it with transposed convolutions. With the arguments of conf/experiment/dac_like.yaml it is DAC's network
without the last tanh. Where EnCodec has a recurrent layer at the frame rate, `frame_dilations` puts residual units,
whose receptive field is finite.

Axes: B batch, C audio channels, D hidden channels, N samples, T frames.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from discrete_ae.checks import true_or_false, whole_number
from discrete_ae.model.base import Decoder, Encoder, Span, input_span
from discrete_ae.model.layers import (
    ACTIVATIONS,
    NORMS,
    Activation,
    Conv,
    Downsample,
    Norm,
    Upsample,
    require_choice,
    residual_units,
)


def _check_units(
    width: int,
    dilations: Sequence[int],
    kernel_size: int,
    compress: int,
    activation: Activation,
    norm: Norm,
    causal: bool,
) -> None:
    require_choice("activation", activation, Activation)
    require_choice("norm", norm, Norm)
    true_or_false("causal", causal)
    for name, value in (("width", width), ("kernel_size", kernel_size), ("compress", compress)):
        whole_number(name, value, 1)
    for dilation in dilations:
        whole_number("dilations", dilation, 1)
    if compress > width:
        raise ValueError(f"compress: expected at most width, {width}, got {compress}; units would have no channels")


class ConvEncoder(Encoder):
    """Audio to frames by strided convolutions.

    Args:
        channels: C, audio channels.
        width: channels before the first stride; each stride doubles them.
        strides: downsampling factors, in this order.
        dim: D, hidden channels at the frame rate.
        dilations: of the residual units of each stage.
        kernel_size: of their dilated convolutions, odd.
        compress: a residual unit works on 1 / compress of its channels.
        frame_dilations: of residual units after the last stride.
        frame_kernel_size: of the convolution to D channels, odd.
        activation: "elu" or "snake".
        norm: "weight" for weight normalization (Salimans & Kingma 2016, arXiv:1602.07868), or "none".
        causal: whether a frame depends on no sample after its own.

    Raises:
        ValueError: for an unknown activation or norm, an even kernel, a number below 1, or a compress above width.
    """

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
        _check_units(width, (*dilations, *frame_dilations), kernel_size, compress, activation, norm, causal)
        kind = {"kernel_size": kernel_size, "compress": compress, "activation": activation}
        common = {"norm": norm, "causal": causal}
        layers: list[nn.Module] = [NORMS[norm](Conv(channels, width, 7, causal=causal))]
        for stride in strides:
            layers += residual_units(width, dilations, **kind, **common)
            layers += [ACTIVATIONS[activation](width), Downsample(width, 2 * width, stride, causal=causal, norm=norm)]
            width *= 2
        layers += residual_units(width, frame_dilations, **kind, **common)
        layers += [ACTIVATIONS[activation](width), NORMS[norm](Conv(width, dim, frame_kernel_size, causal=causal))]
        self.layers = nn.Sequential(*layers)

    def forward(self, audio: Tensor) -> Tensor:
        """See Encoder."""
        return self.layers(audio)

    def input_span(self, outputs: Span) -> Span:
        """See Encoder."""
        return input_span(self.layers, outputs)


class ConvDecoder(Decoder):
    """Frames to audio by transposed convolutions, the mirror of ConvEncoder.

    Args:
        channels: C, audio channels.
        width: channels after the last stride; each stride halves them.
        strides: the encoder's downsampling factors, in the encoder's order; they are undone from the last to the first.
        dim: D, hidden channels at the frame rate.
        dilations: of the residual units of each stage.
        kernel_size: of their dilated convolutions, odd.
        compress: a residual unit works on 1 / compress of its channels.
        frame_dilations: of residual units before the first stride is undone.
        frame_kernel_size: of the convolution from D channels, odd.
        activation: "elu" or "snake".
        norm: "weight" or "none".
        causal: whether a sample depends on no frame after its own.

    Raises:
        ValueError: for an unknown activation or norm, an even kernel, a number below 1, or a compress above width.
    """

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
        _check_units(width, (*dilations, *frame_dilations), kernel_size, compress, activation, norm, causal)
        kind = {"kernel_size": kernel_size, "compress": compress, "activation": activation}
        common = {"norm": norm, "causal": causal}
        wide = width * 2 ** len(strides)
        layers: list[nn.Module] = [NORMS[norm](Conv(dim, wide, frame_kernel_size, causal=causal))]
        layers += residual_units(wide, frame_dilations, **kind, **common)
        for stride in reversed(strides):
            layers += [ACTIVATIONS[activation](wide), Upsample(wide, wide // 2, stride, causal=causal, norm=norm)]
            wide //= 2
            layers += residual_units(wide, dilations, **kind, **common)
        layers += [ACTIVATIONS[activation](wide), NORMS[norm](Conv(wide, channels, 7, causal=causal))]
        self.layers = nn.Sequential(*layers)

    def forward(self, hidden: Tensor) -> Tensor:
        """See Decoder."""
        return self.layers(hidden)

    def input_span(self, outputs: Span) -> Span:
        """See Decoder."""
        return input_span(self.layers, outputs)
