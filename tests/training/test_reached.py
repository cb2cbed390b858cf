"""Words for the quality of a run, at the bounds of its levels."""

import math

import pytest

from discrete_ae.training.reached import in_words


def said(si_sdr_db: float, usage: float | None = 0.5, *, is_adversarial: bool = False) -> str:
    return in_words(si_sdr_db, usage, is_adversarial=is_adversarial)


@pytest.mark.parametrize(
    ("si_sdr_db", "error"),
    [
        (-30.0, "The error is louder than the signal: not usable yet."),
        (-0.001, "The error is louder than the signal: not usable yet."),
        # An SI-SDR of s dB is a ratio of energies of 10 to the power of s / 10.
        (0.0, "The error has 100% of the signal's energy: strong distortion."),
        (10 * math.log10(2), "The error has 50% of the signal's energy: strong distortion."),
        (5.999, "The error has 25% of the signal's energy: strong distortion."),
        (6.0, "The error has 25% of the signal's energy: clearly audible distortion."),
        (8.999, "The error has 13% of the signal's energy: clearly audible distortion."),
        (9.0, "The error has 13% of the signal's energy: close to the original waveform."),
        (20.0, "The error has 1% of the signal's energy: close to the original waveform."),
    ],
)
def test_levels_at_their_bounds(si_sdr_db: float, error: str) -> None:
    assert said(si_sdr_db).endswith(f". {error}")


def test_figures_come_first_and_codes_only_with_a_quantizer() -> None:
    assert said(2.44, 0.934).startswith("reached: SI-SDR 2.4 dB, 93% of the codebook entries used. ")
    assert said(-0.04, None).startswith("reached: SI-SDR 0.0 dB. ")


def test_the_recordings_are_counted_and_a_single_one_is_called_uncertain() -> None:
    nine, one = (in_words(3.0, 0.5, is_adversarial=False, recordings=count) for count in (9, 1))
    assert nine.startswith("reached: SI-SDR 3.0 dB on 9 validation recordings, 50% of the codebook entries used. The")
    assert one.startswith("reached: SI-SDR 3.0 dB on 1 validation recording, 50%")
    assert "Other recordings may give another SI-SDR. The error" in one
    assert "Other recordings" not in nine


def test_adversarial_training_is_not_judged_by_the_waveform() -> None:
    words = said(-3.0, is_adversarial=True)
    assert "by listening" in words
    assert "usable" not in words
