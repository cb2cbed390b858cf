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

HASH = "a" * 64


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


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (44100, 1)])
def test_codes_are_the_models_and_the_length_comes_back(tmp_path, model, rate, channels):
    path = write(tmp_path / "x.wav", rate // 5 + 7, rate, channels)
    coded = Codec(model).encode_file(path)
    heard = torch.from_numpy(read_audio(path, 16000))
    expected = torch.cat([Codec(model).encode(channel[None, None]) for channel in heard])
    assert np.array_equal(coded.codes, expected.numpy())
    assert (coded.sample_rate, coded.num_samples) == (rate, rate // 5 + 7)
    assert (coded.model_sample_rate, coded.num_model_samples) == (16000, heard.shape[-1])
    assert (coded.codebook_sizes, coded.model_hash) == ((256,) * 8, HASH)
    decoded = Codec(model).decode_file(coded)
    assert decoded.shape == (channels, rate // 5 + 7)
    assert decoded.dtype == np.float32
    if rate == 16000:
        by_hand = Codec(model).decode(torch.from_numpy(coded.codes).long(), heard.shape[-1])[:, 0]
        assert np.allclose(decoded, by_hand, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 192000])
def test_short_recordings_keep_their_length(tmp_path, model, rate):
    paths = [write(tmp_path / f"{n}.wav", n, rate) for n in (1, 2, 321)]
    decoded = [Codec(model).decode_file(Codec(model).encode_file(path)).shape for path in paths]
    assert decoded == [(1, 1), (1, 2), (1, 321)]


def test_a_channel_has_the_codes_of_its_mono_file(tmp_path, model):
    stereo, _ = soundfile.read(write(tmp_path / "x.wav", 4000, 44100, 2), dtype="float32")
    soundfile.write(tmp_path / "right.wav", stereo[:, 1], 44100, subtype="FLOAT")
    both, right = Codec(model).encode_file(tmp_path / "x.wav"), Codec(model).encode_file(tmp_path / "right.wav")
    assert np.array_equal(both.codes[1:], right.codes)
    assert np.array_equal(Codec(model).decode_file(both)[1:], Codec(model).decode_file(right))


def test_stereo_model_codes_both_channels_together(tmp_path):
    model = make_model(channels=2)
    path = write(tmp_path / "x.wav", 4000, channels=2)
    coded = Codec(model).encode_file(path)
    assert np.array_equal(coded.codes, Codec(model).encode(torch.from_numpy(read_audio(path, 16000))[None]))
    assert Codec(model).decode_file(coded).shape == (2, 4000)
    mono = write(tmp_path / "mono.wav", 4000)
    twice = torch.from_numpy(read_audio(mono, 16000)).repeat(2, 1)  # as in training
    assert np.array_equal(Codec(model).encode_file(mono).codes, Codec(model).encode(twice[None]))
    with pytest.raises(DataError, match=r"x\.wav: has 3 channels, the model takes 2; convert it to 2 channels"):
        Codec(model).encode_file(write(tmp_path / "x.wav", 4000, channels=3))
    one_by_one = CodeFile.of({**vars(coded), "codes": np.concatenate([coded.codes] * 2)})
    with pytest.raises(DataError, match="codes of 2 channels one by one, the model takes 2 together"):
        Codec(model).decode_file(one_by_one)


def test_codes_of_another_model_are_refused_unless_forced(tmp_path, model):
    coded = Codec(model).encode_file(write(tmp_path / "x.wav", 4000))
    other = coded.model_copy(update={"model_hash": "b" * 64})
    with pytest.raises(DataError, match=r"codes of another model \(b{12}\), this one is a{12}; decode with"):
        Codec(model).decode_file(other)
    assert np.array_equal(Codec(model).decode_file(other, force=True), Codec(model).decode_file(coded))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make_model(levels=[5, 5, 5]), r"8 of 256 entries\), the model has 8 of 125 entries"),
        (make_model(num_codebooks=4), r"8 of 256 entries\), the model has 4 of 256 entries"),
        (make_model(sample_rate=24000), "codes of a model at 16000 Hz, this one is at 24000 Hz"),
        (make_model(hop=160), "has 13 frames where 4000 samples at 16000 Hz make 25 of this model"),
    ],
)
def test_codes_that_do_not_fit_are_refused_even_if_forced(tmp_path, model, other, message):
    coded = Codec(model).encode_file(write(tmp_path / "x.wav", 4000))
    with pytest.raises(DataError, match=message):
        Codec(other).decode_file(coded, force=True)


def test_models_that_cannot_code_are_refused(tmp_path):
    path, broken, nameless = write(tmp_path / "x.wav", 4000), make_model(), make_model()
    nameless.model_hash = None
    with pytest.raises(ValueError, match=r"use discrete_ae\.load"):
        Codec(nameless).encode_file(path)
    coded = Codec(broken).encode_file(path)
    with torch.no_grad():
        broken.decoder.project.bias.fill_(np.nan)
        broken.to_latents.bias[3] = np.inf
    with pytest.raises(DataError, match="NaN or infinite samples of these codes"):
        Codec(broken).decode_file(coded)
    with pytest.raises(DataError, match=r"x\.wav: the model makes NaN or infinite latents"):
        Codec(broken).encode_file(path)


@pytest.mark.parametrize("loudness_lufs", [None, -30])
def test_many_recordings_are_those_one_by_one(tmp_path, model, loudness_lufs):
    """Of all lengths and rates, whatever is read ahead, computed at a time, or between them."""
    lengths = {"a": (1, 16000), "b": (200_000, 44100), "c": (320, 16000), "d": (70_000, 8000), "e": (16001, 16000)}
    paths = [write(tmp_path / f"{name}.wav", n, rate, 1 + (name == "b")) for name, (n, rate) in lengths.items()]
    one_by_one = [Codec(model).encode_file(path, loudness_lufs=loudness_lufs) for path in paths]
    assert one_by_one[1].codes.shape[-1] > encoder_window(model).length / 3
    for jobs, chunk_seconds in ((1, 0.1), (3, 100.0)):
        runner = Runner(jobs)
        settings = {"runner": runner, "chunk_seconds": chunk_seconds, "loudness_lufs": loudness_lufs}
        together = list(encode_files(model, paths, **settings))
        assert [encoded.path for encoded in together] == paths
        for encoded, alone in zip(together, one_by_one, strict=True):
            assert np.array_equal(encoded.code_file.codes, alone.codes)
            assert encoded.code_file.num_samples == alone.num_samples
            assert encoded.code_file.gain_db == alone.gain_db
            assert (alone.gain_db == 0) == (loudness_lufs is None)
        decoded = decode_files(model, one_by_one, runner=runner)
        for found, alone in zip(decoded, one_by_one, strict=True):
            assert found.code_file is alone
            assert np.array_equal(np.concatenate(list(found.blocks), axis=1), Codec(model).decode_file(alone))


def test_long_recording_is_coded_as_the_model_codes_it_whole(tmp_path, model):
    path = write(tmp_path / "x.flac.wav", 44100 * 40, 44100, 2)
    heard = torch.from_numpy(np.concatenate(list(stream_audio(probe(path), 16000)), axis=1))
    assert heard.shape[-1] > 4 * encoder_window(model).length * model.hop_length
    coded = Codec(model).encode_file(path)
    assert np.array_equal(coded.codes, Codec(model).encode(heard[:, None]))
    # The model's audio before it is resampled, against its whole forward
    with torch.no_grad():
        whole = model(heard[:, None])
    assert (torch.from_numpy(coded.codes) != whole.codes).float().mean() < 1e-4
    audio = Codec(model).decode(whole.codes, heard.shape[-1])
    torch.testing.assert_close(audio, whole.reconstruction, rtol=0, atol=1e-5)


def test_a_recording_that_fails_in_the_middle_harms_no_other(tmp_path, model):
    good = write(tmp_path / "good.wav", 30_000)
    damaged = write(tmp_path / "damaged.wav", 400_000)
    damaged.write_bytes(damaged.read_bytes()[:1_200_000])
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.where(np.arange(300_000) == 250_000, np.nan, 0), 16000, subtype="FLOAT")
    paths = [good, tmp_path / "none.wav", damaged, good, silent, good]
    found = list(encode_files(model, paths))
    assert [encoded.path for encoded in found] == paths
    assert [encoded.error is None for encoded in found] == [True, False, False, True, False, True]
    assert "was cut off" in str(found[2].error)
    assert "holds NaN" in str(found[4].error)
    expected = Codec(model).encode_file(good).codes
    assert all(np.array_equal(found[i].code_file.codes, expected) for i in (0, 3, 5))


def test_progress_adds_up_to_the_audio(tmp_path, model):
    paths = [write(tmp_path / f"{i}.wav", n, channels=2) for i, n in enumerate((16000, 1, 200_000))]
    seconds = []
    encoded = list(encode_files(model, paths, progress=seconds.append))
    frames = sum(one.code_file.codes.shape[-1] for one in encoded)
    assert sum(seconds) == pytest.approx(frames * 320 / 16000)
    seconds.clear()
    for decoded in decode_files(model, [one.code_file for one in encoded], progress=seconds.append):
        assert sum(block.shape[1] for block in decoded.blocks) == decoded.code_file.num_samples
    assert sum(seconds) == pytest.approx(frames * 320 / 16000)


def test_recordings_at_two_levels_have_the_same_codes_and_decode_to_their_levels(tmp_path, model):
    rate = 44100
    # A power of two scales every step exactly, as far as the logarithm of the gain, which differs by 1e-15.
    paths = [write(tmp_path / "loud.wav", rate + 7, rate, 2), tmp_path / "soft.wav"]
    samples, _ = soundfile.read(paths[0], dtype="float32")
    soundfile.write(paths[1], samples / 8, rate, subtype="FLOAT")
    loud, soft = (Codec(model).encode_file(path, loudness_lufs=-23) for path in paths)
    assert np.array_equal(loud.codes, soft.codes)
    assert soft.gain_db - loud.gain_db == pytest.approx(20 * np.log10(8))
    assert loud.gain_db == pytest.approx(-23 - measure_stream([samples.T], rate).loudness_lufs)
    np.testing.assert_allclose(Codec(model).decode_file(loud), 8 * Codec(model).decode_file(soft), rtol=1e-5, atol=1e-7)
    # The same as the model hears of the amplified samples, and as it makes them, by hand
    factor = np.float32(10 ** (loud.gain_db / 20))
    heard = torch.from_numpy(read_audio(paths[0], 16000) * factor)
    assert np.array_equal(loud.codes, Codec(model).encode(heard[:, None]))
    plain = Codec(model).decode_file(loud.model_copy(update={"gain_db": 0.0}))
    np.testing.assert_allclose(Codec(model).decode_file(loud), plain / factor, rtol=0, atol=1e-5)
    assert Codec(model).encode_file(paths[0]).gain_db == 0


def test_gain_is_limited(tmp_path, model):
    def gain(samples):
        soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="FLOAT")
        return Codec(model).encode_file(tmp_path / "x.wav", loudness_lufs=-16).gain_db

    assert gain(np.zeros(16000)) == 0
    noise = np.random.default_rng(0).uniform(-1, 1, 16000)
    assert gain(1e-4 * noise) == 30
    clicks = np.where(np.arange(16000) % 800 == 0, 0.5, 0)
    assert gain(clicks) == pytest.approx(20 * np.log10(2))
    assert gain(1e20 * noise) == -200  # what a file of codes can say


def test_mono_is_measured_as_the_stereo_model_hears_it(tmp_path):
    model, mono = make_model(channels=2), write(tmp_path / "mono.wav", 16000)
    samples, _ = soundfile.read(mono, dtype="float32")
    soundfile.write(tmp_path / "both.wav", np.stack([samples] * 2, axis=1), 16000, subtype="FLOAT")
    one, two = (Codec(model).encode_file(path, loudness_lufs=-23) for path in (mono, tmp_path / "both.wav"))
    assert one.gain_db == two.gain_db
    assert np.array_equal(one.codes, two.codes)


def test_loudness_that_is_not_defined_is_refused(tmp_path, model):
    for loudness_lufs in (-70.1, 0.1, np.nan):
        with pytest.raises(ValueError, match="loudness_lufs: expected None or a number from -70 to 0"):
            Codec(model).encode_file(tmp_path / "x.wav", loudness_lufs=loudness_lufs)
    for channels, rate in ((6, 16000), (1, 3999)):
        path = write(tmp_path / "x.wav", 4000, rate, channels)
        with pytest.raises(DataError, match=rf"has {channels} channels at {rate} Hz, loudness is measured of at"):
            Codec(model).encode_file(path, loudness_lufs=-23)


def test_leaving_early_stops_the_threads(tmp_path, model):
    paths = [write(tmp_path / f"{i}.wav", 300_000) for i in range(6)]
    before = threading.active_count()
    results = encode_files(model, paths, chunk_seconds=0.1)
    next(results)
    results.close()
    assert threading.active_count() == before
