"""Frame-rate network: everything learned happens once a frame, between two fixed lapped transforms.

The encoder reads each frame through the modulated complex lapped transform (Malvar 1999): cosine and sine
projections of a sine-windowed frame of two hops. The decoder writes modified discrete cosine transform coefficients
(Princen & Bradley 1986), whose overlap-add is orthonormal: an error in the coefficients is the same error in the
waveform. In between are ConvNeXt blocks, as in Vocos (Siuzdak 2023, arXiv:2306.00814); ours differs in the fixed
transform, which learns faster than a trained one where data and time are short.

Axes: B batch, C audio channels, D hidden channels, T frames, H hop length.
"""

import math

import torch
from torch import Tensor, nn

from discrete_ae.model.base import Decoder, Encoder
from discrete_ae.model.layers import ConvNeXtBlock


def lapped_basis(hop_length: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine bases (2 H, H) of the lapped transform, with the sine window; the cosine basis is orthonormal."""
    n = torch.arange(2 * hop_length, dtype=torch.float64)[:, None] + 0.5
    k = torch.arange(hop_length, dtype=torch.float64)[None] + 0.5
    window = torch.sin(math.pi * n / (2 * hop_length)) * math.sqrt(2 / hop_length)
    angle = math.pi / hop_length * (n + hop_length / 2) * k
    return (window * torch.cos(angle)).float(), (window * torch.sin(angle)).float()


class SpectralEncoder(Encoder):
    """Lapped transform, a linear map to D channels, ConvNeXt blocks.

    Args:
        channels: C, audio channels.
        hop_length: H, samples per frame; a frame spans 2 H.
        dim: D, hidden channels.
        depth: number of blocks.
        kernel_size: frames seen by one block, odd.
    """

    basis: Tensor

    def __init__(self, channels: int, hop_length: int, dim: int, depth: int, kernel_size: int = 7) -> None:
        super().__init__(channels, dim, [hop_length])
        self.register_buffer("basis", torch.cat(lapped_basis(hop_length), dim=1), persistent=False)
        self.project = nn.Linear(2 * hop_length * channels, dim)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(dim, kernel_size, depth) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, audio: Tensor) -> Tensor:
        """See Encoder."""
        hop = self.hop_length
        before = hop // 2
        frames = nn.functional.pad(audio, (before, hop - before)).unfold(-1, 2 * hop, hop)  # (B, C, T, 2 H)
        coefficients = (frames @ self.basis).transpose(1, 2).flatten(2)
        return self.norm(self.blocks(self.project(coefficients))).transpose(1, 2)


class SpectralDecoder(Decoder):
    """ConvNeXt blocks, a linear map to transform coefficients, overlap-add.

    Args:
        channels: C, audio channels.
        hop_length: H, samples per frame.
        dim: D, hidden channels.
        depth: number of blocks.
        kernel_size: frames seen by one block, odd.
    """

    basis: Tensor

    def __init__(self, channels: int, hop_length: int, dim: int, depth: int, kernel_size: int = 7) -> None:
        super().__init__(channels, dim, [hop_length])
        self.register_buffer("basis", lapped_basis(hop_length)[0].T.contiguous(), persistent=False)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(dim, kernel_size, depth) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, hop_length * channels)
        with torch.no_grad():
            self.project.weight.mul_(0.1)  # the first reconstruction is quiet: louder noise is worse than silence

    def forward(self, hidden: Tensor) -> Tensor:
        """See Decoder."""
        hop = self.hop_length
        coefficients = self.project(self.norm(self.blocks(hidden.transpose(1, 2))))
        frames = coefficients.unflatten(2, (self.channels, hop)).transpose(1, 2) @ self.basis  # (B, C, T, 2 H)
        first, second = frames.unflatten(-1, (2, hop)).unbind(-2)
        pad = nn.functional.pad
        overlapped = pad(first, (0, 0, 0, 1)) + pad(second, (0, 0, 1, 0))
        before = hop // 2
        return overlapped.flatten(2)[..., before : before + hidden.shape[-1] * hop]
