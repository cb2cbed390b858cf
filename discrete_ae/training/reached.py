"""The quality that a run has reached, in words that a newcomer understands."""

import math
from typing import NamedTuple

from discrete_ae.errors import counted


class _Level(NamedTuple):
    least_db: float
    """Least SI-SDR of the level."""
    words: str


_LEVELS = (
    _Level(-math.inf, "not usable yet"),
    _Level(0.0, "strong distortion"),
    _Level(6.0, "clearly audible distortion"),
    _Level(9.0, "close to the original waveform"),
)
USABLE_DB = 6.0
"""SI-SDR below which a run should be longer."""


def in_words(si_sdr_db: float, usage: float | None, *, is_adversarial: bool, recordings: int | None = None) -> str:
    """Return a line on the quality at the last validation.

    The line compares the energy of the error with that of the signal. A model that was trained against discriminators
    may sound good at a low SI-SDR.

    Args:
        si_sdr_db: mean SI-SDR over the validation recordings, in dB.
        usage: share of the codebook entries that are used; None without codes.
        is_adversarial: True if the run trains against discriminators.
        recordings: number of validation recordings; None if it is unknown.
    """
    codes = "" if usage is None else f", {usage:.0%} of the codebook entries used"
    basis = "" if recordings is None else f" on {counted(recordings, 'validation recording')}"
    doubt = " Other recordings may give another SI-SDR." if recordings == 1 else ""
    figures = f"reached: SI-SDR {si_sdr_db:z.1f} dB{basis}{codes}"
    if is_adversarial:
        return f"{figures}. Judge this model by listening: adversarial training does not aim at the waveform."
    level = next(level for level in reversed(_LEVELS) if si_sdr_db >= level.least_db)
    share = f"has {10 ** (-si_sdr_db / 10):.0%} of the signal's energy"
    error = f"The error {'is louder than the signal' if si_sdr_db < 0 else share}: {level.words}."
    return f"{figures}.{doubt} {error}"
