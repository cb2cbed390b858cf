"""Measure the included model beyond clean speech of its own languages: other languages, noise, singing, music.

    python benchmarks/limits.py corpus

`corpus` is written by speech_corpus.py; all other recordings are those of data/. Writes benchmarks/results/limits.md
and the table of the model's card. Needs opus-tools and 'discrete-ae[quality]'.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from _common import REPOSITORY, insert, publish, table, versions
from _scores import heads, mean_cells, plan_of

import discrete_ae
from discrete_ae.evaluation.baselines import opus
from discrete_ae.evaluation.evaluate import evaluate_coder, evaluate_model
from discrete_ae.evaluation.recordings import find_sources
from discrete_ae.paths import PRETRAINED

NAMES = ("pesq", "visqol", "stoi", "si_sdr_db", "mel_distance")
CODEBOOKS = 16
OPUS_BPS = 6000.0
CARD = REPOSITORY / "discrete_ae" / "pretrained" / "speech_16k" / "README.md"
SNR_DB = (20, 10, 0)
LANGUAGES = {
    "Russian, Italian, Chinese: the voices trained on, other texts": ("ru_nsh", "ru_ivrvoice", "it_carlo", "zh_chulo"),
    "Bulgarian": ("bg_stamps",),
    "Danish": ("da_stamps",),
    "French": ("fr_june",),
    "Greek": ("el_stamps",),
    "Spanish": ("es_stamps",),
}
"""Folders of the corpus by what is spoken. No voice but those of the first row was trained on."""
KINDS = {
    "English": ("speech_l*",),
    "singing": ("singing_*",),
    "single notes": ("instrument_*",),
    "music": ("music_*",),
    "birds": ("bird_*",),
}
"""Recordings of data/ by content."""


def groups(corpus: Path) -> dict[str, list[Path]]:
    """Return the recordings of every row.

    Raises:
        SystemExit: the corpus lacks a folder.
    """
    found: dict[str, list[Path]] = {}
    for label, voices in LANGUAGES.items():
        places = [path for voice in voices for path in corpus.glob(f"*/other_*/{voice}") if path.parts[-3] != "train"]
        if len({path.name for path in places}) < len(voices):
            sys.exit(f"{corpus}: no folders of {', '.join(voices)}; write the corpus with benchmarks/speech_corpus.py")
        found[label] = sorted(path for place in places for path in place.iterdir())
    for label, patterns in KINDS.items():
        found[label] = sorted(path for pattern in patterns for path in (REPOSITORY / "data").rglob(pattern))
    return found


@contextmanager
def with_noise(paths: list[Path], snr_db: float) -> Iterator[list[Path]]:
    """Yield copies of mono recordings with pink noise, whose power is `snr_db` below theirs."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for path in paths:
            speech, rate = soundfile.read(path)
            spectrum = np.fft.rfft(generator.standard_normal(len(speech)))
            spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))  # power falls by 3 dB an octave
            noise = np.fft.irfft(spectrum, len(speech))
            noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2) / 10 ** (snr_db / 10))
            mixed = speech + noise
            copies.append(Path(folder) / path.name)
            soundfile.write(copies[-1], mixed / max(1.0, np.abs(mixed).max()), rate, subtype="PCM_16")
        yield copies


def rows(label: str, paths: list[Path]) -> list[list[str]]:
    """Return the row of the model and that of Opus."""
    model = discrete_ae.load()
    plan = plan_of(NAMES)
    sources = find_sources(paths).sources
    ours = evaluate_model(model, sources, PRETRAINED, plan, CODEBOOKS)
    theirs = evaluate_coder(opus(OPUS_BPS), sources, plan, model.sample_rate, 1)
    found = [[label, str(len(paths)), "model", *mean_cells(ours, NAMES)], ["", "", "Opus", *mean_cells(theirs, NAMES)]]
    for row in found:
        print(*row, flush=True)
    return found


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder written by speech_corpus.py")
    corpus = parser.parse_args().corpus
    recordings = groups(corpus)
    found = [row for label, paths in recordings.items() for row in rows(label, paths)]
    for snr_db in SNR_DB:
        with with_noise(recordings["French"], snr_db) as copies:
            found += rows(f"French with pink noise, SNR {snr_db} dB", copies)
    lines = table(["recordings", "count", "codec", *heads(NAMES)], found)
    publish(
        [
            "# The included model beyond clean speech of its languages",
            "",
            f"`python benchmarks/limits.py corpus`; {versions('pesq', 'visqol-python', 'pystoi')}, "
            f"{opus(OPUS_BPS).version()}. The model decodes all {CODEBOOKS} codebooks, 6.4 kbps nominal; Opus has "
            f"{OPUS_BPS / 1000:g} kbps. Means over recordings, each compared with what was encoded, noise included.",
            "PESQ and STOI are made for speech; for music, mel distance and SI-SDR say more.",
            "",
            *lines,
        ],
        "limits",
    )
    insert(CARD, "limits", ["", *lines])


if __name__ == "__main__":
    main()
