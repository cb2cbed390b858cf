"""Clips that evaluations left, against signals whose spectrum and samples are known; read back by other programs."""

import io
import json

import numpy as np
import pytest
import soundfile
from matplotlib import colormaps
from matplotlib.image import imread

from discrete_ae.compare.clips import (
    SHADES,
    Heard,
    anchors,
    clip_files,
    flac,
    key_of,
    low_pass,
    make_clips,
    spectrogram_png,
)
from discrete_ae.compare.runs import Placed
from discrete_ae.evaluation.results import SavedClip
from discrete_ae.metrics import HEIGHT, LEVELS_DB, WIDTH
from tests.compare.comparisons import make_evaluation, make_run
from tests.sines import RATE, mel_band, sine


def pixels(png: bytes) -> np.ndarray:
    """Shades, lowest frequency first, found again by their colors."""
    colors = (colormaps["magma"](np.linspace(0, 1, SHADES))[:, :3] * 255).round()
    image = (imread(io.BytesIO(png), format="png")[..., :3] * 255).round()
    distance = np.abs(image[:, :, None, :] - colors).sum(axis=-1)
    assert distance.min(axis=-1).max() == 0
    return distance.argmin(axis=-1)[::-1]


def test_samples_of_16_bits_come_back_exactly_and_louder_ones_are_clipped():
    samples = np.array([[-32768, -1, 0, 1, 12345, 32767]], dtype=np.int16).repeat(2, axis=0)
    read, rate = soundfile.read(io.BytesIO(flac((samples / 32768).astype(np.float32), 22050)), dtype="int16")
    assert rate == 22050
    assert np.array_equal(read.T, samples)
    loud, _ = soundfile.read(io.BytesIO(flac(np.array([[1.5, 1.0, -7.0]], dtype=np.float32), RATE)), dtype="int16")
    assert loud.tolist() == [32767, 32767, -32768]


def test_the_picture_has_the_whole_duration_across_frequency_upwards_and_a_shade_by_level():
    gain_db = LEVELS_DB[1] - 40
    audio = np.concatenate([np.zeros(3 * RATE, dtype=np.float32), 10 ** (gain_db / 20) * sine(2000)])
    shades = pixels(spectrogram_png(audio, RATE))
    assert shades.shape == (HEIGHT, WIDTH)
    # Silent for three quarters; a window of 32 ms reaches 1.3 pixels beyond its place.
    assert not shades[:, : WIDTH * 3 // 4 - 2].any()
    bright = shades[:, WIDTH * 3 // 4 + 2 : -2]
    assert np.abs(bright.argmax(axis=0) - mel_band(2000)).max() <= 1
    place = (gain_db - LEVELS_DB[0]) / (LEVELS_DB[1] - LEVELS_DB[0])
    assert np.abs(bright.max(axis=0) - place * SHADES).max() <= 1


def with_noise(audio):
    """With noise of a hundredth of the energy that has nothing in common with it: an SI-SDR of 20 dB."""
    noise = np.random.default_rng(1).standard_normal(audio.shape)
    energy = np.square(audio).sum(1, keepdims=True)
    noise -= (noise * audio).sum(1, keepdims=True) / energy * audio
    return (audio + noise * np.sqrt(energy / np.square(noise).sum(1, keepdims=True)) / 10).astype(np.float32)


ORIGINAL = (0.1 * np.random.default_rng(0).standard_normal((2, RATE))).astype(np.float32)
HALF = with_noise(ORIGINAL) / 2


@pytest.fixture
def heard(tmp_path):
    """Two methods with a clip of a second: one at half the level, one at half the sample rate."""

    def make(folder, label, rate, decoded, original, **about):
        (tmp_path / folder).mkdir()
        for name, audio in (("d.flac", decoded), ("o.flac", original)):
            soundfile.write(tmp_path / folder / name, audio.T, rate)
        clip = SavedClip(recording="a.wav", start_s=0.5, duration_s=1.0, decoded="d.flac", original="o.flac")
        made = make_evaluation({"pesq": [1.0]}, clips=(clip,), sample_rate=rate, **about)
        return Heard(label, Placed(tmp_path / folder / "x.json", made))

    slow = ORIGINAL[:, ::2]
    return [
        make("a", "vq, 3.2 kbps", RATE, HALF, ORIGINAL),
        make("b", "vq 3.2 kbps", RATE // 2, slow, slow, keeps_waveform=False, nominal=1600.0),
    ]


def test_clips_hold_every_version_at_one_rate_and_length(heard):
    said: list[str] = []
    (clip,) = make_clips(heard, 5, said.append)
    assert [f"{RATE} Hz" in line for line in said] == [True]
    assert (clip.name, clip.duration_s) == ("a.wav", 1.0)
    assert [version.key for version in clip.versions] == ["original", "vq_3_2_kbps", "vq_3_2_kbps_2"]
    assert [version.note for version in clip.versions] == ["", "3.2 kbps, SI-SDR 20.0\xa0dB", "1.6 kbps"]
    read = [soundfile.read(io.BytesIO(version.flac), always_2d=True) for version in clip.versions]
    assert [(audio.shape, rate) for audio, rate in read] == [((RATE, 2), RATE)] * 3
    for (audio, _), expected in zip(read, (ORIGINAL, HALF), strict=False):
        assert pytest.approx(expected, abs=2**-14) == audio.T
    files = clip_files([clip], "a title")
    described = json.loads(files.pop("clips.json"))
    assert (described["title"], described["sample_rate"]) == ("a title", RATE)
    versions = described["clips"][0]["versions"]
    assert [version["label"] for version in versions] == ["original", "vq, 3.2 kbps", "vq 3.2 kbps"]
    assert {version["file"]: one.flac for version, one in zip(versions, clip.versions, strict=True)} == files


def test_clips_are_of_what_all_have(heard):
    def changed(clips):
        evaluation = heard[0].placed.evaluation.model_copy(update={"clips": clips})
        return heard[0]._replace(label="other", placed=heard[0].placed._replace(evaluation=evaluation))

    said: list[str] = []
    moved = heard[0].placed.evaluation.clips[0].model_copy(update={"start_s": 0.0})
    assert [len(clip.versions) for clip in make_clips([heard[0], changed(())], 5, said.append)] == [2]
    assert said[-1].endswith(": other.")
    assert make_clips([heard[0], changed((moved,))], 5, said.append) == []
    assert "different excerpts" in said[-1]


def test_every_caption_begins_with_the_bitrate(tmp_path):
    def note(**about):
        return Heard("x", Placed(tmp_path, make_evaluation({"pesq": [1.0]}, **about))).note

    assert note(nominal=6000.0) == "6 kbps"
    assert note(nominal=700.0, run=make_run("rvq", "rvq")) == "0.7 kbps"
    assert note(nominal=None, run=make_run("identity", "identity")) == "not quantized"
    assert note(nominal=None) == ""  # another program may not say its bitrate


def test_keys_are_names_of_files():
    assert key_of("../Opus 6 kbps", {"original"}) == "opus_6_kbps"
    assert key_of("∆", {"original"}) == "method"
    assert key_of("Original", {"original", "original_2"}) == "original_3"


@pytest.mark.parametrize(("cutoff_hz", "rate"), [(3500, 10000), (3500, 22050), (3500, 192000), (7000, 24000)])
def test_anchors_have_the_response_that_bs1534_asks_for(cutoff_hz, rate):
    """§5.1, measured by the response to one sample, by a Fourier sum that is written out here."""
    impulse = np.zeros((2, 8001), np.float32)
    impulse[:, 4000] = 1
    response = low_pass(impulse, cutoff_hz, rate)
    assert response.shape == impulse.shape
    np.testing.assert_allclose(response, response[:, ::-1], atol=1e-7)  # neither delayed, nor any frequency later

    def gain_db(low_hz, high_hz):
        frequencies = np.linspace(low_hz, high_hz, 200)
        sums = np.exp(-2j * np.pi * np.outer(frequencies, np.arange(-4000, 4001)) / rate) @ response[0]
        return 20 * np.log10(np.abs(sums) + 1e-12)

    assert np.abs(gain_db(0, cutoff_hz)).max() <= 0.1
    assert gain_db(cutoff_hz + 500, rate / 2).max() <= -25
    if cutoff_hz + 1000 < rate / 2:
        assert gain_db(cutoff_hz + 1000, rate / 2).max() <= -50


def test_which_anchors_tell_something():
    made = [[anchor.key for anchor in anchors(np.zeros((1, 9), np.float32), rate)] for rate in (8000, 16000, 24000)]
    assert made == [[], ["low_anchor"], ["low_anchor", "mid_anchor"]]
