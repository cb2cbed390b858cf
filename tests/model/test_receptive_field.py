"""The receptive field that every family states, against where a perturbation of one input shows.

Axes: B batch, C audio channels, T frames, H hop length.
"""

import functools
from collections.abc import Callable
from typing import Any

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


def conv(causal: bool, **changed: Any) -> tuple[Encoder, Decoder]:
    arguments = {"channels": 2, "width": 4, "strides": (2, 3), "dim": 6, "causal": causal} | changed
    return ConvEncoder(**arguments), ConvDecoder(**arguments)


def spectral(causal: bool, front: str = "leveled", head: str = "auto", hop_length: int = 6) -> tuple[Encoder, Decoder]:
    arguments = {"channels": 2, "hop_length": hop_length, "dim": 8, "depth": 2, "kernel_size": 3, "causal": causal}
    return (
        SpectralEncoder(**arguments, front=front),
        SpectralDecoder(**arguments, head="patch" if causal else head),
    )


DAC = {"dilations": (1, 3, 9), "kernel_size": 7, "compress": 1, "activation": "snake", "norm": "weight"}
AT_FRAMES = {"dilations": (1,), "frame_dilations": (1, 2), "frame_kernel_size": 5}
PAIRS: dict[str, Callable[[bool], tuple[Encoder, Decoder]]] = {
    "conv": conv,
    "conv of DAC": functools.partial(conv, **DAC),
    "conv with units at the frame rate": functools.partial(conv, **AT_FRAMES),
    "conv of one stride": functools.partial(conv, strides=(1,)),
    "conv of odd strides": functools.partial(conv, strides=(3, 1, 5)),
    "spectral": spectral,
    "spectral of odd hop": functools.partial(spectral, hop_length=7),
    "spectral, lapped": functools.partial(spectral, front="lapped", head="lapped"),
    "spectral of STFTs": functools.partial(spectral, front="stft", head="istft"),
    "spectral of patches": functools.partial(spectral, front="patch", head="patch"),
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
    # The field of a centred frame has its middle within the frame or the next to it.
    assert stated.last == hop - 1 if causal else abs(stated.first + stated.last - hop + 1) <= 2 * hop


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
        assert stated.last == 0 if causal else abs(stated.first + stated.last) <= 2


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
