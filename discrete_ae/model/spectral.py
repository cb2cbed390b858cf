"""Frame-rate network: all learned layers run at the frame rate, between two fixed transforms.

ConvNeXt blocks between a spectral front and a spectral head, as in Vocos (Siuzdak 2023, arXiv:2306.00814) and
WavTokenizer (Ji et al. 2024, arXiv:2408.16532). The transforms differ: here they are lapped transforms of two hops,
with levels as additional features. After 8 minutes of training on speech, the mel distance was 0.33 and SI-SDR was
6.4 dB. Coefficients without levels gave 0.56 and 7.0 dB, and an inverse STFT gave 0.50 and 5.6 dB (one seed each,
benchmarks/results/recipe.md).

Axes: B batch, C audio channels, D hidden channels, T frames, H hop length.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_ae.checks import true_or_false, whole_number
from discrete_ae.model.base import Decoder, Encoder, Span, State, after_past, input_span, step
from discrete_ae.model.frames import FRONTS, HEADS, cut, overlap_add
from discrete_ae.model.layers import Conv, require_choice

Front = Literal["leveled", "lapped", "stft", "patch"]
Head = Literal["auto", "envelope", "lapped", "istft", "patch"]


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time and a pointwise network, added to the input (Liu et al. 2022, arXiv:2201.03545).

    The block works on (B, T, D): the pointwise part, which is most of the work, then needs no transposition.

    Args:
        dim: number of channels, D.
        kernel_size: number of input frames per output frame, odd unless causal.
        depth: number of blocks in the stack. The residual branch is initially scaled by 1 / depth, so that the stack
            starts near the identity.
        expansion: number of hidden units of the pointwise network per channel; it has expansion * D in all.
        causal: whether a frame depends only on itself and earlier frames.

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
        """Map (B, T, D) to (B, T, D)."""
        return self._joined(x, self.depthwise(x.transpose(1, 2)))

    def _joined(self, x: Tensor, depthwise: Tensor) -> Tensor:
        return x + self.scale * self.narrow(F.gelu(self.widen(self.norm(depthwise.transpose(1, 2)))))

    def input_span(self, outputs: Span) -> Span:
        """See MixesTime; the kernel always includes its own frame, so the residual connection adds no inputs."""
        return self.depthwise.input_span(outputs)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See MixesTime."""
        depthwise, state = self.depthwise.step(x.transpose(1, 2), state)
        return self._joined(x, depthwise), state


class SpectralEncoder(Encoder):
    """Fixed transform, a linear map to D channels, ConvNeXt blocks.

    Args:
        channels: number of audio channels, C.
        hop_length: number of samples per frame, H.
        dim: number of hidden channels, D.
        depth: number of blocks.
        kernel_size: number of input frames per output frame of one block, odd unless causal.
        front: "leveled" or "lapped" (windows of 2 H), "stft" (4 H) or "patch" (H).
        causal: whether a frame depends only on its own and earlier samples; its window then ends with the frame.

    Raises:
        ValueError: for an unknown front, or an even kernel that is not causal.
    """

    def __init__(
        self,
        channels: int,
        hop_length: int,
        dim: int,
        depth: int,
        kernel_size: int = 7,
        front: Front = "lapped",
        causal: bool = False,
    ) -> None:
        super().__init__(channels, dim, [whole_number("hop_length", hop_length, 1)])
        channels, dim, hop_length = self.channels, self.dim, self.hop_length
        require_choice("front", front, Front)
        causal = true_or_false("causal", causal)
        self.front = FRONTS[front](hop_length)
        overlap = (self.front.hops - 1) * hop_length
        self.before = overlap if causal else overlap // 2
        self.project = nn.Linear(self.front.num_features * channels, dim)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(dim, kernel_size, depth, causal=causal) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, audio: Tensor) -> Tensor:
        """See Encoder."""
        frames = self._projected(cut(audio, self.hop_length, self.front.hops, self.before))
        return self.norm(self.blocks(frames)).transpose(1, 2)

    def _projected(self, windows: Tensor) -> Tensor:
        """Return frames (B, T, D) of windows (B, C, T, W)."""
        return self.project(self.front(windows).transpose(1, 2).flatten(2))

    def input_span(self, outputs: Span) -> Span:
        """See Encoder."""
        frames = input_span(self.blocks, outputs)
        first, last = (frame * self.hop_length - self.before for frame in frames)
        return Span(first, last + self.front.hops * self.hop_length - 1)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See Half."""
        samples, blocks = state or (None, None)
        x, samples = after_past(x, samples, self.before)
        windows = x.unfold(-1, self.front.hops * self.hop_length, self.hop_length)
        frames, blocks = step(self.blocks, self._projected(windows), blocks)
        return self.norm(frames).transpose(1, 2), (samples, blocks)


class SpectralDecoder(Decoder):
    """ConvNeXt blocks, a linear map to the features of a fixed transform, overlap-add.

    Args:
        channels: number of audio channels, C.
        hop_length: number of samples per frame, H.
        dim: number of hidden channels, D.
        depth: number of blocks.
        kernel_size: number of input frames per output frame of one block, odd unless causal.
        head: "envelope" or "lapped" (windows of 2 H), "istft" (4 H) or "patch" (H). "auto" is "envelope", or "patch" if
            causal. None is for the first stored models, which do not name their head: it is "lapped", or "patch" if
            causal.
        causal: whether a sample depends only on its own and earlier frames.

    Raises:
        ValueError: for an unknown head, an even kernel that is not causal, or a causal decoder with windows longer than
            a hop.
    """

    def __init__(
        self,
        channels: int,
        hop_length: int,
        dim: int,
        depth: int,
        kernel_size: int = 7,
        head: Head | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__(channels, dim, [whole_number("hop_length", hop_length, 1)])
        channels, dim, hop_length = self.channels, self.dim, self.hop_length
        causal = true_or_false("causal", causal)
        if head is not None:
            require_choice("head", head, Head)
        if head in (None, "auto"):
            overlapping: Head = "lapped" if head is None else "envelope"
            head = "patch" if causal else overlapping
        self.head = HEADS[head](hop_length)
        if causal and self.head.hops > 1:
            # The first half of each window would fade in, over samples that no other frame of a causal model codes.
            raise ValueError(f"head: expected 'patch' for a causal decoder, whose frames do not overlap, got {head!r}")
        self.before = (self.head.hops - 1) * hop_length // 2
        self.blocks = nn.Sequential(*(ConvNeXtBlock(dim, kernel_size, depth, causal=causal) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, self.head.num_features * channels)
        self.head.start_quietly(self.project)

    def forward(self, hidden: Tensor) -> Tensor:
        """See Decoder."""
        return overlap_add(self._windows(self.blocks(hidden.transpose(1, 2))), self.hop_length, self.before)

    def _windows(self, frames: Tensor) -> Tensor:
        """Return windows (B, C, T, W) of frames (B, T, D)."""
        features = self.project(self.norm(frames))  # (B, T, C F)
        return self.head(features.unflatten(2, (self.channels, -1)).transpose(1, 2))

    def input_span(self, outputs: Span) -> Span:
        """See Decoder."""
        first, last = (sample + self.before for sample in outputs)
        hop = self.hop_length
        return input_span(self.blocks, Span(first // hop - self.head.hops + 1, last // hop))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See Half; the windows of a causal decoder do not overlap."""
        frames, state = step(self.blocks, x.transpose(1, 2), state)
        return self._windows(frames).flatten(2), state
