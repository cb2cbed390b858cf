"""Layers that the model families are built of. Axes: B batch, D channels, T time steps or frames."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time and a pointwise network, added to the input (Liu et al. 2022, arXiv:2201.03545).

    Works on (B, T, D): the pointwise part, which is most of the work, then needs no transposition.

    Args:
        dim: D.
        kernel_size: frames seen, odd.
        depth: blocks in the stack; the residual branch starts at 1 / depth, so that the stack starts near the identity.

    Raises:
        ValueError: for an even kernel size.
    """

    def __init__(self, dim: int, kernel_size: int, depth: int, expansion: int = 3) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number of frames, got {kernel_size}")
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, expansion * dim)
        self.narrow = nn.Linear(expansion * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), 1 / depth))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        branch = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.narrow(F.gelu(self.widen(self.norm(branch))))


class ResidualUnit(nn.Module):
    """ELU, a dilated convolution, ELU, a pointwise convolution, added to the input (B, D, T)."""

    def __init__(self, dim: int, dilation: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.dilated = nn.Conv1d(dim, dim // 2, kernel_size, dilation=dilation, padding=dilation * (kernel_size // 2))
        self.pointwise = nn.Conv1d(dim // 2, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, T) to (B, D, T)."""
        return x + self.pointwise(F.elu(self.dilated(F.elu(x))))


class Downsample(nn.Module):
    """Strided convolution of kernel 2 s: (B, D, T s) to (B, D', T)."""

    def __init__(self, dim_in: int, dim_out: int, stride: int) -> None:
        super().__init__()
        self.pad = (stride // 2, stride - stride // 2)
        self.conv = nn.Conv1d(dim_in, dim_out, 2 * stride, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Downsample by the stride."""
        return self.conv(F.pad(x, self.pad))


class Upsample(nn.Module):
    """Transposed convolution of kernel 2 s: (B, D, T) to (B, D', T s)."""

    def __init__(self, dim_in: int, dim_out: int, stride: int) -> None:
        super().__init__()
        self.trim = stride // 2
        self.stride = stride
        self.conv = nn.ConvTranspose1d(dim_in, dim_out, 2 * stride, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Upsample by the stride."""
        return self.conv(x)[..., self.trim : self.trim + x.shape[-1] * self.stride]
