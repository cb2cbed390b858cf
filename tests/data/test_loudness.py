"""Loudness of audio that comes in blocks: against torchaudio, the reference tones of ITU-R BS.1770, and any cutting."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
import torchaudio

from discrete_ae.data.loudness import MAX_GAIN_DB, Level, amplify, bring_to_loudness, gain_for, measure_stream


def music(seconds, rate=16000, channels=1, peak=0.1):
    """Noise, the quiet half of it below the relative gate, on a constant, which the filters take away."""
    count = round(seconds * rate)
    noise = np.random.default_rng(channels).uniform(-1, 1, (channels, count)) * np.arange(1, channels + 1)[:, None]
    noise *= np.where(np.arange(count) * 2 < count, 0.1, 1)
    noise += 0.2
    return (noise * peak / np.abs(noise).max()).astype(np.float32)


def cut(audio, lengths):
    """Blocks of the given lengths in turn, until the end."""
    start = 0
    while start < audio.shape[1]:
        length = lengths[start % len(lengths)]
        yield audio[:, start : start + length]
        start += length


@pytest.mark.parametrize("rate", [4000, 16000, 44100, 192000])
@pytest.mark.parametrize("channels", [1, 5])
def test_is_torchaudios_where_that_does_not_clip(rate, channels):
    audio = music(2.03, rate, channels)
    expected = torchaudio.functional.loudness(torch.from_numpy(audio), rate).item()
    level = measure_stream(cut(audio, [rate // 3, 7 + rate, 1000]), rate)
    assert level.loudness_lufs == pytest.approx(expected, abs=0.001)
    assert level.peak == np.float32(0.1)


@pytest.mark.parametrize("seconds", [0.00007, 0.39, 0.4, 0.41, 0.5, 7.1])
def test_any_cutting_gives_the_same_bits(seconds):
    audio = music(seconds, channels=2)
    whole = measure_stream([audio], 16000)
    for lengths in ([997], [2**16], [16000, 1, 31999], [1600]):
        assert measure_stream(cut(audio, lengths), 16000) == whole
    if seconds >= 0.4:
        expected = torchaudio.functional.loudness(torch.from_numpy(audio), 16000).item()
        assert whole.loudness_lufs == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("exponent", [-100, -20, 10, 100])
def test_level_is_no_matter(exponent):
    """Powers of two scale the audio exactly; 2^10 is 60 dB beyond full scale."""
    audio = music(8.0)
    level, scaled = (measure_stream([x], 16000) for x in (audio, np.ldexp(audio, exponent)))
    assert scaled.loudness_lufs - level.loudness_lufs == pytest.approx(20 * math.log10(2) * exponent)
    assert scaled.peak == level.peak * 2.0**exponent


@pytest.mark.parametrize("amplitude", [2.0, 1.0, 1e-5])
def test_reference_tone_in_each_channel(amplitude):
    """BS.1770-4, annex 1: 997 Hz at full scale reads -3.01 LKFS in front, 10 log10(1.41) = 1.49 dB more behind."""
    tone = (amplitude * np.sin(2 * np.pi * 997 / 48000 * np.arange(8 * 48000))).astype(np.float32)
    for channel in range(5):
        audio = np.zeros((5, len(tone)), np.float32)
        audio[channel] = tone
        expected = -3.01 + (1.49 if channel >= 3 else 0) + 20 * math.log10(amplitude)
        assert measure_stream([audio], 48000).loudness_lufs == pytest.approx(expected, abs=0.05)


def test_gates_see_the_whole_recording():
    """Only the loudest tenth counts, wherever it is; with it the peak, which decides what is silence, comes late."""
    loud = music(2.0, peak=1.0)
    alone = measure_stream([loud], 16000).loudness_lufs
    faint = 1e-4 * music(18.0, peak=1.0)  # 80 dB below: under the absolute gate
    for parts in ([faint, loud], [loud, faint], [faint, loud, faint]):
        assert measure_stream(parts, 16000).loudness_lufs == pytest.approx(alone, abs=0.7)  # blocks across the border


def test_silence_has_no_loudness():
    assert measure_stream([np.zeros((2, 100_000), np.float32)] * 3, 16000) == Level(-math.inf, 0.0)
    assert measure_stream([], 16000) == Level(-math.inf, 0.0)
    assert measure_stream([np.zeros((1, 0), np.float32)], 16000) == Level(-math.inf, 0.0)
    # Blocks of 0.4 s begin every 0.1 s: the last 10 ms of 0.51 s lie in none.
    late = np.zeros((1, 8160), np.float32)
    late[0, -100:] = 0.1
    assert measure_stream([late], 16000) == Level(-math.inf, np.float32(0.1))


def test_memory_does_not_grow_with_the_length():
    block, peaks = music(4.0), []
    for count in (1, 10, 100):  # 1: what is imported or cached at the first call
        tracemalloc.start()
        measure_stream((block + 0 for _ in range(count)), 16000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 200_000  # 400 s are 25.6 MB


def test_what_has_no_loudness_is_refused():
    for channels, rate, words in ((6, 16000, "at most 5 channels .* got 6"), (1, 3999, "at least 4000 Hz .* got 3999")):
        with pytest.raises(ValueError, match=words):
            measure_stream([np.zeros((channels, 100), np.float32)], rate)


def test_gain_by_hand():
    assert gain_for(Level(-30.0, 0.1), -23.0) == 7.0
    assert gain_for(Level(-10.0, 1.0), -23.0) == -13.0
    assert gain_for(Level(-60.0, 1e-3), -23.0) == MAX_GAIN_DB
    assert gain_for(Level(-30.0, 0.5), -23.0) == pytest.approx(20 * math.log10(2))  # then the peak is 1
    assert gain_for(Level(0.0, 10.0), -10.0) == -20.0
    assert gain_for(Level(-math.inf, 0.0), -23.0) == 0.0


def test_gain_is_lowered_where_the_peak_would_exceed_one():
    audio = torch.tensor([[0.25, -0.5]])
    assert amplify(audio, 20 * math.log10(1.5)).tolist() == [pytest.approx([0.375, -0.75])]
    assert amplify(audio, 60.0).tolist() == [[0.5, -1.0]]
    assert amplify(4 * audio, 0.0).tolist() == [[0.5, -1.0]]  # a resampled crop may exceed full scale
    assert amplify(0 * audio, 60.0).tolist() == [[0.0, 0.0]]


def test_audio_shorter_than_a_block_counts_with_the_silence_after_it():
    # Half of the block of 0.4 s is silent: half of the energy, 3.01 dB less. The filters ring for a few milliseconds.
    tone = (0.5 * np.sin(2 * np.pi * 997 / 48000 * np.arange(9600))).astype(np.float32)[None]
    assert measure_stream([tone], 48000).loudness_lufs == pytest.approx(-3.01 - 6.02 - 3.01, abs=0.05)


def test_audio_is_brought_to_a_loudness_as_far_as_it_goes_and_silence_stays():
    faint, clicks, silence = 1e-3 * torch.from_numpy(music(1.0)), torch.zeros(1, 16000), torch.zeros(2, 16000)
    clicks[0, ::800] = 0.5
    torch.testing.assert_close(bring_to_loudness(faint, 16000, -16.0), 10 ** (MAX_GAIN_DB / 20) * faint)
    assert torch.equal(bring_to_loudness(clicks, 16000, 0.0), 2 * clicks)
    assert torch.equal(bring_to_loudness(silence, 16000, -23.0), silence)
