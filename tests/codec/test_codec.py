"""Recordings to codes and back: against the model called by hand, and at every rate and length."""

import threading

import numpy as np
import pytest
import soundfile
import torch

from discrete_ae.codec import Codec, decode_files, encode_files
from discrete_ae.codes import CodeFile
from discrete_ae.data import read_audio, stream_audio
from discrete_ae.data.files import probe
from discrete_ae.data.loudness import measure_stream
from discrete_ae.errors import DataError
from discrete_ae.inference import Runner, encoder_window
from discrete_ae.model import DiscreteAutoencoder, SpectralDecoder, SpectralEncoder
from discrete_ae.quantizers import ScalarQuantizer
from discrete_ae.rounding import StraightThrough
from tests.recordings import write_noise


def make_model(channels=1, levels=(4, 4, 4, 4), num_codebooks=8, hop=320, sample_rate=16000):
    torch.manual_seed(0)
    quantizer = ScalarQuantizer(list(levels), num_codebooks, StraightThrough())
    coders = SpectralEncoder(channels, hop, 16, 1), SpectralDecoder(channels, hop, 16, 1)
    model = DiscreteAutoencoder(sample_rate, coders[0], quantizer, coders[1]).eval()
    model.codes_hash = "a" * 64
    return model


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def codec(model):
    return Codec(model)


@pytest.fixture
def write(tmp_path):
    """Write samples (n,) or (n, C) as float32."""

    def written(name, samples, rate=16000):
        soundfile.write(tmp_path / name, samples, rate, subtype="FLOAT")
        return tmp_path / name

    return written


def heard(path):
    """Return the audio as the model gets it, one item per channel."""
    return torch.from_numpy(read_audio(path, 16000))[:, None]


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (44100, 1)])
def test_codes_are_the_models_and_the_length_comes_back(tmp_path, codec, rate, channels):
    path = write_noise(tmp_path / "x.wav", rate // 5 + 7, rate, channels)
    coded, audio = codec.encode_file(path), heard(path)
    assert np.array_equal(coded.codes, codec.encode(audio).numpy())
    assert (coded.sample_rate, coded.num_samples) == (rate, rate // 5 + 7)
    assert (coded.model_sample_rate, coded.num_model_samples) == (16000, audio.shape[-1])
    assert (coded.codebook_sizes, coded.model_hash) == ((256,) * 8, "a" * 64)
    decoded = codec.decode_file(coded)
    assert (decoded.shape, decoded.dtype) == ((channels, rate // 5 + 7), np.float32)
    if rate == 16000:
        by_hand = codec.decode(torch.from_numpy(coded.codes).long(), audio.shape[-1])[:, 0]
        assert np.allclose(decoded, by_hand, atol=1e-6)
    for n in (1, 2, 321):
        assert codec.decode_file(codec.encode_file(write_noise(path, n, rate))).shape == (1, n)


def test_stereo_model_codes_both_channels_together(tmp_path):
    codec = Codec(make_model(channels=2))
    path = write_noise(tmp_path / "x.wav", 16000, channels=2)
    coded = codec.encode_file(path)
    assert np.array_equal(coded.codes, codec.encode(heard(path)[None, :, 0]))
    assert codec.decode_file(coded).shape == (2, 16000)
    one_by_one = CodeFile.of({**vars(coded), "codes": np.concatenate([coded.codes] * 2)})
    with pytest.raises(DataError, match="codes of another model, with 2 separate channels; this one codes 2 together"):
        codec.decode_file(one_by_one)
    with pytest.raises(DataError, match=r"x\.wav: expected 2 channels, as in the model, got 3; convert"):
        codec.encode_file(write_noise(path, channels=3))


def test_stereo_model_hears_and_measures_mono_in_both_channels(tmp_path, write):
    codec, mono = Codec(make_model(channels=2)), write_noise(tmp_path / "mono.wav", 16000)
    both = write("both.wav", np.repeat(soundfile.read(mono, dtype="float32", always_2d=True)[0], 2, axis=1))
    one, two = (codec.encode_file(path, loudness_lufs=-23) for path in (mono, both))
    assert one.gain_db == two.gain_db
    assert np.array_equal(one.codes, two.codes)


def test_codes_of_another_model_are_refused_unless_forced(tmp_path, codec):
    coded = codec.encode_file(write_noise(tmp_path / "x.wav"))
    other = coded.model_copy(update={"model_hash": "b" * 64})
    with pytest.raises(
        DataError, match=r"codes of another model \(hash b{12}\), not of this one \(hash a{12}\); decode"
    ):
        codec.decode_file(other)
    assert np.array_equal(codec.decode_file(other, force=True), codec.decode_file(coded))
    with pytest.raises(DataError, match="with 8 of 256 entries") as refused:  # without advice that would not help
        Codec(make_model(num_codebooks=4)).decode_file(other)
    assert "--force" not in str(refused.value)
    for settings, words in (
        ({"levels": [5, 5, 5]}, r"with 8 of 256 entries; this one has 8 of 125 entries"),
        (
            {"num_codebooks": 4},
            r"with 8 of 256 entries; this one has 4 of 256 entries and decodes from all 4 together; .* again",
        ),
        (
            {"num_codebooks": 9},
            r"with 8 of 256 entries; this one has 9 of 256 entries and decodes from all 9 together",
        ),
        ({"sample_rate": 24000}, "codes of another model, at 16000 Hz; this one is at 24000 Hz"),
        ({"hop": 160}, "expected 25 frames of this model for 4000 samples at 16000 Hz, got 13"),
    ):
        with pytest.raises(DataError, match=words):
            Codec(make_model(**settings)).decode_file(coded, force=True)


def test_models_that_cannot_code_are_refused(tmp_path):
    path, model = write_noise(tmp_path / "x.wav"), make_model()
    coded = Codec(model).encode_file(path)
    with torch.no_grad():
        model.decoder.project.bias.fill_(np.nan)
        model.to_latents.bias[3] = np.inf
    with pytest.raises(DataError, match="decode to NaN or infinite samples"):
        Codec(model).decode_file(coded)
    with pytest.raises(DataError, match=r"x\.wav: its latents are NaN or infinite"):
        Codec(model).encode_file(path)
    model.codes_hash = None
    with pytest.raises(ValueError, match=r"use discrete_ae\.load"):
        Codec(model).encode_file(path)


@pytest.mark.parametrize(("jobs", "chunk_seconds", "loudness_lufs"), [(1, 0.1, -30), (3, 100.0, None)])
def test_many_recordings_are_those_one_by_one(tmp_path, model, codec, jobs, chunk_seconds, loudness_lufs):
    """Many recordings of different lengths and rates get the codes they get alone, for any jobs and chunk length."""
    lengths = {"a": (1, 16000), "b": (200_000, 44100), "c": (320, 16000), "d": (70_000, 8000), "e": (16001, 16000)}
    paths = [write_noise(tmp_path / f"{name}.wav", *length, 1 + (name == "b")) for name, length in lengths.items()]
    one_by_one = [codec.encode_file(path, loudness_lufs=loudness_lufs) for path in paths]
    assert one_by_one[1].codes.shape[-1] > encoder_window(model).length / 3
    seconds, runner = [], Runner(jobs)
    settings = {"runner": runner, "chunk_seconds": chunk_seconds, "loudness_lufs": loudness_lufs}
    together = list(encode_files(model, paths, **settings, progress=seconds.append))
    assert [encoded.path for encoded in together] == paths
    for encoded, alone in zip(together, one_by_one, strict=True):
        assert np.array_equal(encoded.code_file.codes, alone.codes)
        assert encoded.code_file.info == alone.info
        assert (alone.gain_db == 0) == (loudness_lufs is None)
    audio_s = sum(alone.frames for alone in one_by_one) * 320 / 16000
    assert sum(seconds) == pytest.approx(audio_s)
    seconds.clear()
    for found, alone in zip(
        decode_files(model, one_by_one, runner=runner, progress=seconds.append), one_by_one, strict=True
    ):
        assert found.code_file is alone
        assert np.array_equal(np.concatenate(list(found.blocks), axis=1), codec.decode_file(alone))
    assert sum(seconds) == pytest.approx(audio_s)


def test_long_recording_is_coded_as_the_model_codes_it_whole(tmp_path, model, codec):
    path = write_noise(tmp_path / "x.wav", 44100 * 40, 44100, 2)
    heard = torch.from_numpy(np.concatenate(list(stream_audio(probe(path), 16000)), axis=1))
    assert heard.shape[-1] > 4 * encoder_window(model).length * model.hop_length
    coded = codec.encode_file(path)
    assert np.array_equal(coded.codes, codec.encode(heard[:, None]))
    # The model's audio before it is resampled, against its whole forward
    with torch.no_grad():
        whole = model(heard[:, None])
    assert (torch.from_numpy(coded.codes) != whole.codes).float().mean() < 1e-4
    audio = codec.decode(whole.codes, heard.shape[-1])
    torch.testing.assert_close(audio, whole.reconstruction, rtol=0, atol=1e-5)


def test_a_recording_that_fails_in_the_middle_harms_no_other(tmp_path, model, codec, write):
    good, damaged = write_noise(tmp_path / "good.wav", 30_000), tmp_path / "damaged.flac"
    soundfile.write(damaged, np.random.default_rng(0).uniform(-0.5, 0.5, 400_000), 16000)
    damaged.write_bytes(damaged.read_bytes()[:600_000])
    nan = write("nan.wav", np.where(np.arange(300_000) == 250_000, np.nan, 0))
    paths = [good, tmp_path / "none.wav", damaged, good, nan, good]
    found = list(encode_files(model, paths))
    assert [encoded.path for encoded in found] == paths
    assert [encoded.error is None for encoded in found] == [True, False, False, True, False, True]
    assert str(found[2].error).startswith(f"{damaged}: ")
    assert "holds NaN" in str(found[4].error)
    expected = codec.encode_file(good).codes
    assert all(np.array_equal(found[i].code_file.codes, expected) for i in (0, 3, 5))


def test_what_is_there_of_a_recording_is_coded_unless_strict(tmp_path, model, codec, write):
    part, path = write("part.wav", np.zeros(20_000)), write("x.wav", np.zeros(30_000))
    path.write_bytes(path.read_bytes()[: part.stat().st_size])
    (found,) = encode_files(model, [path])
    assert found.code_file.num_samples == 20_000
    assert np.array_equal(found.code_file.codes, codec.encode_file(part).codes)
    refused, other = encode_files(model, [path, part], strict=True)
    assert "its header says 120000 bytes of samples, the file holds 80000; save" in str(refused.error)
    assert other.error is None


def test_recordings_at_two_levels_have_the_same_codes_and_decode_to_their_levels(codec, write):
    rate = 44100
    # A power of two scales every step exactly, as far as the logarithm of the gain, which differs by 1e-15.
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (rate + 7, 2)).astype(np.float32)
    path = write("loud.wav", samples, rate)
    loud, soft = (codec.encode_file(one, loudness_lufs=-23) for one in (path, write("soft.wav", samples / 8, rate)))
    assert np.array_equal(loud.codes, soft.codes)
    assert soft.gain_db - loud.gain_db == pytest.approx(20 * np.log10(8))
    assert loud.gain_db == pytest.approx(-23 - measure_stream([samples.T], rate).loudness_lufs)
    np.testing.assert_allclose(codec.decode_file(loud), 8 * codec.decode_file(soft), rtol=1e-5, atol=1e-7)
    # The same as the model hears of the amplified samples, and as it makes them, by hand
    factor = np.float32(10 ** (loud.gain_db / 20))
    assert np.array_equal(loud.codes, codec.encode(heard(path) * factor))
    plain = codec.decode_file(loud.model_copy(update={"gain_db": 0.0}))
    np.testing.assert_allclose(codec.decode_file(loud), plain / factor, rtol=0, atol=1e-5)


def test_gain_is_limited(codec, write):
    noise = np.random.default_rng(0).uniform(-1, 1, 16000)
    clicks = np.where(np.arange(16000) % 800 == 0, 0.5, 0)
    # No clipping; and -200 is what a file of codes can say.
    for samples, gain_db in ((0 * noise, 0), (1e-4 * noise, 30), (clicks, 20 * np.log10(2)), (1e20 * noise, -200)):
        assert codec.encode_file(write("x.wav", samples), loudness_lufs=-16).gain_db == pytest.approx(gain_db)


def test_loudness_that_is_not_defined_is_refused(tmp_path, codec):
    for loudness_lufs in (-70.1, 0.1, np.nan):
        with pytest.raises(ValueError, match="loudness_lufs: expected None or a number from -70 to 0"):
            codec.encode_file(tmp_path / "x.wav", loudness_lufs=loudness_lufs)
    for channels, rate in ((6, 16000), (1, 3999)):
        path = write_noise(tmp_path / "x.wav", 4000, rate, channels)
        with pytest.raises(DataError, match=rf"loudness, got {channels} channels at {rate} Hz; encode it without"):
            codec.encode_file(path, loudness_lufs=-23)


def test_leaving_early_stops_the_threads(tmp_path, model):
    paths = [write_noise(tmp_path / "x.wav", 300_000)] * 6
    before = threading.active_count()
    results = encode_files(model, paths, chunk_seconds=0.1)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_what_is_no_model_and_no_tensor_is_said(codec):
    with pytest.raises(ValueError, match=r"model: expected a model .* got 'x\.ckpt'"):
        Codec("x.ckpt")
    with pytest.raises(ValueError, match=r"audio: expected a tensor .*, got ndarray; torch\.from_numpy makes one"):
        codec.encode(np.zeros((1, 1, 320), np.float32))
    with pytest.raises(ValueError, match=r"codes: expected a tensor, got ndarray; torch\.from_numpy makes one"):
        codec.decode(np.zeros((1, 2, 3), np.int64))
