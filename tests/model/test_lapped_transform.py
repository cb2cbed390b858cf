"""The lapped transform of the spectral family against its definition and its perfect reconstruction.

Axes: B batch, C audio channels, N samples, T frames, H hop length.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discrete_ae.model.spectral import SpectralDecoder, SpectralEncoder, lapped_basis

every_hop = pytest.mark.parametrize("hop", [1, 2, 5, 8, 64])


def overlap_add(frames: np.ndarray, hop: int) -> np.ndarray:
    """(T, 2 H) to ((T + 1) H,), one frame after the other."""
    out = np.zeros((len(frames) + 1) * hop)
    for t, frame in enumerate(frames):
        out[t * hop : (t + 2) * hop] += frame
    return out


@every_hop
def test_basis_is_the_definition(hop):
    cosine, sine = lapped_basis(hop)
    n, k = np.meshgrid(np.arange(2 * hop), np.arange(hop), indexing="ij")
    # Princen & Bradley 1986 with the sine window: w(n) sqrt(2/H) cos(pi/H (n + 1/2 + H/2)(k + 1/2))
    window = np.sin(np.pi * (n + 0.5) / (2 * hop))
    phase = np.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5)
    np.testing.assert_allclose(cosine.numpy(), window * math.sqrt(2 / hop) * np.cos(phase), rtol=0, atol=1e-7)
    np.testing.assert_allclose(sine.numpy(), window * math.sqrt(2 / hop) * np.sin(phase), rtol=0, atol=1e-7)


@every_hop
def test_cosine_basis_is_orthonormal_within_and_between_frames(hop):
    basis = lapped_basis(hop)[0].double()
    gram = basis.T @ basis
    torch.testing.assert_close(gram, torch.eye(hop, dtype=torch.float64), rtol=0, atol=1e-6)
    # The second half of a frame is orthogonal to the first half of the next: no energy is counted twice.
    neighbours = basis[hop:].T @ basis[:hop]
    torch.testing.assert_close(neighbours, torch.zeros(hop, hop, dtype=torch.float64), rtol=0, atol=1e-6)


@every_hop
def test_forward_and_inverse_reconstruct_the_interior(hop):
    basis = lapped_basis(hop)[0].double().numpy()
    signal = np.random.default_rng(0).standard_normal(12 * hop)
    frames = np.stack([signal[t * hop : (t + 2) * hop] for t in range(11)])
    rebuilt = overlap_add((frames @ basis) @ basis.T, hop)
    # All but the first and the last hop lie in two frames, whose aliasing cancels; the basis is rounded to float32.
    np.testing.assert_allclose(rebuilt[hop:-hop], signal[hop:-hop], rtol=0, atol=1e-5)
    # The test would see a missing cancellation: one frame alone is far off.
    assert np.abs((frames @ basis) @ basis.T - frames).max() > 0.1


class _Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def bare(hop: int, channels: int) -> tuple[SpectralEncoder, SpectralDecoder]:
    """The two halves with the learned part replaced: hidden frames are the cosine coefficients themselves."""
    dim = hop * channels
    encoder = SpectralEncoder(channels, hop, dim, depth=0)
    decoder = SpectralDecoder(channels, hop, dim, depth=0)
    encoder.norm, decoder.norm = _Nothing(), _Nothing()
    with torch.no_grad():
        # Coefficients lie channel by channel: for each of them H cosines, then H sines.
        cosines = torch.eye(2 * dim).unflatten(0, (channels, 2, hop))[:, 0].flatten(0, 1)
        encoder.project.weight.copy_(cosines)
        decoder.project.weight.copy_(torch.eye(dim))
        for half in (encoder, decoder):
            half.project.bias.zero_()
    return encoder, decoder


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("hop", [2, 5, 8, 64])
def test_encoder_and_decoder_frames_fit_one_another(hop, channels):
    encoder, decoder = bare(hop, channels)
    audio = torch.randn(2, channels, 9 * hop, generator=torch.Generator().manual_seed(0))
    rebuilt = decoder(encoder(audio))
    assert rebuilt.shape == audio.shape
    # All but the half hop at each end lies in two frames.
    inside = slice(hop, -hop)
    torch.testing.assert_close(rebuilt[..., inside], audio[..., inside], rtol=0, atol=2e-5)


def test_an_error_in_the_coefficients_is_the_same_error_in_the_waveform():
    hop = 16
    _, decoder = bare(hop, 1)
    error = torch.zeros(1, hop, 9)
    error[0, :, 3:6] = torch.randn(hop, 3, generator=torch.Generator().manual_seed(1))
    # An orthonormal transform keeps the energy (Parseval).
    assert decoder(error).square().sum().item() == pytest.approx(error.square().sum().item(), rel=1e-5)
