"""The receptive field that every family states, against where a perturbation of one input shows.

Axes: B batch, C audio channels, T frames, H hop length.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from discrete_ae.model import (
    ConvDecoder,
    ConvEncoder,
    Decoder,
    DiscreteAutoencoder,
    Encoder,
    SpectralDecoder,
    SpectralEncoder,
)
from discrete_ae.model.base import MixesTime, Span, input_span
from discrete_ae.model.layers import Conv, Downsample, ResidualUnit, Upsample
from discrete_ae.quantizers import IdentityQuantizer

CONV = {"channels": 2, "width": 4, "strides": (2, 3), "dim": 6}
SPECTRAL = {"channels": 2, "hop_length": 6, "dim": 8, "depth": 2, "kernel_size": 3}
PAIRS: dict[str, Callable[[bool], tuple[Encoder, Decoder]]] = {
    "conv": lambda causal: (ConvEncoder(**CONV, causal=causal), ConvDecoder(**CONV, causal=causal)),
    "conv of DAC": lambda causal: tuple(
        cls(**CONV, dilations=(1, 3, 9), kernel_size=7, compress=1, activation="snake", norm="weight", causal=causal)
        for cls in (ConvEncoder, ConvDecoder)
    ),
    "conv with units at the frame rate": lambda causal: tuple(
        cls(**CONV, dilations=(1,), frame_dilations=(1, 2), frame_kernel_size=5, causal=causal)
        for cls in (ConvEncoder, ConvDecoder)
    ),
    "conv of one stride": lambda causal: tuple(
        cls(channels=1, width=4, strides=(1,), dim=6, causal=causal) for cls in (ConvEncoder, ConvDecoder)
    ),
    "spectral": lambda causal: (SpectralEncoder(**SPECTRAL, causal=causal), SpectralDecoder(**SPECTRAL, causal=causal)),
    "spectral, lapped": lambda causal: (
        SpectralEncoder(**SPECTRAL, front="lapped", causal=causal),
        SpectralDecoder(**SPECTRAL, head="patch" if causal else "lapped", causal=causal),
    ),
    "spectral of STFTs": lambda causal: (
        SpectralEncoder(**SPECTRAL, front="stft", causal=causal),
        SpectralDecoder(**SPECTRAL, head="patch" if causal else "istft", causal=causal),
    ),
    "spectral of patches": lambda causal: (
        SpectralEncoder(**SPECTRAL, front="patch", causal=causal),
        SpectralDecoder(**SPECTRAL, head="patch", causal=causal),
    ),
}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
causal_or_not = pytest.mark.parametrize("causal", [False, True], ids=["centred", "causal"])


def build(pair: Callable[[bool], tuple[Encoder, Decoder]], causal: bool) -> tuple[Encoder, Decoder]:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        encoder, decoder = pair(causal)
        return encoder.double(), decoder.double()


def seen(function: Callable[[Tensor], Tensor], shape: tuple[int, ...], output: int) -> Span:
    """First and last input index at which a change moves the output at one index: where the gradient is not 0."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    y = function(x)[..., output]
    mixed = (y * torch.randn(y.shape, generator=generator, dtype=torch.float64)).sum()
    moved = torch.autograd.grad(mixed, x)[0].abs().sum(dim=(0, 1)).nonzero().flatten()
    return Span(int(moved[0]), int(moved[-1]))


@causal_or_not
@every_pair
def test_a_frame_sees_the_samples_that_the_encoder_states(pair, causal):
    encoder, _ = build(pair, causal)
    hop, stated = encoder.hop_length, encoder.input_span(Span(0, 0))
    frame = -stated.first // hop + 2
    total = frame + stated.last // hop + 3
    found = seen(encoder, (1, encoder.channels, total * hop), frame)
    assert Span(*(sample - frame * hop for sample in found)) == stated
    if causal:
        assert stated.last == hop - 1


@causal_or_not
@every_pair
def test_a_sample_sees_the_frames_that_the_decoder_states(pair, causal):
    _, decoder = build(pair, causal)
    hop = decoder.hop_length
    for sample in range(hop):
        stated = decoder.input_span(Span(sample, sample))
        frame = -stated.first + 2
        found = seen(decoder, (1, decoder.dim, frame + stated.last + 3), frame * hop + sample)
        assert Span(*(index - frame for index in found)) == stated
        if causal:
            assert stated.last == 0


@causal_or_not
@pytest.mark.parametrize("pair", [PAIRS["conv"], PAIRS["spectral"]], ids=["conv", "spectral"])
def test_the_autoencoder_states_its_receptive_field_and_look_ahead(pair, causal):
    encoder, decoder = build(pair, causal)
    model = DiscreteAutoencoder(16000, encoder, IdentityQuantizer(3), decoder).double()
    # The quantizer computes in float32; what is perturbed here passes around it.
    hop, field, ahead = model.hop_length, model.receptive_field_samples, model.look_ahead_samples
    frame = field // hop + 2
    widest, latest = 0, 0
    for n in range(frame * hop, (frame + 1) * hop):
        found = seen(
            lambda audio: model.reconstruct(model.latents(audio), audio.shape[-1]),
            (1, model.channels, (2 * frame + 1) * hop),
            n,
        )
        assert found == model.input_span(Span(n, n))
        widest, latest = max(widest, found.last - found.first + 1), max(latest, found.last - n)
    assert (field, ahead) == (widest, latest)
    if causal:
        assert ahead == hop - 1


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3, 8])
def test_strided_layers_look_at_their_own_step_and_its_neighbourhood(stride, causal):
    down, up = Downsample(1, 1, stride, causal=causal), Upsample(1, 1, stride, causal=causal)
    with torch.no_grad():
        for layer in (down, up):
            layer.conv.weight.fill_(1.0)
            layer.conv.bias.zero_()
    # Columns: the steps that see each input. Step t has its own s inputs, and s more, half on either side or before.
    sees = down(torch.eye(6 * stride)[:, None])[:, 0]
    # Columns: the outputs that each step writes: its own s, and s more, half on either side or after.
    writes = up(torch.eye(6)[:, None])[:, 0].T
    for t in range(6):
        expected_seen, expected_written = torch.zeros(6 * stride), torch.zeros(6 * stride)
        first = t * stride - (stride if causal else stride // 2)
        expected_seen[max(first, 0) : first + 2 * stride] = 1
        first = t * stride - (0 if causal else stride // 2)
        expected_written[max(first, 0) : first + 2 * stride] = 1
        assert torch.equal(sees[:, t], expected_seen)
        assert torch.equal(writes[:, t], expected_written)


def test_a_sequence_is_traced_from_its_last_layer():
    # Kernel 3 sees 1 on either side, kernel 5 sees 2.
    assert input_span(nn.Sequential(Conv(1, 1, 3), nn.ELU(), Conv(1, 1, 5)), Span(0, 0)) == Span(-3, 3)
    assert isinstance(ResidualUnit(4), MixesTime)
    assert not isinstance(nn.Conv1d(1, 1, 1), MixesTime)
