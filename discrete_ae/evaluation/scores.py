"""What is measured of a codec: names, units, which way is better, what computes it; and which of it is asked for.

A score is one entry of `SCORES`, from which tables, CSV columns, help texts and versions follow. Without torch, so that
commands show their help and processes of `perceptual.py` start soon.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import discrete_ae
from discrete_ae.errors import UsageError

SEGMENT_S = 30.0
"""Longer recordings are scored in segments of this length, unless another is asked for."""

ALL = "all"
"""Asks for every score."""
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


@dataclass(frozen=True, kw_only=True)
class Score(Quantity):
    """A quantity that is computed from a recording and what was made of it.

    By `scoring.SignalScores`; where there are packages, by the function of `perceptual.py` with the score's name.
    """

    packages: tuple[str, ...] = ()
    """Distributions of the extra `quality` that compute it, the foremost first; () is this package alone."""
    how: str
    """What they are asked for. It is part of the version: change it when the score changes."""
    by_default: bool = True
    """Whether it is computed where no scores are asked for."""
    rate: int = 16000
    """In Hz; audio at another rate is resampled to it. Not of `SignalScores`."""
    min_s: float = 0.0
    """It is not defined for shorter audio."""
    piece_s: float | None = None
    """Longer audio is given to it in equal pieces of at most this length, whose scores are averaged."""
    reference_free: bool = False
    """Whether it is of what was made of the recording alone."""
    is_of_original: bool = False
    """Whether it is of the recording instead: what a reference-free score is held against."""

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


_SCORES = (
    Score("mel_distance", "mel distance", "", False, 3,
          "mean |log10| difference of mel spectrograms at seven window lengths",
          how=f"revision 1, windows {' '.join(map(str, WINDOW_LENGTHS))}, mel bands {' '.join(map(str, NUM_MELS))}"),
    Score("stft_distance", "STFT distance", "", False, 3,
          "spectral convergence plus log magnitude difference, mean of three window lengths",
          how="revision 1, windows 512 1024 2048"),
    Score("si_sdr_db", "SI-SDR", "dB", True, 2, "scale-invariant signal-to-distortion ratio of the waveform",
          how="revision 1"),
    Score("stoi", "STOI", "", True, 3, "short-time objective intelligibility of speech, 0 to 1",
          packages=("pystoi",), how="not extended", min_s=0.4),  # 30 frames of 25.6 ms, overlapping by half
    # PESQ is made for about 10 s, and its program has room for 50 utterances, each at least 0.4 s with its pause: of
    # more it crashes, as of 30 s of a drum at 120 beats a minute.
    Score("pesq", "PESQ", MOS, True, 2, "wideband perceptual evaluation of speech quality, 1 to 4.64",
          packages=("pesq",), how="wideband", min_s=0.25, piece_s=15.0),
    Score("visqol", "ViSQOL", MOS, True, 2, "virtual speech quality objective listener, 1 to 5, about 4.5 at best",
          packages=("visqol-python", "ai-edge-litert"), how="speech, lattice", min_s=1.0),
    Score("dnsmos_p808", "DNSMOS P.808", MOS, True, 2, "overall quality of speech without a reference, 1 to 5",
          packages=("speechmos", "librosa", "onnxruntime", "requests"), how="1 thread", by_default=False,
          reference_free=True),
    Score("dnsmos_ovrl", "DNSMOS OVRL", MOS, True, 2, "P.835 overall quality of speech without a reference, 1 to 5",
          packages=("speechmos", "librosa", "onnxruntime", "requests"), how="1 thread", by_default=False,
          reference_free=True),
    # It looks at 7.68 s, of longer audio at every second anew, all at once: 30 s would take 3 GB.
    Score("distillmos", "DistillMOS", MOS, True, 2, "quality of speech without a reference, 1 to 5",
          packages=("distillmos", "xls-r-sqa", "torch"), how="variant 7", by_default=False, piece_s=15.0,
          reference_free=True),
    Score("zimtohrli", "Zimtohrli", "", False, 4, "psychoacoustic distance near the just noticeable, 0 to 1",
          packages=("zimtohrli",), how="distance", by_default=False, rate=48000, min_s=0.25),
)  # fmt: skip


def _with_originals(score: Score) -> list[Score]:
    if not score.reference_free:
        return [score]
    label = f"{score.label} of the original"
    return [
        score,
        replace(score, name=score.name + ORIGINAL, label=label, higher_is_better=None, is_of_original=True),
    ]


SCORES = {score.name: score for entry in _SCORES for score in _with_originals(entry)}
"""All by name, in the order of tables; reference-free ones are followed by the same of the recordings themselves."""
NAMES = tuple(name for name, score in SCORES.items() if not score.is_of_original)
"""Of those that can be asked for; with a reference-free one comes that of the recordings."""

PER_FILE = (
    *SCORES.values(),
    Quantity("bitrate_bps", "bitrate", "bps", None, 0, "bits of the entropy-coded payload for each second of audio"),
)
"""Of every recording by itself, and as a mean over recordings."""

OVERALL = (
    Quantity("usage", "usage", "", True, 3, "share of codebook entries used at least once over all recordings"),
    Quantity("perplexity", "perplexity", "", True, 1, "exp of the entropy of the codes, mean over codebooks"),
    Quantity("entropy_bits", "entropy", "bits/frame", None, 1, "entropy of the codes, summed over codebooks"),
    Quantity("nominal_bitrate_bps", "nominal bitrate", "bps", None, 0,
             "bits per frame times frame rate; of each channel where channels are coded alone"),
    Quantity("entropy_coded_bitrate_bps", "entropy-coded bitrate", "bps", None, 0,
             "bits of all entropy-coded payloads over all seconds of audio"),
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
    def perceptual(self) -> tuple[str, ...]:
        """Those of `perceptual.py`."""
        return tuple(name for name in self.names if SCORES[name].packages)

    @property
    def said(self) -> str:
        """One line on those that are missing; empty where none is."""
        labels = [SCORES[name].label for name in self.missing if not SCORES[name].is_of_original]
        if not labels:
            return ""
        listed = " and ".join(filter(None, [", ".join(labels[:-1]), labels[-1]]))
        return f"{listed} {'is' if len(labels) == 1 else 'are'} left out: {INSTALL}"

    def versions(self) -> dict[str, str]:
        """Of every score, and of what computes it."""
        scores = {name: SCORES[name].version for name in self.names}
        return {"discrete-ae": discrete_ae.__version__, "torch": version("torch"), **scores}


def choose(wanted: Sequence[str] | None = None) -> Choice:
    """The scores that are wanted; None is those of `Score.by_default`, `ALL` every one, as far as packages are there.

    Raises:
        UsageError: for a name that is not among `NAMES`, none, or one whose package is not installed.
    """
    if wanted is None:
        asked = [score for score in SCORES.values() if score.by_default]
    elif list(wanted) == [ALL]:
        asked = list(SCORES.values())
    else:
        unknown = [name for name in wanted if name not in NAMES]
        if unknown or not wanted:
            raise UsageError(
                f"metrics: expected {ALL}, or some of {', '.join(NAMES)}, got {unknown[0] if unknown else 'none'}"
            )
        asked = [score for score in SCORES.values() if score.name.removesuffix(ORIGINAL) in wanted]
        if absent := [score.name for score in asked if not score.is_installed]:
            raise UsageError(f"metrics: {absent[0]} needs a package that is not installed: {INSTALL}")
    there = [score.name for score in asked if score.is_installed]
    return Choice(tuple(there), tuple(score.name for score in asked if score.name not in there))
