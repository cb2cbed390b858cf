"""The scores and figures of a codec: names, units, which way is better, how they are computed; and the choice of them.

A score is one entry of `_ENTRIES` with its function, from which tables, CSV columns, help texts and versions follow.
torch and the packages of the extra `quality` are imported where they are used, so that commands show their help and
processes of `perceptual.py` start soon. Which packages were tried and not taken is in docs/scores.md.

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
"""By name. None where a score is not defined for the original, whatever was made of it; NaN where it is and was lost,
by a crash or a number that is not finite. To leave out what a codec lost would reward it."""

SEGMENT_S = 30.0
"""Longer recordings are scored in segments of this length, unless another is asked for."""

ALL = "all"
"""As a choice of scores: every one."""
ORIGINAL = "_original"
"""Ends the name of what a reference-free score says of the recording itself."""
MOS = "MOS"
"""Mean opinion score: the unit of what foretells one."""

WINDOW_LENGTHS = (32, 64, 128, 256, 512, 1024, 2048)
NUM_MELS = (5, 10, 20, 40, 80, 160, 320)
"""Those of the Descript Audio Codec (arXiv:2306.06546), in samples whatever the rate, as in loss=multi_scale_mel."""


@dataclass(frozen=True)
class Quantity:
    """One column of every table."""

    name: str
    """In files: CSV columns, JSON keys."""
    label: str
    """In tables and plots."""
    unit: str
    """Empty for a pure number."""
    higher_is_better: bool | None
    """None where neither is."""
    digits: int
    """After the point, in tables."""
    meaning: str
    """One sentence for a person who has not met it."""

    def shown(self, value: float | None) -> str:
        """Return a value with its digits, as in tables; a dash for None or NaN."""
        return "-" if value is None or value != value else f"{value:,.{self.digits}f}"


@dataclass(frozen=True, kw_only=True)
class Score(Quantity):
    """A quantity that is computed from a recording and what was made of it.

    Without packages it is computed of all channels together, in the model's process; with packages of each channel by
    itself, in a process that may crash (`perceptual.py`), and the mean over channels is taken.
    """

    compute: Callable[[Audio, Audio, int], float | None]
    """Returns the score of a reconstruction, its original, and the rate of both in Hz: (C, N) without packages, (N,)
    with them. None where it is not defined for the original."""
    packages: tuple[str, ...] = ()
    """Distributions of the extra `quality` that compute it, the foremost first; () is this package alone."""
    how: str
    """What they are asked for. It is part of the version: change it when the score changes."""
    by_default: bool = True
    """Whether it is computed where no scores are asked for."""
    rate: int = 16000
    """In Hz; with packages, audio at another rate is resampled to it."""
    of_silence: bool = False
    """Whether it is defined where the original is silent."""
    min_s: float = 0.0
    """It is not defined for shorter audio."""
    piece_s: float | None = None
    """With packages, longer audio is scored in equal pieces of at most this length, whose scores are averaged."""
    reference_free: bool = False
    """Whether it is computed from the reconstruction alone."""
    is_of_original: bool = False
    """Whether a reference-free score is that of the original, for comparison with that of the reconstruction."""

    def of(self, found: Audio, wanted: Audio, rate: int) -> float | None:
        """Return `compute` as one of `Scores`: None where it is not defined, NaN where it was lost."""
        if wanted.shape[-1] < self.min_s * rate or not (self.of_silence or wanted.any()):
            return None
        with np.errstate(all="ignore"):  # what float32 does not hold is lost, and not warned of
            value = self.compute(found, wanted, rate)
        return value if value is None or math.isfinite(value) else math.nan

    @property
    def is_installed(self) -> bool:
        """Whether its packages are there."""
        try:
            return all(version(package) for package in self.packages)
        except PackageNotFoundError:
            return False

    @property
    def version(self) -> str:
        """Its packages, and what they are asked for.

        Raises:
            PackageNotFoundError: one is not installed.
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
    """The mean over the channels that are not silent; one sample is always a multiple of another."""
    from discrete_ae.metrics import si_sdr_db

    return _by_torch(lambda *pair: si_sdr_db(*pair).mean(), found, wanted) if wanted.shape[-1] > 1 else None


def _stoi(found: Audio, wanted: Audio, rate: int) -> float | None:
    """Taal et al. 2011, "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech"."""
    import pystoi

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        value = float(pystoi.stoi(wanted.astype(np.float64), found.astype(np.float64), rate))
    # Of too few frames it warns, and returns a constant.
    too_short = any("Not enough STFT frames" in str(warning.message) for warning in said)
    return None if too_short else value


def _pesq(found: Audio, wanted: Audio, rate: int) -> float | None:
    """ITU-T P.862.2, wideband, by the ITU's own program."""
    import pesq

    try:
        return float(pesq.pesq(rate, wanted, _audible(found, wanted), "wb"))
    except pesq.BufferTooShortError:
        return None
    except pesq.NoUtterancesError:  # in the original, or where the two overlap once they are aligned
        return None if found is wanted or _pesq(wanted, wanted, rate) is None else math.nan


def _visqol(found: Audio, wanted: Audio, rate: int) -> float:
    """ViSQOL v3 (Chinen et al. 2020, arXiv:2004.09584) in speech mode; its best is about 4.5."""
    pair = wanted.astype(np.float64), _audible(found, wanted).astype(np.float64)
    return float(_visqol_api().measure_from_arrays(*pair, rate).moslqo)


@cache
def _visqol_api() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=True)
    return api


def _audible(found: Audio, wanted: Audio) -> Audio:
    """Noise in the place of what is as good as silent, for what divides by the level.

    To leave such a piece out would reward a codec for falling silent.
    """
    quietest = np.float32(2**-15) * np.abs(wanted).max()  # the rounding of 16 bits
    if np.abs(found).max() >= quietest:
        return found
    noise: Audio = np.random.default_rng(0).uniform(-1, 1, len(found)).astype(np.float32) * quietest
    return noise


def _dnsmos_p808(found: Audio, wanted: Audio, rate: int) -> float:
    """Reddy et al. 2021, arXiv:2010.15258."""
    return _dnsmos(found.tobytes(), rate)["p808_mos"]


def _dnsmos_ovrl(found: Audio, wanted: Audio, rate: int) -> float:
    """Reddy et al. 2022, arXiv:2110.01763."""
    return _dnsmos(found.tobytes(), rate)["ovrl_mos"]


@lru_cache(maxsize=4)  # all scores come of one pass
def _dnsmos(audio: bytes, rate: int) -> dict[str, float]:
    samples = np.frombuffer(audio, np.float32).clip(-1, 1)
    return {name: float(value) for name, value in _dnsmos_model()(samples, rate, False).items()}


@cache
def _dnsmos_model() -> Any:
    from onnxruntime import InferenceSession, SessionOptions
    from speechmos.dnsmos import DNSMOS

    options = SessionOptions()
    options.intra_op_num_threads = 1  # its own sessions take all cores, each
    paths = [str(files("speechmos") / "dnsmos_models" / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    model = DNSMOS(*paths)
    model.onnx_sess, model.p808_onnx_sess = (InferenceSession(path, options) for path in paths)
    return model


def _distillmos(found: Audio, wanted: Audio, rate: int) -> float:
    """Stahl and Gamper 2025, arXiv:2502.05356: distilled from a score by XLS-R."""
    return _by_torch(lambda audio, _: _distillmos_model()(audio), found, wanted)


@cache
def _distillmos_model() -> Any:
    import torch
    from distillmos import ConvTransformerSQAModel

    torch.set_num_threads(1)
    return ConvTransformerSQAModel().eval()


def _zimtohrli(found: Audio, wanted: Audio, rate: int) -> float:
    """Google's distance of auditory spectrograms after time warping; 0 of the same signal."""
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
    # PESQ is made for about 10 s, and its program has room for 50 utterances, each at least 0.4 s with its pause: of
    # more it crashes, as of 30 s of a drum at 120 beats a minute.
    Score("pesq", "PESQ", MOS, True, 2, "wideband perceptual evaluation of speech quality, 1 to 4.64",
          compute=_pesq, packages=("pesq",), how="wideband", min_s=0.25, piece_s=15.0),
    Score("visqol", "ViSQOL", MOS, True, 2, "virtual speech quality objective listener, 1 to 5, about 4.5 at best",
          compute=_visqol, packages=("visqol-python", "ai-edge-litert"), how="speech, lattice", min_s=1.0),
    Score("dnsmos_p808", "DNSMOS P.808", MOS, True, 2, "overall quality of speech without a reference, 1 to 5",
          compute=_dnsmos_p808, packages=_DNSMOS, how="1 thread", by_default=False, reference_free=True),
    Score("dnsmos_ovrl", "DNSMOS OVRL", MOS, True, 2, "P.835 overall quality of speech without a reference, 1 to 5",
          compute=_dnsmos_ovrl, packages=_DNSMOS, how="1 thread", by_default=False, reference_free=True),
    # It looks at 7.68 s, of longer audio at every second anew, all at once: 30 s would take 3 GB.
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
"""All by name, in the order of tables; reference-free ones are followed by the same of the recordings themselves."""
NAMES = tuple(name for name, score in SCORES.items() if not score.is_of_original)
"""Of those that can be asked for; with a reference-free one comes that of the recordings."""

PER_FILE = (
    *SCORES.values(),
    Quantity(
        "bitrate_bps",
        "bitrate",
        "bps",
        None,
        0,
        "bits per second of one recording's codes, compressed as in .daec; of other codecs as they write them",
    ),
)
"""Of every recording by itself, and as a mean over recordings."""

OVERALL = (
    Quantity("usage", "usage", "", True, 3, "share of codebook entries used at least once over all recordings"),
    Quantity("perplexity", "perplexity", "", True, 1, "exp of the entropy of the codes, mean over codebooks"),
    Quantity("entropy_bits", "entropy", "bits/frame", None, 1, "entropy of the codes, summed over codebooks"),
    Quantity("nominal_bitrate_bps", "nominal bitrate", "bps", None, 0,
             "what the model is built for, before compression: log2 of its codebook sizes, summed, times frames per "
             "second; of one channel where channels are coded alone"),
    Quantity("entropy_coded_bitrate_bps", "entropy-coded bitrate", "bps", None, 0,
             "what the codes of these recordings take after lossless compression, as in .daec files: all bits over all "
             "seconds, all channels together; of Opus its packets; none of codecs whose codes have a fixed length"),
    Quantity("encode_rtf", "encode RTF", "", False, 4, "seconds of computing per second of audio, recording to codes"),
    Quantity("decode_rtf", "decode RTF", "", False, 4, "seconds of computing per second of audio, codes to audio"),
    Quantity("parameters", "parameters", "", None, 0, "numbers that training optimized"),
    Quantity("macs_per_second", "MACs/s", "", None, 0, "multiply-accumulates for each second of audio"),
)  # fmt: skip
"""Of all recordings together, or of the model alone."""

QUANTITIES = {quantity.name: quantity for quantity in (*PER_FILE, *OVERALL)}

INSTALL = "pip install 'discrete-ae[quality]'"


class Choice(NamedTuple):
    """Scores that are to be computed."""

    names: tuple[str, ...]
    """In the order of `SCORES`."""
    missing: tuple[str, ...] = ()
    """Those that are left out because a package of theirs is not installed."""

    @property
    def said(self) -> str:
        """One line on those that are missing; empty where none is."""
        labels = [SCORES[name].label for name in self.missing if not SCORES[name].is_of_original]
        return f"{', '.join(labels)} left out: {INSTALL}" if labels else ""

    def versions(self) -> dict[str, str]:
        """Return the versions of every score, and of what computes it."""
        scores = {name: SCORES[name].version for name in self.names}
        return {"discrete-ae": discrete_ae.__version__, "torch": version("torch"), **scores}


def choose(wanted: str | Sequence[str] | None = None) -> Choice:
    """Return the scores that are wanted.

    Args:
        wanted: names of `NAMES`, or a text with one, or several joined by commas; `ALL`; or None for those by default,
            as far as their packages are installed.

    Raises:
        UsageError: for a name that is not among `NAMES`, none, or one whose package is not installed.
    """
    if isinstance(wanted, str):
        wanted = [name.strip() for name in wanted.split(",")]
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
