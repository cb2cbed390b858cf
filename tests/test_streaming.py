"""Streams in any parts have the codes and the audio of the whole signal; what cannot be is refused in a line."""

import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import discrete_ae
from discrete_ae import Codec
from discrete_ae.data.reading import read_audio
from discrete_ae.errors import UsageError
from discrete_ae.inference import BLOCK, encoder_window
from discrete_ae.model import ConvDecoder, ConvEncoder, DiscreteAutoencoder, SpectralDecoder, SpectralEncoder
from discrete_ae.model.base import step
from discrete_ae.model.layers import Conv, Downsample, ResidualUnit, Upsample
from discrete_ae.quantizers import (
    GumbelSoftmaxQuantizer,
    IdentityQuantizer,
    LookupFreeQuantizer,
    ResidualQuantizer,
    ScalarQuantizer,
    VectorQuantizer,
)
from discrete_ae.rounding import StraightThrough
from discrete_ae.streaming import Decoder, Encoder
from tests.models import save_checkpoint
from tests.recordings import write_noise
from tests.scripts import python_in


def ste(**settings):
    return ScalarQuantizer([4, 4], 3, StraightThrough(), **settings)


def residual():
    return ResidualQuantizer(lambda: VectorQuantizer(16, 1, 6), 4)


def spectral(channels=1, causal=True, **arguments):
    common = {"channels": channels, "hop_length": 12, "dim": 16, "depth": 2, "kernel_size": 3, "causal": causal}
    return SpectralEncoder(**common, **arguments), SpectralDecoder(**common, head="patch" if causal else "lapped")


def conv(channels=1, causal=True, **arguments):
    common = {"channels": channels, "width": 4, "strides": [2, 3, 2], "dim": 8, "causal": causal, **arguments}
    return ConvEncoder(**common), ConvDecoder(**common)


def to_the_last_bit():
    """Codes that tell of every bit of a latent, but for the range that float32 has beyond 24 bits."""
    return ScalarQuantizer([2**24], 6, StraightThrough())


DAC = {"activation": "snake", "norm": "weight", "frame_dilations": [1], "dilations": [1]}
MODELS = {
    "spectral": lambda: (spectral(front="leveled"), ste()),
    "spectral, stereo, rvq": lambda: (spectral(2), residual()),
    "spectral, stft, gumbel": lambda: (spectral(front="stft"), GumbelSoftmaxQuantizer(16, 3, 2)),
    "spectral, patch, lfq": lambda: (spectral(front="patch"), LookupFreeQuantizer(16, 3)),
    "conv": lambda: (conv(), ste(rotation=True)),
    "conv, stereo, vq": lambda: (conv(2), VectorQuantizer(32, 2, 4)),
    "conv of DAC, rvq": lambda: (conv(**DAC), residual()),
    "spectral, to the last bit": lambda: (spectral(2, front="leveled"), to_the_last_bit()),
    "conv, to the last bit": lambda: (conv(), to_the_last_bit()),
    "conv of even kernels": lambda: (conv(kernel_size=4, strides=[1, 5]), ste()),
}


def build(name):
    torch.manual_seed(0)
    (encoder, decoder), quantizer = MODELS[name]()
    # 12 samples a frame, or 5, at 240 Hz, so that windows are short.
    return DiscreteAutoencoder(240, encoder, quantizer, decoder).eval()


BUILT = {name: build(name) for name in MODELS}
every_model = pytest.mark.parametrize("name", MODELS)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 4


def cut(signal, sizes):
    """Parts of the sizes, over and over again until the signal ends."""
    parts, at, i = [], 0, 0
    while at < signal.shape[-1]:
        parts.append(signal[..., at : at + sizes[i % len(sizes)]])
        at, i = at + sizes[i % len(sizes)], i + 1
    return parts


def streamed(stream, parts):
    return torch.cat([*map(stream.push, parts), stream.finish()], dim=-1)


sizes = st.lists(st.integers(0, 30) | st.integers(0, 300), min_size=1, max_size=6).filter(any)


@every_model
@given(frames=st.integers(0, 2 * BLOCK + 3), odd=st.integers(1, 12), sizes=sizes)
@settings(deadline=None, max_examples=8)
def test_parts_of_any_sizes_have_the_codes_and_the_audio_of_the_whole(name, frames, odd, sizes):
    model = BUILT[name]
    audio = noise(1, model.channels, frames * model.hop_length + odd, seed=frames)
    expected = Codec(model).encode(audio)
    assert torch.equal(streamed(Encoder(model), cut(audio, sizes)), expected)
    decoded = streamed(Decoder(model), cut(expected, sizes))
    torch.testing.assert_close(decoded, Codec(model).decode(expected), rtol=0, atol=1e-5)


@every_model
def test_windows_of_a_long_signal_have_the_codes_of_its_stream(name):
    model = BUILT[name]
    window = encoder_window(model)
    audio = noise(1, model.channels, (window.length + window.step + 5) * model.hop_length + 1)
    assert torch.equal(streamed(Encoder(model), audio.split(999, dim=-1)), Codec(model).encode(audio))


@every_model
def test_sample_by_sample_a_frame_leaves_with_its_last_sample(name):
    model, encoder = BUILT[name], Encoder(BUILT[name])
    hop = model.hop_length
    audio = noise(1, model.channels, (BLOCK + 2) * hop)
    frames = [encoder.push(sample).shape[-1] for sample in audio.split(1, dim=-1)]
    assert frames == [int(n % hop == hop - 1) for n in range(len(frames))]
    assert encoder.finish().shape == (1, model.quantizer.num_codebooks, 0)


@every_model
def test_codes_are_those_of_the_plain_network_but_for_its_last_bits(name):
    """An independent reference: the network over the whole signal at once, which pads its layers itself."""
    model = BUILT[name]
    audio = noise(1, model.channels, 2 * encoder_window(model).length * model.hop_length + 5)
    with torch.no_grad():
        whole = model(audio)
    found = streamed(Encoder(model), audio.split(9999, dim=-1))
    if "last bit" in name:
        assert (found - whole.codes).abs().max() < 2**24 * 1e-5
    else:
        assert (found != whole.codes).any(dim=1).sum() <= 1
    decoded = streamed(Decoder(model), whole.codes.split(7, dim=-1))
    torch.testing.assert_close(decoded[..., : audio.shape[-1]], whole.reconstruction, rtol=0, atol=1e-5)


LAYERS = {
    "kernel 1": Conv(3, 4, 1, causal=True),
    "dilated": Conv(3, 4, 4, dilation=3, causal=True),
    "grouped": Conv(3, 6, 3, causal=True, groups=3),
    "down": Downsample(3, 4, 4, causal=True),
    "down by 1": Downsample(3, 4, 1, causal=True, norm="weight"),
    "up": Upsample(3, 4, 4, causal=True, norm="weight"),
    "up by 1": Upsample(3, 4, 1, causal=True),
    "unit": ResidualUnit(3, kernel_size=5, dilation=2, causal=True, norm="weight"),
    "sequence": nn.Sequential(Downsample(3, 4, 4, causal=True), nn.ELU(), Upsample(4, 2, 4, causal=True)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_steps_of_a_layer_are_the_layer(name):
    # float64: nothing but the order of summation may differ.
    layer = LAYERS[name].double()
    x = torch.randn(2, 3, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, state = [], None
    for part in (x[..., :4], x[..., 4:8], x[..., 8:28], x[..., 28:]):
        y, state = step(layer, part, state)
        found.append(y)
    torch.testing.assert_close(torch.cat(found, dim=-1), layer(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["spectral", "conv of DAC, rvq"])
def test_items_of_a_batch_are_streams_by_themselves(name):
    model = BUILT[name]
    audio = noise(3, model.channels, 20 * model.hop_length)
    codes = streamed(Encoder(model), audio.split(31, dim=-1))
    assert torch.equal(codes, Codec(model).encode(audio))
    alone = torch.cat([streamed(Decoder(model), [item]) for item in codes.split(1)])
    assert torch.equal(streamed(Decoder(model), codes.split(5, dim=-1)), alone)


def test_whatever_the_caller_has_set_the_bits_are_the_same_and_all_is_as_before():
    model = build("conv of DAC, rvq")
    audio = noise(1, 1, 40 * 12)
    expected = Codec(model).encode(audio)
    model.train()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with torch.autocast("cpu", torch.bfloat16):
            found = streamed(Encoder(model), audio.split(100, dim=-1))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found, expected)
    assert all(part.training for part in model.modules())
    results = []
    thread = threading.Thread(target=lambda: results.append(streamed(Encoder(model), audio.split(9, dim=-1))))
    thread.start()
    thread.join()
    assert torch.equal(results[0], expected)


def test_fewer_codebooks_are_the_first_ones():
    model = BUILT["conv of DAC, rvq"]
    audio = noise(1, 1, 30 * 12)
    whole, first = streamed(Encoder(model), [audio]), streamed(Encoder(model, 2), [audio])
    assert torch.equal(first, whole[:, :2])
    torch.testing.assert_close(streamed(Decoder(model), [first]), Codec(model).decode(first), rtol=0, atol=1e-5)


def test_the_example_of_the_documentation_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("causal/checkpoints").mkdir(parents=True)
    model = discrete_ae.load(save_checkpoint(Path("causal/checkpoints/best.ckpt"), causal=True))
    samples = read_audio(write_noise("speech.wav", 16100, 16000), 16000)
    found = {}
    exec(python_in("docs/streaming.md")[0], found)
    expected = Codec(model).decode(Codec(model).encode(torch.from_numpy(samples)[None]))
    torch.testing.assert_close(found["audio"], expected, rtol=0, atol=1e-5)
    write_noise("speech.wav", 16100, 22050)
    with pytest.raises(AssertionError):
        exec(python_in("docs/streaming.md")[0])


def test_nothing_pushed_is_nothing():
    model = BUILT["conv"]
    assert Encoder(model).finish().shape == (1, 3, 0)
    assert Decoder(model).finish().shape == (1, 1, 0)
    encoder, decoder = Encoder(model), Decoder(model)
    assert encoder.push(torch.zeros(1, 1, 0)).shape == (1, 3, 0)
    assert decoder.push(torch.zeros(1, 3, 0, dtype=torch.int64)).shape == (1, 1, 0)


@pytest.mark.parametrize("stream", [Encoder, Decoder])
@pytest.mark.parametrize("family", [spectral, conv])
def test_a_model_that_is_not_causal_is_refused_with_what_to_train(family, stream):
    encoder, decoder = family(causal=False)
    model = DiscreteAutoencoder(240, encoder, ste(), decoder)
    with pytest.raises(UsageError, match=r"train one with model\.encoder\.causal=true") as refused:
        stream(model)
    assert "\n" not in str(refused.value)


def test_a_model_that_is_none_or_has_no_codes_is_refused():
    with pytest.raises(ValueError, match="model: expected"):
        Encoder("best.ckpt")
    with pytest.raises(ValueError, match="no codes"):
        Encoder(DiscreteAutoencoder(240, conv()[0], IdentityQuantizer(4), conv()[1]))
    with pytest.raises(ValueError, match="num_codebooks: expected"):
        Encoder(BUILT["conv"], 2)


AUDIO, CODES = torch.zeros(1, 2, 30), torch.zeros(1, 2, 3, dtype=torch.int64)
BAD_PUSHES = {
    "another number of channels": (Encoder, AUDIO[:, :1], r"expected a tensor \(batch, 2, samples\), got \(1, 1, 30\)"),
    "two axes": (Encoder, AUDIO[0], "expected a tensor"),
    "no tensor": (Encoder, [0.0], "expected a tensor"),
    "float64": (Encoder, AUDIO.double(), "expected torch.float32"),
    "NaN": (Encoder, AUDIO / 0, "finite"),
    "infinity": (Encoder, AUDIO + torch.inf, "finite"),
    "another batch": (Encoder, AUDIO.repeat(2, 1, 1), "expected 1 items as before, got 2"),
    "no batch": (Encoder, AUDIO[:0], "at least 1 item"),
    "codes of another vocabulary": (Decoder, CODES + 32, "0 <= code < 32"),
    "negative codes": (Decoder, CODES - 1, "0 <= code < 32"),
    "codes of fewer codebooks": (Decoder, CODES[:, :1], "expected shape"),
    "codes that are no integers": (Decoder, CODES.float(), "int64"),
    "no codes": (Decoder, "3", "expected a tensor"),
    "another batch of codes": (Decoder, CODES.repeat(2, 1, 1), "expected 1 items as before, got 2"),
}


@pytest.mark.parametrize("case", BAD_PUSHES)
def test_a_bad_push_is_refused_in_a_line_and_the_stream_goes_on(case):
    kind, given, words = BAD_PUSHES[case]
    good = noise(1, 2, 300) if kind is Encoder else torch.arange(24).reshape(1, 2, 12)
    model = BUILT["conv, stereo, vq"]
    expected, stream = streamed(kind(model), [good]), kind(model)
    found = [stream.push(good[..., :5])]
    with pytest.raises(ValueError, match=words) as refused:
        stream.push(given)
    assert "\n" not in str(refused.value)
    found += [stream.push(good[..., 5:]), stream.finish()]
    assert torch.equal(torch.cat(found, dim=-1), expected)


@pytest.mark.parametrize(("kind", "given"), [(Encoder, AUDIO), (Decoder, CODES)])
def test_after_the_end_nothing_can_be_pushed(kind, given):
    stream = kind(BUILT["conv, stereo, vq"])
    stream.push(given)
    stream.finish()
    for again in (lambda: stream.push(given), stream.finish):
        with pytest.raises(ValueError, match=r"has ended with finish\(\); make a new"):
            again()
