"""Strided convolutional network in the line of SEANet (Tagliasacchi et al. 2020, arXiv:2009.02095) and DAC.

Each stage of the encoder is a few dilated residual units and a strided convolution that doubles the channels; the
decoder mirrors it with transposed convolutions. Ours differs from SoundStream in having neither weight normalization
nor a recurrent layer.

Axes: B batch, C audio channels, D hidden channels, N samples, T frames.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from discrete_ae.model.base import Decoder, Encoder
from discrete_ae.model.layers import Downsample, ResidualUnit, Upsample


class ConvEncoder(Encoder):
    """Audio to frames by strided convolutions.

    Args:
        channels: C, audio channels.
        width: channels before the first stride; each stride doubles them.
        strides: downsampling factors, in this order.
        dim: D, hidden channels at the frame rate.
        dilations: of the residual units of each stage.
    """

    def __init__(
        self, channels: int, width: int, strides: Sequence[int], dim: int, dilations: Sequence[int] = (1, 3)
    ) -> None:
        super().__init__(channels, dim, strides)
        layers: list[nn.Module] = [nn.Conv1d(channels, width, 7, padding=3)]
        for stride in strides:
            layers += [ResidualUnit(width, dilation) for dilation in dilations]
            layers += [nn.ELU(), Downsample(width, 2 * width, stride)]
            width *= 2
        layers += [nn.ELU(), nn.Conv1d(width, dim, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, audio: Tensor) -> Tensor:
        """See Encoder."""
        return self.layers(audio)


class ConvDecoder(Decoder):
    """Frames to audio by transposed convolutions, the mirror of ConvEncoder.

    Args:
        channels: C, audio channels.
        width: channels after the last stride; each stride halves them.
        strides: the encoder's downsampling factors, in the encoder's order; they are undone from the last to the first.
        dim: D, hidden channels at the frame rate.
        dilations: of the residual units of each stage.
    """

    def __init__(
        self, channels: int, width: int, strides: Sequence[int], dim: int, dilations: Sequence[int] = (1, 3)
    ) -> None:
        super().__init__(channels, dim, strides)
        wide = width * 2 ** len(strides)
        layers: list[nn.Module] = [nn.Conv1d(dim, wide, 3, padding=1)]
        for stride in reversed(strides):
            layers += [nn.ELU(), Upsample(wide, wide // 2, stride)]
            wide //= 2
            layers += [ResidualUnit(wide, dilation) for dilation in dilations]
        layers += [nn.ELU(), nn.Conv1d(wide, channels, 7, padding=3)]
        self.layers = nn.Sequential(*layers)

    def forward(self, hidden: Tensor) -> Tensor:
        """See Decoder."""
        return self.layers(hidden)
