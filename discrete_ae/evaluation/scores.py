"""Which scores there are of a pair of signals, and those that need torch; `perceptual.py` has the others."""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import discrete_ae
from discrete_ae.errors import UsageError
from discrete_ae.evaluation.perceptual import PACKAGES, Scores, perceptual_version
from discrete_ae.losses import MultiResolutionSTFT, MultiScaleMel
from discrete_ae.metrics import si_sdr_db

Audio = NDArray[np.float32]

WINDOW_LENGTHS = (32, 64, 128, 256, 512, 1024, 2048)
NUM_MELS = (5, 10, 20, 40, 80, 160, 320)
"""Those of the Descript Audio Codec (arXiv:2306.06546), in samples whatever the rate, as in loss=multi_scale_mel."""

NAMES = ("mel_distance", "stft_distance", "si_sdr_db", *PACKAGES)
"""All, in the order of `quantities.PER_FILE`."""
_REVISION = 1  # of the three whose code is this package's: raised when one of them changes what it gives
INSTALL = "pip install 'discrete-ae[quality]'"


class Choice(NamedTuple):
    """Scores that are to be computed."""

    names: tuple[str, ...]
    """In the order of `NAMES`."""
    missing: tuple[str, ...]
    """Those that are left out because their package is not installed."""

    @property
    def perceptual(self) -> tuple[str, ...]:
        """Those of `perceptual.py`."""
        return tuple(name for name in self.names if name in PACKAGES)

    def versions(self) -> dict[str, str]:
        """Of every score, and of what computes it."""
        own = f"revision {_REVISION}"
        said = {
            "mel_distance": f"{own}, windows {_listed(WINDOW_LENGTHS)}, mel bands {_listed(NUM_MELS)}",
            "stft_distance": f"{own}, windows 512 1024 2048",
            "si_sdr_db": own,
        }
        found = {name: perceptual_version(name) if name in PACKAGES else said[name] for name in self.names}
        return {"discrete-ae": discrete_ae.__version__, "torch": torch.__version__, **found}


def choose(wanted: Sequence[str] | None = None) -> Choice:
    """The scores that are wanted; None is all whose packages are installed.

    Raises:
        UsageError: for a name that is not among `NAMES`, none, or one whose package is not installed.
    """
    if wanted is not None:
        unknown = [name for name in wanted if name not in NAMES]
        if unknown or not wanted:
            raise UsageError(f"metrics: expected some of {', '.join(NAMES)}, got {unknown[0] if unknown else 'none'}")
    missing = [name for name in NAMES if name in PACKAGES and find_spec(PACKAGES[name]) is None]
    if wanted is not None and (absent := [name for name in missing if name in wanted]):
        raise UsageError(f"metrics: {absent[0]} needs a package that is not installed: {INSTALL}")
    names = tuple(name for name in NAMES if name in (wanted or NAMES) and name not in missing)
    return Choice(names, () if wanted else tuple(missing))


class SignalScores:
    """Scores of pairs on the CPU.

    Args:
        sample_rate: of the pairs, in Hz.
        names: which; those that are not of this file are left to `perceptual.py`.
    """

    def __init__(self, sample_rate: int, names: Sequence[str]) -> None:
        self._distances: dict[str, nn.Module] = {}
        if "mel_distance" in names:
            self._distances["mel_distance"] = MultiScaleMel(sample_rate, WINDOW_LENGTHS, NUM_MELS)
        if "stft_distance" in names:
            self._distances["stft_distance"] = MultiResolutionSTFT()
        self._has_si_sdr = "si_sdr_db" in names

    @torch.no_grad()
    def __call__(self, reconstruction: Audio, original: Audio) -> Scores:
        """`Scores` of a finite reconstruction (C, n) of `original` (C, n); any n >= 1.

        SI-SDR and the STFT distance are not defined where the original, by which they divide, is silent; SI-SDR is the
        mean over the channels that are not. Lost is what float32 does not hold, as the squares of samples of 1e20.
        """
        found, wanted = (torch.from_numpy(audio)[None] for audio in (reconstruction, original))
        is_silent = not original.any()
        scores: Scores = {}
        scores |= {name: float(module(found, wanted)) for name, module in self._distances.items()}
        if is_silent and "stft_distance" in scores:
            scores["stft_distance"] = None
        if self._has_si_sdr:
            is_defined = not is_silent and original.shape[1] > 1  # one sample is always a multiple of another
            scores["si_sdr_db"] = float(si_sdr_db(found, wanted).mean()) if is_defined else None
        return {name: score if score is None or math.isfinite(score) else math.nan for name, score in scores.items()}


def _listed(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))
