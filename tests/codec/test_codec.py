"""Recordings to codes and back: against the model called by hand, and at every rate and length."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from discrete_ae.codec import decode_file, encode_file
from discrete_ae.codec.codec import _resample
from discrete_ae.data import read_audio
from discrete_ae.errors import DataError
from discrete_ae.model import DiscreteAutoencoder, SpectralDecoder, SpectralEncoder
from discrete_ae.quantizers import ScalarQuantizer
from discrete_ae.rounding import StraightThrough

HASH = "a" * 64
RATES = [8000, 11025, 16000, 22050, 32000, 44100, 48000, 192000]


def make_model(channels=1, levels=(4, 4, 4, 4), num_codebooks=8, hop=320, sample_rate=16000):
    torch.manual_seed(0)
    quantizer = ScalarQuantizer(list(levels), num_codebooks, StraightThrough())
    coders = SpectralEncoder(channels, hop, 16, 1), SpectralDecoder(channels, hop, 16, 1)
    model = DiscreteAutoencoder(sample_rate, coders[0], quantizer, coders[1]).eval()
    model.model_hash = HASH
    return model


@pytest.fixture(scope="module")
def model():
    return make_model()


def write(path, num_samples, rate=16000, channels=1):
    noise = np.random.default_rng(num_samples).uniform(-0.5, 0.5, (num_samples, channels))
    soundfile.write(path, noise, rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", RATES)
def test_codes_are_the_models_and_the_length_comes_back(tmp_path, model, rate, channels):
    path = write(tmp_path / "x.wav", rate // 5 + 7, rate, channels)
    coded = encode_file(model, path)
    heard = torch.from_numpy(read_audio(path, 16000))
    expected = torch.cat([model.encode(channel[None, None]) for channel in heard])
    assert np.array_equal(coded.codes, expected.numpy())
    assert (coded.sample_rate, coded.num_samples) == (rate, rate // 5 + 7)
    assert (coded.model_sample_rate, coded.num_model_samples) == (16000, heard.shape[-1])
    assert (coded.codebook_sizes, coded.model_hash) == ((256,) * 8, HASH)
    decoded = decode_file(model, coded)
    assert decoded.shape == (channels, rate // 5 + 7)
    assert decoded.dtype == np.float32
    if rate == 16000:
        by_hand = model.decode(torch.from_numpy(coded.codes), heard.shape[-1])[:, 0]
        assert np.allclose(decoded, by_hand, atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("num_samples", [1, 2, 3, 319, 320, 321])
def test_short_recordings_keep_their_length(tmp_path, model, rate, num_samples):
    coded = encode_file(model, write(tmp_path / "x.wav", num_samples, rate))
    assert decode_file(model, coded).shape == (1, num_samples)


def test_a_channel_has_the_codes_of_its_mono_file(tmp_path, model):
    stereo, _ = soundfile.read(write(tmp_path / "x.wav", 4000, 44100, 2), dtype="float32")
    soundfile.write(tmp_path / "right.wav", stereo[:, 1], 44100, subtype="FLOAT")
    both, right = encode_file(model, tmp_path / "x.wav"), encode_file(model, tmp_path / "right.wav")
    assert np.array_equal(both.codes[1:], right.codes)
    assert np.array_equal(decode_file(model, both)[1:], decode_file(model, right))


def test_stereo_model_codes_both_channels_together(tmp_path):
    model = make_model(channels=2)
    path = write(tmp_path / "x.wav", 4000, channels=2)
    coded = encode_file(model, path)
    assert np.array_equal(coded.codes, model.encode(torch.from_numpy(read_audio(path, 16000))[None]))
    assert decode_file(model, coded).shape == (2, 4000)
    mono = write(tmp_path / "mono.wav", 4000)
    twice = torch.from_numpy(read_audio(mono, 16000)).repeat(2, 1)  # as in training
    assert np.array_equal(encode_file(model, mono).codes, model.encode(twice[None]))
    with pytest.raises(DataError, match=r"x\.wav: has 3 channels, the model takes 2; convert it to 2 channels"):
        encode_file(model, write(tmp_path / "x.wav", 4000, channels=3))
    one_by_one = replace(coded, codes=np.concatenate([coded.codes] * 2))
    with pytest.raises(DataError, match="codes of 2 channels one by one, the model takes 2 together"):
        decode_file(model, one_by_one)


def test_silence_is_coded(tmp_path, model):
    soundfile.write(tmp_path / "x.wav", np.zeros(5000), 22050)
    coded = encode_file(model, tmp_path / "x.wav")
    assert np.isfinite(decode_file(model, coded)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path, model, bad):
    soundfile.write(tmp_path / "x.wav", np.array([0.0, bad, 0.0]), 16000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"x\.wav: holds NaN or infinite samples"):
        encode_file(model, tmp_path / "x.wav")


def test_codes_of_another_model_are_refused_unless_forced(tmp_path, model):
    coded = encode_file(model, write(tmp_path / "x.wav", 4000))
    other = replace(coded, model_hash="b" * 64)
    with pytest.raises(DataError, match=r"codes of another model \(b{12}\), this one is a{12}; decode with"):
        decode_file(model, other)
    assert np.array_equal(decode_file(model, other, force=True), decode_file(model, coded))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make_model(levels=[5, 5, 5]), "codebooks with 8 x 256 entries, the model has 8 x 125"),
        (make_model(num_codebooks=4), "codebooks with 8 x 256 entries, the model has 4 x 256"),
        (make_model(sample_rate=24000), "codes of a model at 16000 Hz, this one is at 24000 Hz"),
        (make_model(hop=160), "has 13 frames where 4000 samples at 16000 Hz make 25 of this model"),
    ],
)
def test_codes_that_do_not_fit_are_refused_even_if_forced(tmp_path, model, other, message):
    coded = encode_file(model, write(tmp_path / "x.wav", 4000))
    with pytest.raises(DataError, match=message):
        decode_file(other, coded, force=True)


def test_model_without_a_name_is_refused(tmp_path):
    nameless = make_model()
    nameless.model_hash = None
    with pytest.raises(ValueError, match=r"use discrete_ae\.load"):
        encode_file(nameless, write(tmp_path / "x.wav", 4000))


def test_model_that_decodes_to_nan_is_refused(tmp_path):
    broken = make_model()
    coded = encode_file(broken, write(tmp_path / "x.wav", 4000))
    with torch.no_grad():
        broken.decoder.project.bias.fill_(np.nan)
    with pytest.raises(DataError, match="NaN or infinite samples of these codes"):
        decode_file(broken, coded)


@pytest.mark.parametrize("rate", RATES)
def test_resampled_tone_keeps_frequency_phase_and_level(rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    resampled = _resample(tone[None], 16000, rate, rate)[0]
    inside = slice(rate // 50, -rate // 50)  # the edges, where the tone begins and ends, have other frequencies
    assert np.allclose(resampled[inside], expected[inside], atol=1e-4)
