"""The transforms of the spectral family against their definitions and their perfect reconstruction.

Axes: B batch, C audio channels, N samples, T frames, H hop length.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from discrete_ae.model.frames import (
    FRONTS,
    HEADS,
    EnvelopeHead,
    ISTFTHead,
    LappedHead,
    LeveledFront,
    Patch,
    STFTFront,
    cut,
    lapped_basis,
    overlap_add,
)
from discrete_ae.model.spectral import SpectralDecoder, SpectralEncoder

every_hop = pytest.mark.parametrize("hop", [1, 5, 64])


@every_hop
def test_basis_is_the_definition(hop):
    cosine, sine = lapped_basis(hop)
    n, k = np.meshgrid(np.arange(2 * hop), np.arange(hop), indexing="ij")
    # Princen & Bradley 1986 with the sine window: w(n) sqrt(2/H) cos(pi/H (n + 1/2 + H/2)(k + 1/2))
    window = np.sin(np.pi * (n + 0.5) / (2 * hop))
    phase = np.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5)
    np.testing.assert_allclose(cosine.numpy(), window * math.sqrt(2 / hop) * np.cos(phase), rtol=0, atol=1e-7)
    np.testing.assert_allclose(sine.numpy(), window * math.sqrt(2 / hop) * np.sin(phase), rtol=0, atol=1e-7)


def bare(hop: int, channels: int) -> tuple[SpectralEncoder, SpectralDecoder]:
    """The two halves with the learned part replaced: hidden frames are the cosine coefficients themselves."""
    dim = hop * channels
    encoder = SpectralEncoder(channels, hop, dim, depth=0, front="lapped")
    decoder = SpectralDecoder(channels, hop, dim, depth=0, head="lapped")
    encoder.norm, decoder.norm = nn.Identity(), nn.Identity()
    with torch.no_grad():
        # Coefficients lie channel by channel: for each of them H cosines, then H sines.
        cosines = torch.eye(2 * dim).unflatten(0, (channels, 2, hop))[:, 0].flatten(0, 1)
        encoder.project.weight.copy_(cosines)
        decoder.project.weight.copy_(torch.eye(dim))
        for half in (encoder, decoder):
            half.project.bias.zero_()
    return encoder, decoder


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("hop", [5, 8])
def test_encoder_and_decoder_frames_fit_one_another(hop, channels):
    encoder, decoder = bare(hop, channels)
    audio = torch.randn(2, channels, 9 * hop, generator=torch.Generator().manual_seed(0))
    rebuilt = decoder(encoder(audio))
    assert rebuilt.shape == audio.shape
    # All but the half hop at each end lies in two frames.
    inside = slice(hop, -hop)
    torch.testing.assert_close(rebuilt[..., inside], audio[..., inside], rtol=0, atol=2e-5)


def test_the_leveled_front_has_coefficients_and_the_logarithms_of_magnitudes():
    hop = 16
    windows = np.random.default_rng(0).standard_normal((3, 2 * hop)).astype(np.float32)
    cosine, sine = (windows.astype(np.float64) @ basis.double().numpy() for basis in lapped_basis(hop))
    expected = np.concatenate([10 * cosine, 10 * sine, np.log10(np.abs(cosine + 1j * sine)) + 2], axis=-1)
    np.testing.assert_allclose(LeveledFront(hop)(torch.from_numpy(windows)).numpy(), expected, rtol=1e-4, atol=1e-4)
    silence = LeveledFront(hop)(torch.zeros(1, 2 * hop))[0]
    assert not silence[: 2 * hop].any()
    torch.testing.assert_close(silence[2 * hop :], torch.full((hop,), -2.0))  # 80 dB below 1: log10 of 1e-4, and 2


def test_an_envelope_multiplies_its_coefficients():
    hop = 16
    values, logarithms = torch.randn(2, 3, hop, generator=torch.Generator().manual_seed(0))
    expected = LappedHead(hop)(values * logarithms.exp())
    torch.testing.assert_close(EnvelopeHead(hop)(torch.cat([values, logarithms], dim=-1)), expected)


# Fourier transform and patches ----------------------------------------------------------------------------------------


@every_hop
def test_the_stft_is_numpys(hop):
    windows = np.random.default_rng(0).standard_normal((3, 4 * hop)).astype(np.float32)
    n = np.arange(4 * hop) + 0.5
    expected = np.fft.rfft(windows * np.sin(np.pi * n / (4 * hop)) ** 2, axis=-1) / math.sqrt(4 * hop)
    found = STFTFront(hop)(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(found, np.concatenate([expected.real, expected.imag], axis=-1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("hop", [5, 8])
def test_inverse_stft_of_the_stft_is_the_audio(hop):
    audio = torch.randn(2, 1, 12 * hop, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = 3 * hop // 2
    real, imaginary = STFTFront(hop)(cut(audio, hop, 4, before)).chunk(2, dim=-1)
    features = torch.cat([torch.hypot(real, imaginary).log(), torch.atan2(imaginary, real)], dim=-1)
    rebuilt = overlap_add(ISTFTHead(hop)(features), hop, before)
    assert rebuilt.shape == audio.shape
    inside = slice(3 * hop, -3 * hop)  # what lies in four windows
    torch.testing.assert_close(rebuilt[..., inside], audio[..., inside], rtol=0, atol=1e-5)


def test_windows_are_cut_and_added_where_they_say():
    audio = torch.arange(1.0, 7.0)[None, None]
    # Hop 2, windows of 4 that begin 1 sample before their frame; silence outside.
    assert cut(audio, 2, 2, 1)[0, 0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 0]]
    windows = torch.tensor([[[[1.0, 2, 3, 4], [10, 20, 30, 40], [100, 200, 300, 400]]]])
    # 1 2 13 24 130 240 300 400 from sample -1 on
    assert overlap_add(windows, 2, 1)[0, 0].tolist() == [2, 13, 24, 130, 240, 300]


@pytest.mark.parametrize("head", list(HEADS))
def test_the_first_reconstruction_is_quiet(head):
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        decoder = SpectralDecoder(2, 64, 192, depth=2, head=head)
        audio = decoder(torch.randn(2, 192, 20))
    assert 0 < audio.square().mean().sqrt() < 0.1


def test_a_causal_decoder_has_no_overlapping_windows():
    assert isinstance(SpectralDecoder(1, 4, 8, 1, head="auto").head, EnvelopeHead)
    for head in ("auto", None):
        assert isinstance(SpectralDecoder(1, 4, 8, 1, head=head, causal=True).head, Patch)
    for head in ("lapped", "envelope", "istft"):
        with pytest.raises(ValueError, match="head: expected 'patch' for a causal decoder"):
            SpectralDecoder(1, 4, 8, 1, head=head, causal=True)
    with pytest.raises(ValueError, match="head: expected one of auto, envelope, lapped, istft, patch, got 'mdct'"):
        SpectralDecoder(1, 4, 8, 1, head="mdct")
    with pytest.raises(ValueError, match="front: expected one of leveled, lapped, stft, patch, got 'mdct'"):
        SpectralEncoder(1, 4, 8, 1, front="mdct")


@pytest.mark.parametrize(("front", "head"), [("lapped", "lapped"), ("leveled", "envelope"), ("stft", "istft")])
def test_transforms_keep_float32_under_autocast(front, head):
    # In bfloat16, whose steps are 1/256, the quiet end of a steep spectrum drowns in the rounding of its loud one.
    hop, audio = 64, torch.randn(1, 1, 640, generator=torch.Generator().manual_seed(0)).cumsum(dim=-1)
    forward, back = FRONTS[front](hop), HEADS[head](hop)
    windows = cut(audio, hop, forward.hops, 0)
    features = torch.randn(1, 1, 9, back.num_features, generator=torch.Generator().manual_seed(1))
    expected = forward(windows), back(features)
    with torch.autocast("cpu", torch.bfloat16):
        found = forward(windows), back(features)
    for pair in zip(found, expected, strict=True):
        assert torch.equal(*pair)
