"""Opus and Codec 2 as programs: aligned, counted in bits, and missed in one line."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from discrete_ae.data.files import recordings_root
from discrete_ae.data.reading import read_audio
from discrete_ae.errors import DataError
from discrete_ae.evaluation.baselines import (
    CODEC2_BITS,
    codec2,
    installed,
    opus,
    opus_packet_bytes,
)
from discrete_ae.evaluation.coders import through
from discrete_ae.evaluation.evaluate import Plan, evaluate_coder
from discrete_ae.evaluation.recordings import Source
from discrete_ae.evaluation.scores import choose
from discrete_ae.evaluation.scoring import SignalScores

needs_opus = pytest.mark.skipif(not shutil.which("opusenc"), reason="opusenc is not installed (package opus-tools)")
needs_codec2 = pytest.mark.skipif(not shutil.which("c2enc"), reason="c2enc is not installed (package codec2)")


@pytest.fixture(scope="module")
def speech():
    return read_audio(recordings_root() / "validation/speech_librivox_0890.flac", 16000, 1)


def page(*lengths):
    """An Ogg page (RFC 3533) of packets of these lengths; one that a further page goes on with is negative."""
    laces = []
    for length in lengths:
        laces += [255] * (abs(length) // 255) + ([length % 255] if length >= 0 else [])
    return b"OggS" + bytes(22) + bytes([len(laces), *laces]) + bytes(sum(laces))


def test_packets_of_opus_are_counted_by_the_standard():
    # OpusHead and OpusTags are no audio; a packet of 255 bytes ends with a lace of 0; one runs over two pages.
    content = page(19) + page(300) + page(255, 7, 600) + page(-510) + page(90, 1)
    assert opus_packet_bytes(content) == 255 + 7 + 600 + (510 + 90) + 1
    assert opus_packet_bytes(page(19) + page(-255) + page(45, 8)) == 8  # headers over two pages
    for damaged in (content + b"more than fits", content[:-1] + b"Ogg", b"OggS"):
        with pytest.raises(DataError, match="expected an Ogg file"):
            opus_packet_bytes(damaged + b"?")


@needs_opus
def test_opus_keeps_its_bitrate_and_the_place(speech):
    duration_s = speech.shape[1] / 16000
    for bitrate_bps in (12000.0, 32000.0):
        assert through(opus(bitrate_bps), speech, 16000).bits / duration_s == pytest.approx(bitrate_bps, rel=0.2)
    passed = through(opus(64000.0), speech, 16000)
    assert passed.audio.shape == speech.shape
    score = SignalScores(16000, ["si_sdr_db"])
    # Late by one sample, SI-SDR would be lower.
    aligned, late, early = (score(np.roll(passed.audio, shift), speech)["si_sdr_db"] for shift in (0, 1, -1))
    assert aligned > max(late, early, 15)
    assert min(passed.encode_s, passed.decode_s) > 0


@needs_opus
def test_channels_are_coded_alone_or_together(speech):
    both = np.concatenate([speech, speech[:, ::-1]])[:, :32000]
    coder = opus(64000.0)
    alone = [through(coder, channel[None], 16000) for channel in both]
    split, together = (through(coder, both, 16000, channels) for channels in (1, 2))
    assert split.bits == sum(passed.bits for passed in alone)
    assert np.array_equal(split.audio, np.concatenate([passed.audio for passed in alone]))
    assert together.audio.shape == both.shape
    assert together.bits < 0.8 * split.bits  # one stream of 64 kbps, where those alone are two


@needs_codec2
@pytest.mark.parametrize("mode", CODEC2_BITS)
def test_codec2_counts_its_bits_and_is_on_time(speech, mode):
    passed = through(codec2(mode), speech, 16000)
    bits, frame_ms = CODEC2_BITS[mode]
    assert passed.audio.shape == speech.shape
    assert passed.bits == bits * math.ceil(speech.shape[1] / 16000 / (frame_ms / 1000))
    # The envelopes, in steps of 5 ms, agree best where they are less than 10 ms apart.
    found, wanted = (np.abs(audio[0, :80000]).reshape(-1, 80).mean(axis=1) for audio in (passed.audio, speech))
    found, wanted = found - found.mean(), wanted - wanted.mean()
    shifts = range(-12, 13)
    best = max(shifts, key=lambda shift: float(np.roll(found, shift) @ wanted))
    assert abs(best) <= 2
    assert float(found @ wanted) > 0.7 * np.linalg.norm(found) * np.linalg.norm(wanted)


@needs_opus
@needs_codec2
def test_short_ones_keep_their_shape():
    for baseline in (opus(6000.0), codec2("700C")):
        for length in (1, 50):
            passed = through(baseline, np.full((2, length), 0.5, np.float32), 44100)
            assert passed.audio.shape == (2, length)
            assert passed.bits > 0


@needs_opus
@needs_codec2
def test_the_nearest_bitrates_are_chosen():
    there, absent = installed([3200.0, 3201.0, 1000.0, 24000.0, math.inf])
    names = ["codec2 1.2 kbps", "codec2 3.2 kbps", "opus 6 kbps", "opus 24 kbps"]
    assert [baseline.name for baseline in there] == names
    assert absent == []
    assert "opus" in there[-1].version().lower()
    assert installed([])[0] == []
    assert [one.name for one in installed([3200.0], [8000.0])[0]] == ["codec2 3.2 kbps", "opus 8 kbps"]


def test_a_program_that_is_absent_or_fails_is_one_line(monkeypatch, tmp_path, speech):
    monkeypatch.setenv("PATH", str(tmp_path))
    there, absent = installed([3200.0])
    assert there == []
    assert [line.split(" is left out")[0] for line in absent] == ["Opus", "Codec 2"]
    for name, program in (("opusenc", opus(6000.0)), ("c2enc", codec2("1300"))):
        (tmp_path / name).write_text("#!/bin/sh\necho first >&2\necho out of luck >&2\nexit 3\n")
        (tmp_path / name).chmod(0o755)
        with pytest.raises(DataError, match="failed \\(out of luck\\)"):
            through(program, speech, 16000)


@needs_opus
def test_evaluation_of_a_baseline(tmp_path, speech):
    soundfile.write(tmp_path / "a.wav", speech[0], 16000, subtype="FLOAT")
    (tmp_path / "damaged.wav").write_bytes(b"RIFF")
    plan = Plan(choose(["si_sdr_db"]), 1.0, jobs=1)
    sources = [Source(tmp_path / name, name) for name in ("a.wav", "damaged.wav")]
    coder = opus(24000.0)
    found = evaluate_coder(coder, sources, plan, 16000, 1)
    (file,) = found.files
    passed = through(coder, speech, 16000)
    duration_s = speech.shape[1] / 16000
    for bitrate_bps in (file.scores["bitrate_bps"], found.overall["entropy_coded_bitrate_bps"]):
        assert bitrate_bps == pytest.approx(passed.bits / duration_s)
    assert found.overall["nominal_bitrate_bps"] == 24000
    assert found.overall["encode_rtf"] > 0
    assert found.versions["opus 24 kbps"] == coder.version()
    assert [one.path for one in found.failures] == ["damaged.wav"]
    # In pieces, each of which is coded by itself.
    pieces = evaluate_coder(replace(coder, piece_s=2.0), sources[:1], plan._replace(timing=False), 16000, 1)
    bits = sum(through(coder, speech[:, i : i + 32000], 16000).bits for i in (0, 32000))
    bits += through(coder, speech[:, 64000:], 16000).bits
    assert pieces.files[0].scores["bitrate_bps"] == pytest.approx(bits / duration_s)
