"""Which stretches are listened to, and how they are rendered."""

import io

import numpy as np
import pytest
import soundfile

from discrete_ae.compare.excerpts import Excerpt, choose_excerpts, loudest
from discrete_ae.compare.listening_clips import Renderer, by_channel, key_of, make_clips
from discrete_ae.data.files import probe
from discrete_ae.evaluation.recordings import Source

RATE = 8000


def write(path, seconds, loud_at=None, channels=1, rate=RATE):
    """Quiet noise, with a second that is loud."""
    audio = 0.01 * np.random.default_rng(0).standard_normal((int(seconds * rate), channels))
    if loud_at is not None:
        audio[int(loud_at * rate) : int((loud_at + 1) * rate)] *= 20
    soundfile.write(path, audio, rate)
    return Source(path, path.name)


def test_the_loudest_stretch_holds_what_is_loud(tmp_path):
    source = write(tmp_path / "a.wav", 10, loud_at=6)
    start = loudest(probe(source.path), 0.0, 10.0, 2.0)
    assert 5 <= start <= 6
    # Within the first half there is nothing loud; the stretch stays in it.
    assert 0 <= loudest(probe(source.path), 0.0, 5.0, 2.0) <= 3
    assert loudest(probe(source.path), 3.0, 1.5, 2.0) == 3.0  # shorter than a stretch: all of it


def test_excerpts_are_spread_over_the_recordings(tmp_path):
    sources = [write(tmp_path / f"{i}.wav", 1) for i in range(9)]
    found = choose_excerpts(sources, 3, 6.0)
    assert [(excerpt.name, excerpt.start_s, excerpt.duration_s) for excerpt in found] == [
        ("1.wav", 0.0, 1.0),
        ("4.wav", 0.0, 1.0),
        ("7.wav", 0.0, 1.0),
    ]
    assert [excerpt.name for excerpt in choose_excerpts(sources, 9, 6.0)] == [source.name for source in sources]


def test_few_recordings_give_several_stretches_each_where_they_are_long_enough(tmp_path):
    sources = [write(tmp_path / "long.wav", 12, loud_at=8), write(tmp_path / "short.wav", 2.5)]
    found = choose_excerpts(sources, 6, 2.0)
    assert [excerpt.file.path.name for excerpt in found] == ["long.wav"] * 3 + ["short.wav"]
    for i, excerpt in enumerate(found[:3]):
        assert 4 * i <= excerpt.start_s <= 4 * i + 2  # within its third
        assert excerpt.duration_s == 2.0
        assert f"from {excerpt.start_s:.1f} s" in excerpt.name
    assert found == choose_excerpts(sources, 6, 2.0)


def with_noise(audio):
    """With noise of a hundredth of the energy that has nothing in common with it: an SI-SDR of 20 dB."""
    noise = np.random.default_rng(1).standard_normal(audio.shape)
    energy = np.square(audio).sum(1, keepdims=True)
    noise -= (noise * audio).sum(1, keepdims=True) / energy * audio
    return (audio + noise * np.sqrt(energy / np.square(noise).sum(1, keepdims=True)) / 10).astype(np.float32)


def decoded(version):
    return soundfile.read(io.BytesIO(version.flac), dtype="float32", always_2d=True)


def test_clips_hold_every_rendering_at_one_rate_and_length(tmp_path):
    source = write(tmp_path / "a.wav", 2, channels=2)
    excerpt = Excerpt(probe(source.path), "a.wav", 0.5, 1.0)
    half = Renderer("vq, 3.2 kbps", RATE, lambda audio: with_noise(audio) / 2, "3.2 kbps")
    slow = Renderer("vq 3.2 kbps", RATE // 2, lambda audio: audio, "", keeps_waveform=False)
    (clip,) = make_clips([excerpt], [half, slow], RATE)
    assert clip.name == "a.wav"
    assert clip.duration_s == 1.0
    assert [version.key for version in clip.versions] == ["original", "vq_3_2_kbps", "vq_3_2_kbps_2"]
    assert [version.note for version in clip.versions] == ["", "3.2 kbps, SI-SDR 20.0 dB", ""]
    original, rate = decoded(clip.versions[0])
    wanted, _ = soundfile.read(source.path, dtype="float32")
    assert np.array_equal(original, wanted[RATE // 2 : 3 * RATE // 2])
    for version in clip.versions:
        audio, rate = decoded(version)
        assert (audio.shape, rate) == ((RATE, 2), RATE)
    assert decoded(clip.versions[1])[0] == pytest.approx(with_noise(original.T).T / 2, abs=2**-15)


def test_channels_are_rendered_as_the_model_takes_them():
    seen = []

    def render(audio):
        seen.append(audio.shape)
        return 2 * audio

    mono, stereo = np.ones((1, 5), np.float32), np.arange(10, dtype=np.float32).reshape(2, 5)
    assert np.array_equal(by_channel(render, 1)(stereo), 2 * stereo)
    assert seen == [(1, 5), (1, 5)]
    assert np.array_equal(by_channel(render, 2)(mono), 2 * mono)
    assert seen[2:] == [(2, 5)]
    assert np.array_equal(by_channel(render, 2)(stereo), 2 * stereo)


def test_keys_are_names_of_files():
    assert key_of("../Opus 6 kbps", {"original"}) == "opus_6_kbps"
    assert key_of("∆", {"original"}) == "method"
    assert key_of("Original", {"original", "original_2"}) == "original_3"
