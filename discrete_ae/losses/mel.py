"""L1 distance of log mel spectrograms at several window lengths, with its gradient in closed form.

Kumar et al. 2023 (arXiv:2306.06546, section 3.5). The spectrograms are of magnitudes, with Hann windows and hops of a
quarter window. Mel bands are triangles of height 1 on the HTK scale; in the paper they have area 1 on Slaney's scale.

With autograd, this loss would keep the frames, spectra, magnitudes and bands of every window length until the backward
pass. Instead the gradient is computed along with the value, one window length after the other, and only the gradient is
kept.

Axes: B batch, C audio channels, N samples, M = B C signals, T frames, F bins.
"""

import math
import warnings
from collections.abc import Sequence

import torch
import torchaudio.functional as audio_functional
from torch import Tensor, nn

from discrete_ae.losses.balancer import with_gradient
from discrete_ae.losses.stft import FramedDFT

_TINY = 1e-25  # minimum magnitude to divide by, so that the quotient at 0 is finite


class MultiScaleMel(nn.Module):
    """Mean over window lengths of mean |log10 mel(reconstruction) - log10 mel(target)|.

    With many bands and a short window, a band may be too narrow to include a bin, as in the paper's settings. Such a
    band adds 0. The gradient goes to the reconstruction alone, and cannot be differentiated again.

    Args:
        sample_rate: sample rate in Hz.
        window_lengths: window lengths in samples, each at least 4.
        num_mels: number of mel bands for each window length.
        floor: minimum of mel magnitudes; lower ones are raised to it.

    Raises:
        ValueError: if window_lengths and num_mels differ in length or are empty, or a window is too short.
    """

    def __init__(
        self, sample_rate: int, window_lengths: Sequence[int], num_mels: Sequence[int], floor: float = 1e-5
    ) -> None:
        super().__init__()
        if not window_lengths or len(window_lengths) != len(num_mels):
            raise ValueError(
                f"expected one num_mels for each of window_lengths, got {list(num_mels)} for {list(window_lengths)}"
            )
        self.scales = nn.ModuleList(
            _MelScale(sample_rate, length, bands, floor) for length, bands in zip(window_lengths, num_mels, strict=True)
        )

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Return the distance, a scalar of at least 0, of a reconstruction (B, C, N) from target (B, C, N).

        Computed in float32 even under autocast, and in float64 for a reconstruction in float64.
        """
        wants_gradient = torch.is_grad_enabled() and reconstruction.requires_grad
        reconstruction = reconstruction.to(torch.promote_types(reconstruction.dtype, torch.float32))
        with torch.no_grad(), torch.autocast(target.device.type, enabled=False):
            found, wanted = reconstruction.flatten(0, 1), target.to(reconstruction.dtype).flatten(0, 1)
            distances, gradients = zip(*(scale(found, wanted, wants_gradient) for scale in self.scales), strict=True)
            distance = torch.stack(distances).mean()
        if not wants_gradient:
            return distance
        gradient = torch.stack(gradients).mean(dim=0)
        return with_gradient(distance, reconstruction, gradient.view_as(reconstruction))


class _MelScale(nn.Module):
    """The distance at one window length, and its gradient."""

    bank: Tensor

    def __init__(self, sample_rate: int, window_length: int, num_mels: int, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.dft = FramedDFT(window_length)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero values")
            bank = audio_functional.melscale_fbanks(window_length // 2 + 1, 0.0, sample_rate / 2, num_mels, sample_rate)
        self.register_buffer("bank", bank, persistent=False)  # (F, num_mels)

    def forward(self, found: Tensor, wanted: Tensor, wants_gradient: bool) -> tuple[Tensor, Tensor | None]:
        """Return the distance of signals (M, N), and its gradient (M, N) with respect to `found`."""
        bank = self.bank.to(found.dtype)
        spectra, magnitudes, mels, goal = self._analyzed(found, wanted, bank)
        held, goal = mels.clamp_min(self.floor), goal.clamp_min(self.floor)
        distance = (held / goal).log10_().abs_().mean()
        if not wants_gradient:
            return distance, None
        # d/da mean |log10 a - log10 b| = sign(a - b) / (a ln 10) / number of bands; 0 below the floor.
        of_mels = (held - goal).sign_().mul_(mels >= self.floor).div_(held * (math.log(10) * mels.numel()))
        # d|z| / dz = z / |z|.
        over_magnitudes = (of_mels @ bank.T).div_(magnitudes.clamp_min_(_TINY))
        torch.view_as_real(spectra).mul_(over_magnitudes[..., None])  # no compiler fuses complex products
        return distance, self.dft.adjoint(spectra, found.shape[-1])

    def _analyzed(self, found: Tensor, wanted: Tensor, bank: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return spectra, magnitudes and mels of `found`, and the mels of `wanted`."""
        if found.device.type == "cpu":  # one signal after the other, so that results stay in the cache
            goal = _magnitudes(self.dft(wanted)) @ bank
            spectra = self.dft(found)
            magnitudes = _magnitudes(spectra)
            return spectra, magnitudes, magnitudes @ bank, goal
        spectra = self.dft(torch.cat([found, wanted]))  # on a GPU, this launches half as many kernels
        magnitudes = _magnitudes(spectra)
        mels, goal = (magnitudes @ bank).chunk(2)
        return spectra[: len(found)], magnitudes[: len(found)], mels, goal


def _magnitudes(spectra: Tensor) -> Tensor:
    """Return absolute values; on a CPU abs() takes 2.5 times as long."""
    real, imaginary = torch.view_as_real(spectra).unbind(-1)
    return real.square().addcmul_(imaginary, imaginary).sqrt_()
