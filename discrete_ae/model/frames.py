"""Fixed transforms between audio and frames, with windows of one, two or four hops.

- lapped: the modulated complex lapped transform (Malvar 1999) of two hops, cosine and sine projections under a sine
  window. The cosine part alone is the modified discrete cosine transform (Princen & Bradley 1986). Its overlap-add is
  orthonormal, so an error in the coefficients is an equal error in the waveform.
- leveled: the lapped front, and the logarithms of its magnitudes. In linear coefficients alone, a network sees little
  except the loudest ones. In logarithms alone, it sees little of the waveform.
- envelope: the lapped head, where each coefficient is the product of one output and the exponential of another. The
  level of a spectrum and its fine structure thus come from different outputs.
- stft, istft: the Fourier transform of four hops under a Hann window. The inverse takes log magnitude and phase, as in
  Vocos (Siuzdak 2023, arXiv:2306.00814, section 3.1).
- patch: the unchanged samples of one hop.

Axes: B batch, C audio channels, N samples, T frames, H hop length, W window length in samples, F features.
"""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

HANN_OVERLAP = 1.5  # sum of the squares of Hann windows at distances of a quarter of their length
LOUDEST = 5.0  # largest log magnitude
QUIETEST = 1e-4  # added to magnitudes, so that silence has a finite logarithm
MIDDLE = -2.0  # a typical log10 magnitude of speech


def lapped_basis(hop_length: int) -> tuple[Tensor, Tensor]:
    """Return the cosine and sine bases (2 H, H), sine window included; the cosine basis is orthonormal."""
    n = torch.arange(2 * hop_length, dtype=torch.float64)[:, None] + 0.5
    k = torch.arange(hop_length, dtype=torch.float64)[None] + 0.5
    window = torch.sin(math.pi * n / (2 * hop_length)) * math.sqrt(2 / hop_length)
    angle = math.pi / hop_length * (n + hop_length / 2) * k
    return (window * torch.cos(angle)).float(), (window * torch.sin(angle)).float()


def hann_window(length: int) -> Tensor:
    """Return a Hann window whose zeros are half a sample outside it, so that no sample has the weight 0."""
    return torch.sin(math.pi * (torch.arange(length, dtype=torch.float64) + 0.5) / length).square().float()


def cut(audio: Tensor, hop_length: int, hops: int, before: int) -> Tensor:
    """Return windows (B, C, T, hops H) of audio (B, C, T H); window t begins `before` samples before sample t H."""
    after = (hops - 1) * hop_length - before
    return pad(audio, (before, after)).unfold(-1, hops * hop_length, hop_length)


def overlap_add(windows: Tensor, hop_length: int, before: int) -> Tensor:
    """Return audio (B, C, T H), the sum of windows (B, C, T, W); window t begins `before` samples before sample t H."""
    frames = windows.shape[-2]
    first, *others = windows.unflatten(-1, (-1, hop_length)).unbind(-2)
    total = pad(first, (0, 0, 0, len(others)))
    for j, part in enumerate(others, 1):
        total = total + pad(part, (0, 0, j, len(others) - j))
    return total.flatten(2)[..., before : before + frames * hop_length]


def _single(x: Tensor) -> Tensor:
    """Return x in at least float32: in half precision, the quiet part of a spectrum would be lost."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Disable autocast on the device of x; the meta device has no autocast."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


class Transform(nn.Module):
    """Transform of windows (..., W) to features (..., F), or of features to windows.

    Args:
        hop_length: number of samples per hop, H.
    """

    hops: int
    """W / H."""
    num_features: int
    """F."""

    def __init__(self, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length

    def start_quietly(self, project: nn.Linear) -> None:
        """Scale down the linear map to the features, so that the first reconstructions are quiet, not loud noise."""
        with torch.no_grad():
            project.weight.mul_(0.1)


class LappedFront(Transform):
    """Windows of two hops to cosine and sine coefficients."""

    hops = 2
    basis: Tensor

    def __init__(self, hop_length: int) -> None:
        super().__init__(hop_length)
        self.num_features = 2 * hop_length
        self.register_buffer("basis", torch.cat(lapped_basis(hop_length), dim=1), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """See Transform."""
        with full_precision(windows):
            return _single(windows) @ self.basis


class LappedHead(Transform):
    """Cosine coefficients to windows of two hops."""

    hops = 2
    basis: Tensor

    def __init__(self, hop_length: int) -> None:
        super().__init__(hop_length)
        self.num_features = hop_length
        self.register_buffer("basis", lapped_basis(hop_length)[0].T.contiguous(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """See Transform."""
        with full_precision(features):
            return _single(features) @ self.basis


class LeveledFront(LappedFront):
    """Windows of two hops to cosine and sine coefficients, and the logarithms of their magnitudes."""

    def __init__(self, hop_length: int) -> None:
        super().__init__(hop_length)
        self.num_features = 3 * hop_length

    def forward(self, windows: Tensor) -> Tensor:
        """See Transform; the two kinds of features are scaled so that they vary about equally for typical speech."""
        with full_precision(windows):
            coefficients = super().forward(windows)
            cosines, sines = coefficients.chunk(2, dim=-1)
            power = cosines.square() + sines.square()
            levels = (power + QUIETEST**2).log10() / 2 - MIDDLE
            return torch.cat([10 * coefficients, levels], dim=-1)


class EnvelopeHead(LappedHead):
    """Pairs of values to windows of two hops; a cosine coefficient is the first value times exp of the second."""

    def __init__(self, hop_length: int) -> None:
        super().__init__(hop_length)
        self.num_features = 2 * hop_length

    def forward(self, features: Tensor) -> Tensor:
        """See Transform."""
        with full_precision(features):
            values, logarithms = _single(features).chunk(2, dim=-1)
            return super().forward(values * logarithms.clamp_max(LOUDEST).exp())


class STFTFront(Transform):
    """Windows of four hops to real and imaginary parts of their orthonormal spectrum."""

    hops = 4
    window: Tensor

    def __init__(self, hop_length: int) -> None:
        super().__init__(hop_length)
        self.num_features = 4 * hop_length + 2
        self.register_buffer("window", hann_window(4 * hop_length), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """See Transform."""
        with full_precision(windows):
            spectrum = torch.fft.rfft(_single(windows) * self.window, norm="ortho")
        return torch.cat([spectrum.real, spectrum.imag], dim=-1)


class ISTFTHead(Transform):
    """Log magnitudes and phases to windows of four hops."""

    hops = 4
    window: Tensor
    inner: Tensor

    def __init__(self, hop_length: int) -> None:
        super().__init__(hop_length)
        self.num_features = 4 * hop_length + 2
        self.register_buffer("window", hann_window(4 * hop_length) / HANN_OVERLAP, persistent=False)
        # The lowest and the highest bin must be real; implementations of the inverse treat other values differently.
        self.register_buffer("inner", pad(torch.ones(2 * hop_length - 1), (1, 1)), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """See Transform."""
        with full_precision(features):
            log_magnitude, phase = _single(features).chunk(2, dim=-1)
            magnitude = log_magnitude.clamp_max(LOUDEST).exp()
            spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin() * self.inner)
            return torch.fft.irfft(spectrum, n=4 * self.hop_length, norm="ortho") * self.window

    def start_quietly(self, project: nn.Linear) -> None:
        """See Transform."""
        super().start_quietly(project)
        with torch.no_grad():
            project.bias.view(-1, 2, self.num_features // 2)[:, 0] -= 4


class Patch(Transform):
    """The samples of one hop."""

    hops = 1

    def __init__(self, hop_length: int) -> None:
        super().__init__(hop_length)
        self.num_features = hop_length

    def forward(self, x: Tensor) -> Tensor:
        """See Transform."""
        return x


FRONTS = {
    "lapped": LappedFront,
    "leveled": LeveledFront,
    "stft": STFTFront,
    "patch": Patch,
}
HEADS = {"lapped": LappedHead, "envelope": EnvelopeHead, "istft": ISTFTHead, "patch": Patch}
