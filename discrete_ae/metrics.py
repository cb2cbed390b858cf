"""Measurements of codes and of audio: use of codebooks, SI-SDR, levels over time and frequency.

Axes: B batch, C audio channels, N samples, K codebooks, T frames.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_LIMIT = 1e-10  # added to both powers as a share of the reconstruction's power: 100 dB
WIDTH, HEIGHT = 320, 96
"""Size of a picture of levels, in pixels."""
LEVELS_DB = (-80.0, 0.0)
"""Levels from dark to bright, the same for all pictures, so that they can be compared."""


class CodeUsage:
    """Usage, perplexity and entropy of codes, by their counts.

    `compute` returns scalars: "usage", the fraction of entries used at least once, mean over codebooks, in [0, 1];
    "perplexity", exp of the entropy of the code distribution, mean over codebooks; "entropy_bits", bits per frame,
    summed over codebooks. All are 0 before the first update.

    Args:
        codebook_sizes: entries of each of the K >= 1 codebooks.
    """

    counts: Tensor
    """(K, largest size) int64."""

    def __init__(self, codebook_sizes: Sequence[int]) -> None:
        self.codebook_sizes = tuple(codebook_sizes)
        self.counts = torch.zeros(len(self.codebook_sizes), max(self.codebook_sizes), dtype=torch.int64)

    def update(self, codes: Tensor) -> None:
        """Count codes (B, K, T) int64."""
        num_codebooks, size = self.counts.shape
        offsets = torch.arange(num_codebooks, device=codes.device)[:, None] * size
        flat = (codes + offsets).flatten()
        self.counts.view(-1).index_add_(0, flat, torch.ones_like(flat))  # bincount makes a GPU wait in every step

    def compute(self) -> dict[str, Tensor]:
        """Return usage, perplexity and entropy_bits; see the class."""
        counts = self.counts.cpu().double()  # not every accelerator has float64
        shares = counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
        entropy_nats = torch.special.entr(shares).sum(dim=1)
        seen = counts.any(dim=1)
        return {
            "usage": ((counts > 0).sum(dim=1) / torch.tensor(self.codebook_sizes)).mean(),
            "perplexity": (entropy_nats.exp() * seen).mean().float(),
            "entropy_bits": (entropy_nats.sum() / math.log(2)).float(),
        }


def si_sdr_db(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Compute the scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, arXiv:1811.02508) in dB.

    Args:
        reconstruction: audio (B, C, N).
        target: audio (B, C, N).

    Returns:
        Ratios (M,) of the channels that are not silent in the target, M <= B C; the ratio is undefined for silence.
        Ratios are kept within 100 dB of 0; otherwise, perfect and silent reconstructions would have infinite ratios.
    """
    audible = target.abs().amax(dim=-1) > 0
    # Scaled to unit length, so that the level has no influence. torchmetrics adds a constant to each power instead,
    # which biases the ratio of quiet audio and gives a silent reconstruction 0 dB.
    found, wanted = (F.normalize(audio[audible].float(), dim=-1) for audio in (reconstruction, target))
    share = (found * wanted).sum(dim=-1, keepdim=True)
    distortion = (found - share * wanted).square().sum(dim=-1)
    silent = found.abs().amax(dim=-1) == 0
    signal = share.squeeze(-1).square()
    return 10 * torch.log10((signal + _LIMIT) / (torch.where(silent, 1.0, distortion) + _LIMIT))


def levels_db(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Return the level of the strongest sine in every mel band and time interval, (HEIGHT, WIDTH), lowest band first.

    The bands cover 0 Hz to half the sample rate, the intervals the whole duration. A sine of full scale has 0 dB,
    silence -120 dB. The maximum is taken rather than the sum, so that narrow and wide bands can be compared.

    Args:
        audio: samples (N,), N >= 1.
        sample_rate: sample rate in Hz.
    """
    stretch = len(audio) / WIDTH
    # At least 32 ms, to resolve harmonics of speech; longer in long clips, so that no time is left out.
    length = max(round(0.032 * sample_rate), int(2 * stretch), 2)
    points = 4 << (length - 1).bit_length()
    starts = ((np.arange(WIDTH) + 0.5) * stretch).astype(int)
    padded = np.pad(audio, (length // 2, length))
    window = np.hanning(length + 1)[:-1]
    frames = padded[starts[:, None] + np.arange(length)] * window
    amplitude = np.abs(np.fft.rfft(frames, points)) / (window.sum() / 2)

    edges_hz = 700 * (10 ** (np.linspace(0, mel(sample_rate / 2), HEIGHT + 1) / 2595) - 1)
    edges = (edges_hz / sample_rate * points).astype(int)
    return 20 * np.log10(np.maximum.reduceat(amplitude, edges[:-1], axis=1).T + 1e-6)


def mel(hz: float) -> float:
    """Return a frequency on the mel scale of `levels_db` (O'Shaughnessy 1987)."""
    return float(2595 * np.log10(1 + hz / 700))
