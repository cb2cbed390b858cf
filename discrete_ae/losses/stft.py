"""Short-time spectra with Hann windows and hops of a quarter window, and distances between them.

Each distance takes (reconstruction, target), both (B, C, N), and returns a scalar.

Axes: M signals, N samples, T frames, W window length, F = W // 2 + 1 bins.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FramedDFT(nn.Module):
    """Linear map of signals (..., N) to complex spectra (..., T, F), and its adjoint.

    The map reflects half a window at both ends, cuts frames, multiplies them by the window and takes the real DFT. Bins
    are the last axis, so that the FFT and products with a mel bank read adjacent numbers. A signal shorter than a
    window is padded with silence first. A signal of N' samples after this padding has 1 + N' // (W // 4) frames.

    Autograd differentiates the map. The adjoint maps a gradient of the spectra to the samples without a recorded graph.

    Args:
        window_length: W in samples, at least 4.
        is_normalized: whether to divide bins by the window's norm: white noise of power 1 then has bins of power 1 with
            any window.

    Raises:
        ValueError: for a window of fewer than 4 samples, since its hop of a quarter window would be 0.
    """

    window: Tensor

    def __init__(self, window_length: int, is_normalized: bool = False) -> None:
        super().__init__()
        if window_length < 4:
            raise ValueError(f"window_lengths: expected at least 4 samples, got {window_length}")
        self.window_length = window_length
        self.hop = window_length // 4
        self.margin = window_length // 2
        window = torch.hann_window(window_length)
        self.register_buffer("window", window / window.norm() if is_normalized else window, persistent=False)

    def forward(self, signals: Tensor) -> Tensor:
        """Return spectra (..., T, F) of signals (M, N) or (B, C, N), in their precision."""
        missing = max(0, self.window_length - signals.shape[-1])  # a shorter signal could not be reflected
        padded = F.pad(F.pad(signals, (0, missing)), (self.margin, self.margin), mode="reflect")
        frames = padded.unfold(-1, self.window_length, self.hop)
        return torch.fft.rfft(frames * self.window.to(frames.dtype))

    def adjoint(self, gradient: Tensor, num_samples: int) -> Tensor:
        """Return the gradient (M, num_samples) of the signals for a gradient (M, T, F) of the spectra.

        The tensor `gradient` is overwritten. Its values are gradients of real parts plus i times gradients of imaginary
        parts.
        """
        # irfft counts a bin twice if the bin also stands for its mirror image. Only the first bin, and the last bin of
        # an even window, have no mirror image.
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
        """Return the overlap-added sum (M, length) of frames (M, T, W), adding one hop of every frame at a time."""
        count, shifts = frames.shape[1], -(-self.window_length // self.hop)
        hops = max(count + shifts, -(-length // self.hop))
        sums = frames.new_zeros((len(frames), hops, self.hop))
        for shift in range(shifts):
            share = frames[..., shift * self.hop : (shift + 1) * self.hop]
            sums[:, shift : shift + count, : share.shape[-1]].add_(share)
        return sums.flatten(1)[:, :length]


class MultiResolutionSTFT(nn.Module):
    """Spectral convergence plus log magnitude L1, mean over window lengths (Yamamoto et al. 2020, arXiv:1910.11480).

    Args:
        window_lengths: window lengths in samples, each at least 4.
        floor: minimum of magnitudes; lower ones are raised to it.

    Raises:
        ValueError: if there is no window length, or one is below 4.
    """

    def __init__(self, window_lengths: Sequence[int] = (512, 1024, 2048), floor: float = 1e-5) -> None:
        super().__init__()
        self.floor = floor
        self.spectra = _spectra(window_lengths)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Return the distance, a scalar."""
        distances = []
        for spectra in self.spectra:
            found, wanted = spectra(reconstruction).abs(), spectra(target).abs()
            missed = torch.linalg.vector_norm(found - wanted, dim=(1, 2, 3))
            convergence = missed / torch.linalg.vector_norm(wanted, dim=(1, 2, 3)).clamp_min(self.floor)
            log_distance = F.l1_loss(found.clamp_min(self.floor).log(), wanted.clamp_min(self.floor).log())
            distances.append(convergence.mean() + log_distance)
        return torch.stack(distances).mean()


class ComplexSTFT(nn.Module):
    """L1 distance of the real and imaginary parts of all bins, mean over window lengths; sensitive to phase.

    Bins are divided by the window's norm. A difference that is white noise of standard deviation s then has the
    distance s / sqrt(pi), about, at every window length.

    Args:
        window_lengths: window lengths in samples, each at least 4.

    Raises:
        ValueError: if there is no window length, or one is below 4.
    """

    def __init__(self, window_lengths: Sequence[int] = (512, 1024, 2048)) -> None:
        super().__init__()
        self.spectra = _spectra(window_lengths, is_normalized=True)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Return the distance, a scalar."""
        difference = reconstruction - target  # the transform is linear
        distances = [torch.view_as_real(spectra(difference)).abs().mean() for spectra in self.spectra]
        return torch.stack(distances).mean()


class CompressedSTFT(nn.Module):
    """Squared distance of bins with compressed magnitudes, mean over window lengths.

    Compression makes the error of a bin relative to its loudness, as in hearing; almost all of an uncompressed error is
    in the loudest bins. With share s the distance is (1 - s) (|X|^p - |Y|^p)^2 + s |X^p - Y^p|^2, where X^p keeps the
    phase of X (Braun & Tashev 2021, arXiv:2009.12286, equation 5). Bins are normalized as in ComplexSTFT.

    Args:
        window_lengths: window lengths in samples, each at least 4.
        exponent: exponent of the magnitudes, p, in (0, 1].
        complex_share: share of the part that depends on the phase, s, in [0, 1].
        floor: smallest magnitude to compress: each magnitude is replaced by sqrt(magnitude^2 + floor^2), so that the
            slope at 0 is finite.

    Raises:
        ValueError: for a number outside its range, no window length, or a window length below 4.
    """

    def __init__(
        self,
        window_lengths: Sequence[int] = (512,),
        exponent: float = 0.3,
        complex_share: float = 0.5,
        floor: float = 1e-4,
    ) -> None:
        super().__init__()
        if not 0 < exponent <= 1:
            raise ValueError(f"exponent: expected above 0 and at most 1, got {exponent}")
        if not 0 <= complex_share <= 1:
            raise ValueError(f"complex_share: expected 0 to 1, got {complex_share}")
        if not floor > 0:
            raise ValueError(f"floor: expected above 0, got {floor}")
        self.exponent = exponent
        self.complex_share = complex_share
        self.floor = floor
        self.spectra = _spectra(window_lengths, is_normalized=True)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Return the distance, a scalar."""
        distances = []
        for spectra in self.spectra:
            found, found_size = self._compressed(spectra(reconstruction))
            wanted, wanted_size = self._compressed(spectra(target))
            # The squares of both parts of a bin must add up, but the mean over the last axis halves their sum.
            of_bins = 2 * F.mse_loss(found, wanted)
            distances.append(
                (1 - self.complex_share) * F.mse_loss(found_size, wanted_size) + self.complex_share * of_bins
            )
        return torch.stack(distances).mean()

    def _compressed(self, spectra: Tensor) -> tuple[Tensor, Tensor]:
        """Return real and imaginary parts (..., 2) of compressed bins, and their magnitudes (...)."""
        parts = torch.view_as_real(spectra)
        power = parts.square().sum(dim=-1)
        gain = (power + self.floor**2) ** ((self.exponent - 1) / 2)
        return parts * gain[..., None], (power + self.floor**2) ** (self.exponent / 2)


def _spectra(window_lengths: Sequence[int], is_normalized: bool = False) -> nn.ModuleList:
    if not window_lengths:
        raise ValueError("window_lengths: expected at least one, got none")
    return nn.ModuleList(FramedDFT(length, is_normalized) for length in window_lengths)
