"""Frame-rate network: everything learned happens once a frame, between two fixed transforms.

ConvNeXt blocks between a spectral front and a spectral head, as in Vocos (Siuzdak 2023, arXiv:2306.00814) and
WavTokenizer (Ji et al. 2024, arXiv:2408.16532). Ours differs in the default transform, a lapped one of two hops:
trained for minutes, it ended 1 dB SI-SDR above learned frames.

Axes: B batch, C audio channels, D hidden channels, T frames, S subframes, F features of a window, H hop length.
"""

from typing import Literal

from torch import Tensor, nn

from discrete_ae.checks import true_or_false, whole_number
from discrete_ae.model.base import Decoder, Encoder
from discrete_ae.model.convnext import ConvNeXtBlock
from discrete_ae.model.frames import FRONTS, HEADS, cut, overlap_add
from discrete_ae.model.layers import require_choice
from discrete_ae.model.span import Span, input_span

Front = Literal["lapped", "compressed", "leveled", "stft", "patch"]
Head = Literal["lapped", "envelope", "istft", "patch"]


class SpectralEncoder(Encoder):
    """Fixed transform, a linear map to D channels, ConvNeXt blocks.

    Args:
        channels: C, audio channels.
        hop_length: H, samples per frame.
        dim: D, hidden channels.
        depth: number of blocks.
        kernel_size: frames seen by one block, odd.
        front: "lapped" or "compressed" (windows of 2 h), "stft" (4 h) or "patch" (h), with h = H / S.
        causal: whether a frame depends on no sample after its own; its window then ends with it.
        subframes: S, windows to a frame; with more of them time is resolved more finely, and frequency less.

    Raises:
        ValueError: for an unknown front, an even kernel, or an H that S does not divide.
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
        subframes: int = 1,
        subframe_dim: int = 0,
        subframe_depth: int = 0,
    ) -> None:
        super().__init__(channels, dim, [hop_length])
        require_choice("front", front, Front)
        true_or_false("causal", causal)
        self.subframes = subframes
        self.front = FRONTS[front](_hop_of_windows(hop_length, subframes))
        overlap = (self.front.hops - 1) * self.front.hop_length
        self.before = overlap if causal else overlap // 2
        if subframe_depth:
            self.project_subframes = nn.Linear(self.front.num_features * channels, subframe_dim)
            self.subframe_blocks = _stack(subframe_dim, kernel_size, subframe_depth, causal)
            self.project = nn.Linear(subframe_dim * subframes, dim)
        else:
            self.project = nn.Linear(self.front.num_features * channels * subframes, dim)
        self.subframe_depth = subframe_depth
        self.blocks = _stack(dim, kernel_size, depth, causal)
        self.norm = nn.LayerNorm(dim)

    def forward(self, audio: Tensor) -> Tensor:
        """See Encoder."""
        features = self.front(cut(audio, self.front.hop_length, self.front.hops, self.before))  # (B, C, T S, F)
        if self.subframe_depth:
            fine = self.subframe_blocks(self.project_subframes(features.transpose(1, 2).flatten(2)))
            frames = fine.unflatten(1, (-1, self.subframes)).flatten(2)
        else:
            frames = features.unflatten(2, (-1, self.subframes)).transpose(1, 2).flatten(2)  # (B, T, C S F)
        return self.norm(self.blocks(self.project(frames))).transpose(1, 2)

    def input_span(self, outputs: Span) -> Span:
        """See Encoder."""
        first, last = input_span(self.blocks, outputs)
        subframes = Span(first * self.subframes, last * self.subframes + self.subframes - 1)
        if self.subframe_depth:
            subframes = input_span(self.subframe_blocks, subframes)
        first, last = (subframe * self.front.hop_length - self.before for subframe in subframes)
        return Span(first, last + self.front.hops * self.front.hop_length - 1)


class SpectralDecoder(Decoder):
    """ConvNeXt blocks, a linear map to the features of a fixed transform, overlap-add.

    Args:
        channels: C, audio channels.
        hop_length: H, samples per frame.
        dim: D, hidden channels.
        depth: number of blocks.
        kernel_size: frames seen by one block, odd.
        head: "lapped" or "envelope" (windows of 2 h), "istft" (4 h) or "patch" (h), with h = H / S; None is "lapped",
            or "patch" if causal.
        causal: whether a sample depends on no frame after its own.
        subframes: S, windows to a frame.

    Raises:
        ValueError: for an unknown head, an even kernel, a causal decoder with windows longer than h, or an H that S
            does not divide.
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
        subframes: int = 1,
        subframe_dim: int = 0,
        subframe_depth: int = 0,
    ) -> None:
        super().__init__(channels, dim, [hop_length])
        true_or_false("causal", causal)
        head = head or ("patch" if causal else "lapped")
        require_choice("head", head, Head)
        self.subframes = subframes
        self.head = HEADS[head](_hop_of_windows(hop_length, subframes))
        if causal and self.head.hops > 1:
            # Its first half would fade in over the samples that only this frame knows.
            raise ValueError(f"head: expected 'patch' for a causal decoder, whose frames do not overlap, got {head!r}")
        self.before = (self.head.hops - 1) * self.head.hop_length // 2
        self.blocks = _stack(dim, kernel_size, depth, causal)
        self.subframe_depth = subframe_depth
        if subframe_depth:
            self.project_frames = nn.Linear(dim, subframe_dim * subframes)
            self.subframe_blocks = _stack(subframe_dim, kernel_size, subframe_depth, causal)
            self.norm = nn.LayerNorm(subframe_dim)
            self.project = nn.Linear(subframe_dim, self.head.num_features * channels)
        else:
            self.norm = nn.LayerNorm(dim)
            self.project = nn.Linear(dim, self.head.num_features * channels * subframes)
        self.head.start_quietly(self.project)

    def forward(self, hidden: Tensor) -> Tensor:
        """See Decoder."""
        frames = self.blocks(hidden.transpose(1, 2))
        if self.subframe_depth:
            fine = self.project_frames(frames).unflatten(2, (self.subframes, -1)).flatten(1, 2)  # (B, T S, D')
            features = self.project(self.norm(self.subframe_blocks(fine))).unflatten(2, (self.channels, -1))
            features = features.transpose(1, 2)
        else:
            features = self.project(self.norm(frames))  # (B, T, C S F)
            features = features.unflatten(2, (self.channels, self.subframes, -1)).transpose(1, 2).flatten(2, 3)
        return overlap_add(self.head(features), self.head.hop_length, self.before)

    def input_span(self, outputs: Span) -> Span:
        """See Decoder."""
        first, last = (sample + self.before for sample in outputs)
        part = self.head.hop_length
        subframes = Span(first // part - self.head.hops + 1, last // part)
        if self.subframe_depth:
            subframes = input_span(self.subframe_blocks, subframes)
        return input_span(self.blocks, Span(*(subframe // self.subframes for subframe in subframes)))


def _hop_of_windows(hop_length: int, subframes: int) -> int:
    """Samples from one window to the next."""
    if hop_length % whole_number("subframes", subframes, 1):
        raise ValueError(f"subframes: expected a divisor of hop_length, which is {hop_length}, got {subframes}")
    return hop_length // subframes


def _stack(dim: int, kernel_size: int, depth: int, causal: bool) -> nn.Sequential:
    return nn.Sequential(*(ConvNeXtBlock(dim, kernel_size, depth, causal=causal) for _ in range(depth)))
