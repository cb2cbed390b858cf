"""The autoencoder, with both families: lengths, codes, consistency, refusals."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from discrete_ae.model import (
    ConvDecoder,
    ConvEncoder,
    Decoder,
    DiscreteAutoencoder,
    Encoder,
    SpectralDecoder,
    SpectralEncoder,
)
from discrete_ae.model.layers import Downsample, Upsample
from discrete_ae.model.spectral import ConvNeXtBlock
from discrete_ae.quantizers import GumbelSoftmaxQuantizer, IdentityQuantizer, Quantizer, ScalarQuantizer
from discrete_ae.rounding import StraightThrough
from tests.refusals import assert_refused


def conv(channels: int, strides: tuple[int, ...] = (2, 3)) -> tuple[Encoder, Decoder]:
    arguments = {"channels": channels, "width": 4, "strides": strides, "dim": 8}
    return ConvEncoder(**arguments), ConvDecoder(**arguments)


def spectral(channels: int, hop_length: int = 6) -> tuple[Encoder, Decoder]:
    arguments = {"channels": channels, "hop_length": hop_length, "dim": 8, "depth": 2, "kernel_size": 3}
    return SpectralEncoder(**arguments), SpectralDecoder(**arguments)


FAMILIES = {
    "conv": conv,
    "conv of odd strides": lambda channels: conv(channels, (3, 1, 5)),
    "spectral": spectral,
    "spectral of odd hop": lambda channels: spectral(channels, 7),
    "spectral of hop 1": lambda channels: spectral(channels, 1),
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def ste() -> Quantizer:
    return ScalarQuantizer([4, 3], 2, StraightThrough())


def build(family: str, channels: int = 1, quantizer: Quantizer | None = None) -> DiscreteAutoencoder:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        encoder, decoder = FAMILIES[family](channels)
        model = DiscreteAutoencoder(600, encoder, quantizer or ste(), decoder)
        with torch.no_grad():  # an untrained encoder is nearly constant; spread its latents, so that many codes occur
            latents = model.latents(noise(1, channels, 600))
            model.to_latents.weight.div_(latents.std(dim=(0, 2))[:, None, None])
            model.to_latents.bias.copy_((model.to_latents.bias - latents.mean(dim=(0, 2))) / latents.std(dim=(0, 2)))
        return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_every_encoder_and_decoder_is_seen_here():
    def concrete(cls):
        own = [child for child in cls.__subclasses__() if child.__module__.startswith("discrete_ae")]
        return set(own).union(*map(concrete, own))

    encoders, decoders = zip(*(build(1) for build in FAMILIES.values()), strict=True)
    assert {type(encoder) for encoder in encoders} == concrete(Encoder)
    assert {type(decoder) for decoder in decoders} == concrete(Decoder)


# Lengths and shapes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@every_family
def test_any_length_comes_back_and_has_the_ceiling_of_frames(family, channels):
    model = build(family, channels).eval()
    hop = model.hop_length
    for n in sorted({1, 2, hop - 1, hop, hop + 1, 2 * hop, 2 * hop + 1, 101} - {0}):
        audio, frames = noise(2, channels, n), math.ceil(n / hop)
        out, codes = model(audio), model.encode(audio)
        assert out.reconstruction.shape == (2, channels, n)
        assert out.latents.shape == (2, model.quantizer.dim, frames)
        assert codes.shape == (2, 2, frames)
        assert torch.equal(codes, out.codes)
        assert torch.equal(model.decode(codes, n), out.reconstruction)  # the same network on the same batch
        whole = model.decode(codes)
        assert whole.shape == (2, channels, frames * hop)
        assert torch.equal(whole[..., :n], out.reconstruction)


def test_encode_is_the_same_in_training_and_leaves_mode_and_generator():
    model = build("conv", quantizer=GumbelSoftmaxQuantizer(5, 3, 2)).eval()
    audio = noise(3, 1, 131)
    codes = model.encode(audio)
    assert codes.unique().numel() > 2
    assert not model.decode(codes).requires_grad
    model.train()
    state = torch.get_rng_state()
    assert torch.equal(model.encode(audio), codes)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    # Codes are what a language model is trained on: an embedding keeps them for its backward pass.
    torch.nn.Embedding(5, 2)(codes).sum().backward()


def test_latents_that_are_no_numbers_have_no_code():
    model = build("conv")
    with torch.no_grad():
        model.to_latents.bias[0] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite latents"):
        model.encode(noise(1, 1, 100))


@pytest.mark.parametrize("family", ["conv", "spectral"])
def test_latents_are_not_rounded_under_autocast(family):
    """The 1x1 convolution of the rounded hidden frames is computed in float32, so that codes do not jump."""
    model = build(family).eval()
    heard = []
    model.encoder.register_forward_hook(lambda *call: heard.append(call[-1]))
    audio = noise(1, 1, 600)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        latents = model.latents(audio)
    hidden, weight, bias = (x.double() for x in (heard[0], model.to_latents.weight[..., 0], model.to_latents.bias))
    expected = torch.einsum("de,bet->bdt", weight, hidden) + bias[:, None]
    assert latents.dtype == torch.float32
    torch.testing.assert_close(latents.double(), expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(latents, latents.bfloat16().float())


# Learning and independence --------------------------------------------------------------------------------------------


@every_family
def test_every_parameter_learns(family):
    model = build(family, channels=2)
    audio = noise(2, 2, 200)
    (model(audio).reconstruction - audio).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@every_family
def test_no_item_depends_on_the_others_in_its_batch(family):
    model = build(family).eval()
    first, second = noise(3, 1, 100), noise(3, 1, 100, seed=1)
    mixed = torch.cat([second[:1], first[1:2], second[2:]])
    # The same shapes, so that the same kernels run: only the neighbours' contents differ.
    assert torch.equal(model(mixed).reconstruction[1], model(first).reconstruction[1])
    assert torch.equal(model(mixed).latents[1], model(first).latents[1])


def test_identity_reconstructs_from_its_latents():
    model = build("spectral", quantizer=IdentityQuantizer(3)).eval()
    audio = noise(1, 1, 50)
    out = model(audio)
    assert out.codes.shape == (1, 0, 9)  # ceil(50 / 6)
    assert torch.equal(model.reconstruct(out.latents, 50), out.reconstruction)
    with pytest.raises(ValueError, match="no codes"):
        model.encode(audio)


# Refusals -------------------------------------------------------------------------------------------------------------


def test_halves_that_do_not_fit_are_refused():
    # The published mistake: the decoder's strides written in the order in which it undoes them.
    with pytest.raises(ValueError, match=r"strides: the encoder has \(2, 3\), the decoder \(3, 2\).*encoder's"):
        DiscreteAutoencoder(600, conv(1, (2, 3))[0], ste(), conv(1, (3, 2))[1])
    with pytest.raises(ValueError, match=r"strides: the encoder has \(6,\), the decoder \(5,\)"):
        DiscreteAutoencoder(600, spectral(1, 6)[0], ste(), spectral(1, 5)[1])
    with pytest.raises(ValueError, match="channels: the encoder has 1, the decoder 2"):
        DiscreteAutoencoder(600, conv(1)[0], ste(), conv(2)[1])
    for rate in (0, 99, 2**40, 2**70, 8000.5, 8000.0, True):
        with pytest.raises(ValueError, match=r"sample_rate: expected whole Hz from 100 to 768000, got "):
            DiscreteAutoencoder(rate, conv(1)[0], ste(), conv(1)[1])


WRONG: dict[str, list] = {
    "channels": [0, -1, 1.5, "many"],
    "dim": [0, "many"],
    "strides": [[], [0], [2, -1], [2.5], [math.nan], ["two"]],
    "width": [-4],
    "kernel_size": [0, 4, -1],
    "compress": [0, 9],
    "dilations": [[0]],
    "frame_dilations": [[1, -2]],
    "activation": ["relu"],
    "norm": ["batch"],
    "hop_length": [0, 2.5],
}


@pytest.mark.parametrize("cls", [ConvEncoder, ConvDecoder, SpectralEncoder, SpectralDecoder])
def test_wrong_numbers_are_refused_by_name(cls):
    is_conv = cls in (ConvEncoder, ConvDecoder)
    right = {"channels": 1, "dim": 8} | ({"width": 4, "strides": [2]} if is_conv else {"hop_length": 4, "depth": 1})
    takes = inspect.signature(cls).parameters
    wrong = {name: values for name, values in WRONG.items() if name in takes}
    assert_refused(cls, wrong, **right)


def test_wrong_audio_is_refused():
    model = build("conv", channels=2)
    for shape in ((2, 50), (50,), (1, 1, 50), (1, 3, 50), (1, 2, 0), (1, 2, 50, 1)):
        for use in (model, model.encode):
            with pytest.raises(ValueError, match=r"audio: expected shape \(batch, 2, samples\).*got \("):
                use(torch.zeros(shape))
    for dtype in (torch.int16, torch.float64):
        with pytest.raises(ValueError, match=rf"audio: expected torch.float32 in .*, got {dtype}"):
            model.encode(torch.zeros(1, 2, 50, dtype=dtype))
    for given in (np.zeros((1, 2, 50), np.float32), [[[0.0] * 50] * 2]):
        for use in (model, model.encode):
            with pytest.raises(ValueError, match=r"audio: expected a tensor \(batch, 2, samples\), got (ndarray|list)"):
                use(given)
    assert model.double().encode(torch.zeros(1, 2, 50, dtype=torch.float64)).dtype == torch.int64


def test_wrong_codes_and_numbers_of_samples_are_refused():
    model = build("conv")
    codes = torch.zeros(1, 2, 4, dtype=torch.int64)
    available = 4 * model.hop_length
    for n in (0, -1, available + 1):
        with pytest.raises(ValueError, match=rf"num_samples: expected 1 to {available} for 4 frames .*got {n}"):
            model.decode(codes, n)
    with pytest.raises(ValueError, match="codes: expected"):
        model.decode(codes + 12)
    with pytest.raises(ValueError, match="codes: expected shape"):
        model.decode(codes[:, :1])
    for given in (codes.numpy(), codes.tolist()):
        with pytest.raises(ValueError, match=r"codes: expected a tensor, got (ndarray|list)"):
            model.decode(given)


# Layers ---------------------------------------------------------------------------------------------------------------


def test_decoder_undoes_the_strides_from_the_last_to_the_first():
    encoder, decoder = conv(1, (2, 5, 3))
    assert [layer.conv.stride[0] for layer in encoder.modules() if isinstance(layer, Downsample)] == [2, 5, 3]
    assert [layer.stride for layer in decoder.modules() if isinstance(layer, Upsample)] == [3, 5, 2]


def test_block_starts_as_the_identity_plus_a_share():
    block = ConvNeXtBlock(6, 5, depth=4)
    x = noise(2, 9, 6)
    with torch.no_grad():
        block.scale.zero_()
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("layers", [{}, {"activation": "snake", "norm": "weight"}])
def test_codes_of_an_untrained_conv_model_depend_on_the_audio(layers):
    arguments = {"channels": 1, "width": 16, "strides": (2, 4, 5), "dim": 32, **layers}
    quantizer = ScalarQuantizer([4], 20, StraightThrough())
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        model = DiscreteAutoencoder(8000, ConvEncoder(**arguments), quantizer, ConvDecoder(**arguments))
    # Without biases, as ELU and Snake map 0 to 0, silence is exactly 0 everywhere: no latent has an offset.
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 400)).latents.count_nonzero() == 0
        assert model.reconstruct(torch.zeros(1, 20, 10), 400).count_nonzero() == 0
    codes = model.encode(0.1 * noise(1, 1, 8000))
    # A channel of 200 frames that is positive as often as negative is constant with a probability of 2^-199.
    assert (codes.amax(-1) > codes.amin(-1)).all()
