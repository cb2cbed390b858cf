"""Words for the quality of a run, at the bounds of its levels."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from discrete_ae.data import AudioDataModule, AudioFile
from discrete_ae.training.reached import in_words
from discrete_ae.training.run import _is_called_speech


def said(si_sdr_db: float, usage: float | None = 0.5, *, is_speech: bool = False, is_adversarial: bool = False) -> str:
    return in_words(si_sdr_db, usage, is_speech=is_speech, is_adversarial=is_adversarial)


@pytest.mark.parametrize(
    ("si_sdr_db", "error", "pesq"),
    [
        (-30.0, "The error is louder than the signal: not usable yet.", "about 1.1"),
        (-0.001, "The error is louder than the signal: not usable yet.", "about 1.1"),
        # An SI-SDR of s dB is a ratio of energies of 10 to the power of s / 10.
        (0.0, "The error has 100% of the signal's energy: strong distortion.", "1.1 to 1.4"),
        (10 * math.log10(2), "The error has 50% of the signal's energy: strong distortion.", "1.1 to 1.4"),
        (5.999, "The error has 25% of the signal's energy: strong distortion.", "1.1 to 1.4"),
        (6.0, "The error has 25% of the signal's energy: clearly audible distortion.", "1.3 to 1.7"),
        (8.999, "The error has 13% of the signal's energy: clearly audible distortion.", "1.3 to 1.7"),
        (9.0, "The error has 13% of the signal's energy: close to the original waveform.", "1.6 to 2.1"),
        (20.0, "The error has 1% of the signal's energy: close to the original waveform.", "1.6 to 2.1"),
    ],
)
def test_levels_at_their_bounds(si_sdr_db: float, error: str, pesq: str) -> None:
    assert said(si_sdr_db).endswith(f". {error}")
    assert f"{error} Speech at this SI-SDR scored PESQ {pesq} in our benchmarks" in said(si_sdr_db, is_speech=True)


def test_figures_come_first_and_codes_only_with_a_quantizer() -> None:
    assert said(2.44, 0.934).startswith("reached: SI-SDR 2.4 dB, 93% of the codebook entries used. ")
    assert said(-0.04, None).startswith("reached: SI-SDR 0.0 dB. ")


def test_the_recordings_are_counted_and_a_single_one_is_called_uncertain() -> None:
    nine, one = (in_words(3.0, 0.5, is_speech=False, is_adversarial=False, recordings=count) for count in (9, 1))
    assert nine.startswith("reached: SI-SDR 3.0 dB on 9 validation recordings, 50% of the codebook entries used. The")
    assert one.startswith("reached: SI-SDR 3.0 dB on 1 validation recording, 50%")
    assert "Other recordings may give another SI-SDR. The error" in one
    assert "Other recordings" not in nine


def test_adversarial_training_is_not_judged_by_the_waveform() -> None:
    words = said(-3.0, is_speech=True, is_adversarial=True)
    assert "by listening" in words
    assert "usable" not in words
    assert "PESQ" not in words


@pytest.mark.parametrize(
    ("root", "names", "is_speech"),
    [
        ("/my_speech_codec/data", ["a.wav", "speech/b.wav"], False),  # folders above say nothing
        ("/data/LibriSpeech", ["84/a.flac", "84/b.flac"], True),
        ("/data", ["speech/a.wav", "Speech_b.wav"], True),
        ("/data/speech", [], False),
    ],
)
def test_recordings_are_speech_if_their_names_say_so(root: str, names: list[str], is_speech: bool) -> None:
    files = [AudioFile(f"{root}/{name}", 16000, 1, 16000) for name in names]
    data = cast(AudioDataModule, SimpleNamespace(validation_root=Path(root), validation_files=files))
    assert _is_called_speech(data) == is_speech
