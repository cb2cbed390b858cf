"""Scores and figures of a codec: names, units, direction, computation; and the selection of scores.

A score is one entry of `_ENTRIES` with its function. Tables, CSV columns, help texts and versions use this entry.
torch and the packages of the extra `quality` are imported inside functions, so that help texts and the processes of
`perceptual.py` start fast. docs/scores.md lists the packages that were tried and rejected.

Axes: C channels, N samples.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import discrete_ae
from discrete_ae.errors import UsageError

Audio = NDArray[np.float32]
Scores = dict[str, float | None]
"""Scores by name. None if a score is not defined for the original; NaN if it is defined but was lost because of
a crash or a non-finite value. Skipping lost scores would reward the codec that caused them."""

SEGMENT_S = 30.0
"""Default length of the segments in which longer recordings are scored."""

ALL = "all"
"""Name that selects every score."""
ORIGINAL = "_original"
"""Suffix of the name of a reference-free score applied to the original recording."""
MOS = "MOS"
"""Unit of scores that predict a mean opinion score."""

WINDOW_LENGTHS = (32, 64, 128, 256, 512, 1024, 2048)
NUM_MELS = (5, 10, 20, 40, 80, 160, 320)
"""Numbers of mel bands for WINDOW_LENGTHS, which are in samples at any sample rate. Both are those of the Descript
Audio Codec (arXiv:2306.06546), as in loss=multi_scale_mel."""


@dataclass(frozen=True)
class Quantity:
    """One column of every table."""

    name: str
    """Name in files: CSV columns, JSON keys."""
    label: str
    """Name in tables and plots."""
    unit: str
    """Unit; empty if dimensionless."""
    higher_is_better: bool | None
    """None if neither direction is better."""
    digits: int
    """Decimal places in tables."""
    meaning: str
    """One-sentence explanation for a newcomer."""

    def shown(self, value: float | None) -> str:
        """Format a value for tables; a dash for None or NaN."""
        return "-" if value is None or value != value else f"{value:z,.{self.digits}f}"


@dataclass(frozen=True, kw_only=True)
class Score(Quantity):
    """A quantity computed from a recording and its reconstruction.

    A score without packages is computed for all channels together, in the model's process. A score with packages is
    the mean over channels, each scored separately in a process that may crash (`perceptual.py`).
    """

    compute: Callable[[Audio, Audio, int], float | None]
    """Function that maps reconstruction, original and their sample rate in Hz to the score; None if the score is not
    defined for the original. Audio is (C, N) without packages, (N,) with packages."""
    packages: tuple[str, ...] = ()
    """Distributions of the extra `quality` that compute it, the main one first; () if this package computes it."""
    how: str
    """Settings of the computation. They are part of the version: change them when the score changes."""
    by_default: bool = True
    """True if computed when no scores are requested."""
    rate: int = 16000
    """Sample rate in Hz to which audio is resampled, for scores with packages."""
    of_silence: bool = False
    """True if defined for a silent original."""
    min_s: float = 0.0
    """Minimum duration; the score is not defined for shorter audio."""
    piece_s: float | None = None
    """Maximum duration of the equal pieces whose scores are averaged, for scores with packages; None for no limit."""
    reference_free: bool = False
    """True if computed from the reconstruction alone."""
    is_of_original: bool = False
    """True for a reference-free score of the original, to compare with that of the reconstruction."""

    def of(self, found: Audio, wanted: Audio, rate: int) -> float | None:
        """Return the score as in `Scores`: None if not defined, NaN if lost."""
        if wanted.shape[-1] < self.min_s * rate or not (self.of_silence or wanted.any()):
            return None
        with np.errstate(all="ignore"):  # if float32 overflows, the score is lost without a warning
            value = self.compute(found, wanted, rate)
        return value if value is None or math.isfinite(value) else math.nan

    @property
    def is_installed(self) -> bool:
        """True if its packages are installed."""
        try:
            return all(version(package) for package in self.packages)
        except PackageNotFoundError:
            return False

    @property
    def version(self) -> str:
        """Versions of its packages, and the settings of the computation.

        Raises:
            PackageNotFoundError: a package is not installed.
        """
        if not self.packages:
            return self.how
        packages = ", ".join(f"{package} {version(package)}" for package in self.packages)
        pieces = f", pieces of at most {self.piece_s:g} s" if self.piece_s else ""
        return f"{packages}, {self.rate} Hz, {self.how}{pieces}"


def _by_torch(function: Callable[[Any, Any], Any], found: Audio, wanted: Audio) -> float:
    import torch

    with torch.inference_mode():
        return float(function(torch.from_numpy(found)[None], torch.from_numpy(wanted)[None]))


def _mel_distance(found: Audio, wanted: Audio, rate: int) -> float:
    return _by_torch(_mel(rate), found, wanted)


@cache
def _mel(rate: int) -> Any:
    from discrete_ae.losses import MultiScaleMel

    return MultiScaleMel(rate, WINDOW_LENGTHS, NUM_MELS)


def _stft_distance(found: Audio, wanted: Audio, rate: int) -> float:
    from discrete_ae.losses import MultiResolutionSTFT

    return _by_torch(MultiResolutionSTFT(), found, wanted)


def _si_sdr_db(found: Audio, wanted: Audio, rate: int) -> float | None:
    """Return the mean over channels that are not silent; None for one sample, which scaling always fits."""
    from discrete_ae.metrics import si_sdr_db

    return _by_torch(lambda *pair: si_sdr_db(*pair).mean(), found, wanted) if wanted.shape[-1] > 1 else None


def _stoi(found: Audio, wanted: Audio, rate: int) -> float | None:
    """Compute STOI.

    Taal et al. 2011, "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech".
    """
    import pystoi

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        value = float(pystoi.stoi(wanted.astype(np.float64), found.astype(np.float64), rate))
    # With too few frames, pystoi warns and returns a constant.
    too_short = any("Not enough STFT frames" in str(warning.message) for warning in said)
    return None if too_short else value


def _pesq(found: Audio, wanted: Audio, rate: int) -> float | None:
    """Compute wideband PESQ (ITU-T P.862.2) by the ITU's own program."""
    import pesq

    try:
        return float(pesq.pesq(rate, wanted, _audible(found, wanted), "wb"))
    except pesq.BufferTooShortError:
        return None
    except pesq.NoUtterancesError:  # in the original, or in the overlap of the two after alignment
        return None if found is wanted or _pesq(wanted, wanted, rate) is None else math.nan


def _visqol(found: Audio, wanted: Audio, rate: int) -> float:
    """Compute ViSQOL v3 (Chinen et al. 2020, arXiv:2004.09584) in speech mode; its maximum is about 4.5."""
    pair = wanted.astype(np.float64), _audible(found, wanted).astype(np.float64)
    return float(_visqol_api().measure_from_arrays(*pair, rate).moslqo)


@cache
def _visqol_api() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=True)
    return api


def _audible(found: Audio, wanted: Audio) -> Audio:
    """Replace a nearly silent reconstruction by faint noise, for scores that divide by the level.

    Skipping such a piece would reward a codec that outputs silence.
    """
    quietest = np.float32(2**-15) * np.abs(wanted).max()  # one step of 16 bits
    if np.abs(found).max() >= quietest:
        return found
    noise: Audio = np.random.default_rng(0).uniform(-1, 1, len(found)).astype(np.float32) * quietest
    return noise


def _dnsmos_p808(found: Audio, wanted: Audio, rate: int) -> float:
    """Compute DNSMOS P.808: Reddy et al. 2021, arXiv:2010.15258."""
    return _dnsmos(found.tobytes(), rate)["p808_mos"]


def _dnsmos_ovrl(found: Audio, wanted: Audio, rate: int) -> float:
    """Compute DNSMOS P.835, overall quality: Reddy et al. 2022, arXiv:2110.01763."""
    return _dnsmos(found.tobytes(), rate)["ovrl_mos"]


@lru_cache(maxsize=4)  # one pass gives all scores
def _dnsmos(audio: bytes, rate: int) -> dict[str, float]:
    samples = np.frombuffer(audio, np.float32).clip(-1, 1)
    return {name: float(value) for name, value in _dnsmos_model()(samples, rate, False).items()}


@cache
def _dnsmos_model() -> Any:
    from onnxruntime import InferenceSession, SessionOptions
    from speechmos.dnsmos import DNSMOS

    options = SessionOptions()
    options.intra_op_num_threads = 1  # each of DNSMOS's own sessions uses all cores
    paths = [str(files("speechmos") / "dnsmos_models" / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    model = DNSMOS(*paths)
    model.onnx_sess, model.p808_onnx_sess = (InferenceSession(path, options) for path in paths)
    return model


def _distillmos(found: Audio, wanted: Audio, rate: int) -> float:
    """Compute DistillMOS (Stahl and Gamper 2025, arXiv:2502.05356), distilled from a score based on XLS-R."""
    return _by_torch(lambda audio, _: _distillmos_model()(audio), found, wanted)


@cache
def _distillmos_model() -> Any:
    import torch
    from distillmos import ConvTransformerSQAModel

    torch.set_num_threads(1)
    return ConvTransformerSQAModel().eval()


def _zimtohrli(found: Audio, wanted: Audio, rate: int) -> float:
    """Compute Zimtohrli, Google's distance of auditory spectrograms after time warping; 0 for equal signals."""
    import zimtohrli

    return float(zimtohrli.Pyohrli().distance(found, wanted))


_DNSMOS = ("speechmos", "librosa", "onnxruntime", "requests")
_ENTRIES = (
    Score("mel_distance", "mel distance", "", False, 3,
          "mean |log10| difference of mel spectrograms at seven window lengths",
          compute=_mel_distance, of_silence=True,
          how=f"revision 1, windows {' '.join(map(str, WINDOW_LENGTHS))}, mel bands {' '.join(map(str, NUM_MELS))}"),
    Score("stft_distance", "STFT distance", "", False, 3,
          "spectral convergence plus log magnitude difference, mean of three window lengths",
          compute=_stft_distance, how="revision 1, windows 512 1024 2048"),
    Score("si_sdr_db", "SI-SDR", "dB", True, 2, "scale-invariant signal-to-distortion ratio of the waveform",
          compute=_si_sdr_db, how="revision 1"),
    Score("stoi", "STOI", "", True, 3, "short-time objective intelligibility of speech, 0 to 1",
          compute=_stoi, packages=("pystoi",), how="not extended",
          min_s=0.4),  # 30 frames of 25.6 ms, overlapping by half
    # PESQ is designed for about 10 s. Its program crashes on more than 50 utterances, each at least 0.4 s long with its
    # pause; 30 s of a drum at 120 beats per minute have more.
    Score("pesq", "PESQ", MOS, True, 2, "wideband perceptual evaluation of speech quality, 1 to 4.64",
          compute=_pesq, packages=("pesq",), how="wideband", min_s=0.25, piece_s=15.0),
    Score("visqol", "ViSQOL", MOS, True, 2, "virtual speech quality objective listener, 1 to 5, about 4.5 at best",
          compute=_visqol, packages=("visqol-python", "ai-edge-litert"), how="speech, lattice", min_s=1.0),
    Score("dnsmos_p808", "DNSMOS P.808", MOS, True, 2, "overall quality of speech without a reference, 1 to 5",
          compute=_dnsmos_p808, packages=_DNSMOS, how="1 thread", by_default=False, reference_free=True),
    Score("dnsmos_ovrl", "DNSMOS OVRL", MOS, True, 2, "P.835 overall quality of speech without a reference, 1 to 5",
          compute=_dnsmos_ovrl, packages=_DNSMOS, how="1 thread", by_default=False, reference_free=True),
    # DistillMOS takes windows of 7.68 s at every second, all in one batch: 30 s would need 3 GB.
    Score("distillmos", "DistillMOS", MOS, True, 2, "quality of speech without a reference, 1 to 5",
          compute=_distillmos, packages=("distillmos", "xls-r-sqa", "torch"), how="variant 7", by_default=False,
          piece_s=15.0, reference_free=True),
    Score("zimtohrli", "Zimtohrli", "", False, 4, "psychoacoustic distance near the just noticeable, 0 to 1",
          compute=_zimtohrli, packages=("zimtohrli",), how="distance", by_default=False, rate=48000, min_s=0.25),
)  # fmt: skip


def _with_original(score: Score) -> list[Score]:
    label, name = f"{score.label} of the original", score.name + ORIGINAL
    original = replace(score, name=name, label=label, higher_is_better=None, is_of_original=True)
    return [score, original] if score.reference_free else [score]


SCORES = {score.name: score for entry in _ENTRIES for score in _with_original(entry)}
"""Scores by name, in the order of tables; each reference-free score is followed by the same score of the originals."""
NAMES = tuple(name for name, score in SCORES.items() if not score.is_of_original)
"""Names that can be requested; with a reference-free score, the same score of the originals is computed."""

PER_FILE = (
    *SCORES.values(),
    Quantity("bitrate_bps", "bitrate", "bps", None, 0,
             "bits per second of a recording's codes, all channels together, compressed as in .daec"),
)  # fmt: skip
"""Quantities of each recording, and means over recordings."""

OVERALL = (
    Quantity("usage", "usage", "", True, 3, "share of codebook entries used at least once over all recordings"),
    Quantity("perplexity", "perplexity", "", True, 1, "exp of the entropy of the codes, mean over codebooks"),
    Quantity("entropy_bits", "entropy", "bits/frame", None, 1, "entropy of the codes, summed over codebooks"),
    Quantity("nominal_bitrate_bps", "nominal bitrate", "bps", None, 0,
             "bitrate before compression, of one channel if channels are coded separately: sum of log2 of the codebook "
             "sizes, times frames per second"),
    Quantity("entropy_coded_bitrate_bps", "entropy-coded bitrate", "bps", None, 0,
             "bitrate after lossless compression, as in .daec files, all channels together: total bits by total "
             "duration; for Opus, its packets; missing for codes of a fixed length"),
    Quantity("encode_rtf", "encode RTF", "s/s", False, 4,
             "real-time factor: seconds of computing per second of audio, recording to codes"),
    Quantity("decode_rtf", "decode RTF", "s/s", False, 4,
             "real-time factor: seconds of computing per second of audio, codes to audio"),
    Quantity("parameters", "parameters", "", None, 0, "number of trained parameters"),
    Quantity("macs_per_second", "MACs/s", "", None, 0, "multiply-accumulates for each second of audio"),
)  # fmt: skip
"""Quantities of all recordings together, or of the model alone."""

QUANTITIES = {quantity.name: quantity for quantity in (*PER_FILE, *OVERALL)}

INSTALL = "pip install 'discrete-ae[quality]'"


class Choice(NamedTuple):
    """Scores to compute."""

    names: tuple[str, ...]
    """Names in the order of `SCORES`."""
    missing: tuple[str, ...] = ()
    """Names of scores that are omitted because a package is not installed."""

    @property
    def said(self) -> str:
        """One line on the missing scores; empty if none is missing."""
        labels = [SCORES[name].label for name in self.missing if not SCORES[name].is_of_original]
        return f"{', '.join(labels)} left out: {INSTALL}" if labels else ""

    def versions(self) -> dict[str, str]:
        """Return the versions of this package, of torch and of every score."""
        scores = {name: SCORES[name].version for name in self.names}
        return {"discrete-ae": discrete_ae.__version__, "torch": version("torch"), **scores}


def choose(wanted: str | Sequence[str] | None = None) -> Choice:
    """Return the requested scores.

    Args:
        wanted: names from `NAMES`, as a sequence or a string separated by commas; `ALL` for every score; or None for
            the default ones. `ALL` and None skip scores whose packages are not installed.

    Raises:
        UsageError: `wanted` is empty, or has a name that is unknown or whose package is not installed.
    """
    if isinstance(wanted, str):
        wanted = [name for name in map(str.strip, wanted.split(",")) if name]
    if wanted is None or list(wanted) == [ALL]:
        asked = [score for score in SCORES.values() if wanted or score.by_default]
        names = tuple(score.name for score in asked if score.is_installed)
        return Choice(names, tuple(score.name for score in asked if score.name not in names))
    if unknown := next(iter(set(wanted) - set(NAMES)), "" if wanted else "none"):
        raise UsageError(f"metrics: expected {ALL}, or some of {', '.join(NAMES)}, got {unknown}")
    asked = [score for score in SCORES.values() if score.name.removesuffix(ORIGINAL) in wanted]
    if absent := [score.name for score in asked if not score.is_installed]:
        raise UsageError(f"metrics: {absent[0]} needs a package that is not installed: {INSTALL}")
    return Choice(tuple(score.name for score in asked))
