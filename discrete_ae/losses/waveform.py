"""Losses in the time domain. Each takes (reconstruction, target), both (B, C, N), and returns a scalar."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_ae import checks
from discrete_ae.checks import positive

_LIMIT = 1e-10  # added to shares of the power: 100 dB


class WaveformL1(nn.Module):
    """Mean absolute difference of the samples."""

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return F.l1_loss(reconstruction, target)


class LogSNR(nn.Module):
    """ln(1 + noise power / signal power), mean over the batch: 0 for a perfect copy, ln 2 for silence.

    This logarithmic signal-to-noise ratio is bounded below. Near 0 dB it is as steep as the ratio in decibels. Without
    such a term, magnitude losses do not constrain the phase, and thus the waveform.

    If a network cannot predict the phase, silence minimizes this term: high frequencies become too faint. With a
    cutoff, high frequencies count less: a second-order Butterworth low-pass multiplies their power by
    1 / (1 + (f / cutoff)^4).

    Args:
        cutoff_hz: frequency at which the low-pass is down by 3 dB; None weights all frequencies equally.
        sample_rate: sample rate in Hz, required with a cutoff.
        floor_db: minimum of the signal's power in dB full scale, so that silence has a finite loss.

    Raises:
        ValueError: for a cutoff or sample rate that is not above 0, or a cutoff without a sample rate.
    """

    def __init__(self, cutoff_hz: float | None = None, sample_rate: int | None = None, floor_db: float = -70.0) -> None:
        super().__init__()
        if cutoff_hz is not None:
            positive("cutoff_hz", cutoff_hz)
            if sample_rate is None:
                raise ValueError("sample_rate: expected a number of Hz with cutoff_hz, got None")
            checks.sample_rate("sample_rate", sample_rate)
        self.cutoff_hz, self.sample_rate = cutoff_hz, sample_rate
        self.floor = 10 ** (floor_db / 10)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        signal = self._power(target).clamp_min(self.floor)
        noise = self._power(reconstruction - target)
        return torch.log1p(noise / signal).mean()

    def _power(self, audio: Tensor) -> Tensor:
        """Return the mean square (B,) of audio (B, C, N) after the low-pass."""
        if self.cutoff_hz is not None and self.sample_rate is not None:
            hertz = torch.fft.rfftfreq(audio.shape[-1], 1 / self.sample_rate, device=audio.device)
            amplitude = (1 + (hertz / self.cutoff_hz) ** 4).rsqrt()
            audio = torch.fft.irfft(torch.fft.rfft(audio) * amplitude, n=audio.shape[-1])
        return audio.square().mean(dim=(1, 2))


class NegativeSISDR(nn.Module):
    """Negative scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, arXiv:1811.02508).

    The value is within 100 dB of 0. It is the mean over channels whose target is not silent, since the ratio is
    undefined for silence, or 0 if all targets are silent. It does not depend on the reconstruction's level. Combine it
    with another term that does.

    Args:
        floor_db: minimum power of a reconstruction in dB full scale. If the power is lower, the missing power counts as
            distortion, so that silence has a finite gradient and a bad value.
    """

    def __init__(self, floor_db: float = -70.0) -> None:
        super().__init__()
        self.floor = 10 ** (floor_db / 10)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        power = reconstruction.square().mean(dim=-1, keepdim=True)
        counted = power.clamp_min(self.floor)
        found = reconstruction / (counted * target.shape[-1]).sqrt()  # of unit length, shorter below the floor
        wanted = F.normalize(target, dim=-1)
        share = (found * wanted).sum(dim=-1, keepdim=True)
        missing = 1 - (power / counted).squeeze(-1)
        distortion = (found - share * wanted).square().sum(dim=-1) + missing
        ratio_db = 10 * torch.log10((share.squeeze(-1).square() + _LIMIT) / (distortion + _LIMIT))
        audible = target.abs().amax(dim=-1) > 0
        return -torch.where(audible, ratio_db, 0.0).sum() / audible.sum().clamp_min(1)
