"""Spectra of the windowed frames of a signal, and the adjoint of that linear map, both written out.

The map reflects half a window at both ends, cuts frames a quarter of a window apart, weights them by a Hann window and
takes the real DFT. Its adjoint carries a gradient of the spectra back to the samples without a recorded graph. Bins
lie along the last axis, where the FFT and the products with a mel bank run over adjacent numbers.

Axes: M signals, N samples, T frames, W window length, F = W // 2 + 1 bins.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FramedDFT(nn.Module):
    """Linear map of signals (M, N) to spectra (M, T, F) complex, and its adjoint.

    A signal shorter than a window is filled up with silence first; of length N' then, it has 1 + N' // (W // 4) frames.

    Args:
        window_length: W in samples, at least 4.

    Raises:
        ValueError: for a window below 4 samples, of which there is no quarter.
    """

    window: Tensor

    def __init__(self, window_length: int) -> None:
        super().__init__()
        self.window_length = at_least_4_samples(window_length)
        self.hop = window_length // 4
        self.margin = window_length // 2
        self.register_buffer("window", torch.hann_window(window_length), persistent=False)

    def forward(self, signals: Tensor) -> Tensor:
        """Spectra (M, T, F) of signals (M, N), in their precision."""
        padded = F.pad(filled_up(signals, self.window_length), (self.margin, self.margin), mode="reflect")
        frames = padded.unfold(-1, self.window_length, self.hop)
        return torch.fft.rfft(frames * self.window.to(frames.dtype))

    def adjoint(self, gradient: Tensor, num_samples: int) -> Tensor:
        """Gradient (M, num_samples) of the signals, for a gradient (M, T, F) of the spectra, which is overwritten.

        A complex gradient is that of the real part plus i times that of the imaginary part.
        """
        # irfft counts a bin twice if it stands for its mirror image too: all but the first and an even window's last.
        torch.view_as_real(gradient)[..., 1 : (self.window_length + 1) // 2, :].mul_(0.5)
        frames = torch.fft.irfft(gradient, n=self.window_length, norm="forward")
        frames *= self.window.to(frames.dtype)
        length, margin = max(num_samples, self.window_length), self.margin
        padded = self._overlap_add(frames, length + 2 * margin)
        signals = padded[:, margin : margin + length]
        signals[:, 1 : margin + 1].add_(padded[:, :margin].flip(-1))
        signals[:, -margin - 1 : -1].add_(padded[:, -margin:].flip(-1))
        return signals[:, :num_samples]

    def _overlap_add(self, frames: Tensor, length: int) -> Tensor:
        """Sum (M, length) of frames (M, T, W) at their places, a hop's share of all of them at a time."""
        count, shifts = frames.shape[1], -(-self.window_length // self.hop)
        hops = max(count + shifts, -(-length // self.hop))
        sums = frames.new_zeros((len(frames), hops, self.hop))
        for shift in range(shifts):
            share = frames[..., shift * self.hop : (shift + 1) * self.hop]
            sums[:, shift : shift + count, : share.shape[-1]].add_(share)
        return sums.flatten(1)[:, :length]


def filled_up(audio: Tensor, length: int) -> Tensor:
    """Audio (..., N) with silence after it, of at least `length` samples: half a window of less cannot be mirrored."""
    return F.pad(audio, (0, length - audio.shape[-1])) if audio.shape[-1] < length else audio


def at_least_4_samples(window_length: int) -> int:
    """The window's length, whose quarter is a hop.

    Raises:
        ValueError: for one that has none.
    """
    if window_length < 4:
        raise ValueError(f"window_lengths: expected at least 4 samples, got {window_length}")
    return window_length
