"""ConvNeXt block over frames (Liu et al. 2022, arXiv:2201.03545), as Vocos uses it (Siuzdak 2023, arXiv:2306.00814)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_ae.model.layers import Conv
from discrete_ae.model.span import Span


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time and a pointwise network, added to the input.

    Works on (B, T, D): the pointwise part, which is most of the work, then needs no transposition.

    Args:
        dim: D.
        kernel_size: frames seen, odd unless causal.
        depth: blocks in the stack; the residual branch starts at 1 / depth, so that the stack starts near the identity.
        expansion: the pointwise network has expansion * D hidden units.
        causal: whether no frame after the own one is seen.

    Raises:
        ValueError: for an even kernel size that is not causal.
    """

    def __init__(self, dim: int, kernel_size: int, depth: int, expansion: int = 3, causal: bool = False) -> None:
        super().__init__()
        self.depthwise = Conv(dim, dim, kernel_size, causal=causal, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, expansion * dim)
        self.narrow = nn.Linear(expansion * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), 1 / depth))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        branch = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.narrow(F.gelu(self.widen(self.norm(branch))))

    def input_span(self, outputs: Span) -> Span:
        """See MixesTime; the kernel always reaches its own frame."""
        return self.depthwise.input_span(outputs)
