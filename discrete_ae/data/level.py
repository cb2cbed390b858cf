"""How loud audio is: a gain that keeps the peak, and a given loudness. Audio is (C, N), full scale at -1 and 1."""

import math

import torch.nn.functional as F
import torchaudio
from torch import Tensor

BLOCK_SECONDS = 0.4
"""Loudness is that of blocks of this length."""

MAX_GAIN_DB = 30.0
"""No audio is raised by more: what is nearly silence stays nearly silent."""

# torchaudio clips the filtered audio at full scale, which makes loud audio measure up to 4 dB too low. From this peak
# on, the filter cannot reach full scale.
_MEASURED_PEAK = 0.1


def amplify(audio: Tensor, gain_db: float) -> Tensor:
    """Multiply by a gain; by a lower one where the peak would exceed 1."""
    # Division by the peak itself gives exactly 1, multiplication by its inverse may give more.
    return audio / max(audio.abs().max().item(), 10 ** (-gain_db / 20))


def measure_loudness(audio: Tensor, sample_rate: int) -> float:
    """Loudness in LUFS, -inf for silence; audio shorter than a block counts as if silence followed.

    ITU-R BS.1770-4, https://www.itu.int/rec/R-REC-BS.1770, as torchaudio measures it, for up to 5 channels. One
    deviation: the absolute gate of -70 LUFS holds for the audio at a peak of -20 dB, so that quiet audio has a
    loudness too.
    """
    peak = audio.abs().max().item()
    if peak == 0:
        return -math.inf
    missing = max(round(BLOCK_SECONDS * sample_rate) - audio.shape[-1], 0)
    scaled = F.pad(audio * (_MEASURED_PEAK / peak), (0, missing))
    measured = torchaudio.functional.loudness(scaled, sample_rate).item()
    # Not a number: nothing but the end, shorter than the step from block to block, is more than silence.
    return -math.inf if math.isnan(measured) else measured + 20 * math.log10(peak / _MEASURED_PEAK)


def bring_to_loudness(audio: Tensor, sample_rate: int, loudness_lufs: float) -> Tensor:
    """Amplify to a loudness, by at most `MAX_GAIN_DB` and as far as the peak allows; silence is returned as it is."""
    measured = measure_loudness(audio, sample_rate)
    return audio if measured == -math.inf else amplify(audio, min(loudness_lufs - measured, MAX_GAIN_DB))
