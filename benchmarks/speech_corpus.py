"""Lay out speech from Debian packages for training at 16 kHz: train/, validation/ and test/, with a folder per voice.

    mkdir packages && cd packages
    apt-get download festvox-ru asterisk-core-sounds-{en,es,fr,it,ru}-g722 gcin-voice tuxpaint-stamps-default
    for package in *.deb; do dpkg -x $package root; done && cd ..
    python benchmarks/speech_corpus.py packages/root corpus --licences permissive

`--licences permissive` trains on recordings whose licence allows weights under any licence, with attribution: BSD-like
and CC-BY. `--licences all` adds those under CC-BY-SA and the GPL. validation/ and test/ are the same for both.

Texts are separate: a text in validation/ or test/ occurs in no file of train/, by any voice of its package.
Speakers are separate: `other_voices` of validation/ and test/ are in no other folder. `other_texts` are by voices of
train/; with `permissive`, only four of them. Short recordings are joined with others of the same voice.
Needs ffmpeg for the G.722 of the telephone prompts.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 16000
PAUSE_S = 0.15  # between joined recordings
LEAST_S = {"train": 20.0, "validation": 4.0, "test": 4.0}  # recordings are joined up to this
MOST_S = 12.0  # of a held-out recording
HELD_OUT = {"validation": 0.04, "test": 0.04}  # share of the texts of voices in train/
CLIPS = {"other_texts": 4, "other_voices": 12}  # at most, of a voice in validation/ and test/


@dataclass(frozen=True)
class Source:
    """One voice of a package, or several voices of which only the language is known."""

    package: str
    voice: str
    folder: str
    pattern: str
    licence: str
    permissive: bool = False
    side: str = "train"
    """Split of the voice; a voice in train/ also has other texts in validation/ and test/."""


def asterisk(language: str, voice: str, licence: str, **options: str | bool) -> Source:
    """Return telephone prompts, which have the same texts and file names in every language."""
    return Source(
        f"asterisk-core-sounds-{language}-g722", f"{language}_{voice}", "asterisk/sounds",
        f"{language}_*/**/*.g722", licence, **options,
    )  # fmt: skip


def stamps(language: str, **options: str) -> Source:
    """Return descriptions of pictures, which are the same in every language."""
    pattern = f"**/*_desc_{language}.ogg"
    return Source("tuxpaint-stamps-default", f"{language}_stamps", "tuxpaint/stamps", pattern, "GPL-2", **options)


SOURCES = [
    Source("festvox-ru", "ru_nsh", "festival/voices/russian/msu_ru_nsh_clunits/wav", "*.wav", "BSD-like", True),
    asterisk("it", "carlo", "CC-BY-3.0", permissive=True),
    asterisk("ru", "ivrvoice", "CC-BY-3.0", permissive=True),
    Source("gcin-voice", "zh_chulo", "gcin-voice/ogg", "*/5.ogg", "CC-BY-3.0", True),
    asterisk("en", "allison", "CC-BY-SA-3.0"),
    asterisk("es", "allison", "CC-BY-SA-3.0"),
    stamps("be"),
    stamps("ca"),
    stamps("fr"),
    stamps("ro"),
    stamps("ru"),
    stamps("da", side="validation"),
    stamps("es", side="validation"),
    asterisk("fr", "june", "CC-BY-SA-3.0", side="test"),
    stamps("bg", side="test"),
    stamps("el", side="test"),
]


def place(text: str) -> float:
    """Return an arbitrary number in [0, 1) for a text, the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def text_of(source: Source, path: Path) -> str:
    """Return a name of the text; prompts have equal file names in all languages, descriptions differ in the suffix."""
    name = path.parent.name if source.package == "gcin-voice" else path.stem.partition("_desc_")[0]
    return f"{source.package.split('-')[0]}/{name}"


def side_of(source: Source, path: Path) -> str:
    """Return the split of a recording: that of a held-out voice, otherwise by its text."""
    if source.side != "train":
        return f"{source.side}/other_voices"
    at = place(text_of(source, path))
    for side, share in HELD_OUT.items():
        if at < share:
            return f"{side}/other_texts"
        at -= share
    return "train"


def read(path: Path) -> np.ndarray:
    """Return mono samples at RATE."""
    if path.suffix == ".g722":
        options = f"-f f32le -ac 1 -ar {RATE} -".split()
        command = ["ffmpeg", "-v", "error", "-f", "g722", "-i", str(path), *options]
        return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, dtype=np.float32)
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate, RATE)


def joined(paths: list[Path], least_s: float) -> Iterator[np.ndarray]:
    """Yield audio of at least `least_s`; short recordings are joined with the next ones, a short rest is dropped."""
    parts: list[np.ndarray] = []
    pause = np.zeros(round(PAUSE_S * RATE), dtype=np.float32)
    for path in paths:
        parts += [read(path), pause]
        if sum(map(len, parts)) >= least_s * RATE:
            yield np.concatenate(parts[:-1])
            parts = []


def lay_out(source: Source, paths: list[Path], out: Path, licences: str) -> None:
    """Write a voice's files for each side, and print how many."""
    sides = defaultdict(list)
    for path in sorted(paths, key=lambda path: place(f"{text_of(source, path)} {path.name}")):
        sides[side_of(source, path)].append(path)
    for side, chosen in sides.items():
        if side == "train" and licences == "permissive" and not source.permissive:
            continue
        folder = out / side / source.voice
        folder.mkdir(parents=True)
        whole, _, kind = side.partition("/")
        total_s, count = 0.0, 0
        for samples in joined(chosen, LEAST_S[whole]):
            if kind and (count == CLIPS[kind] or len(samples) > MOST_S * RATE):
                continue
            soundfile.write(folder / f"{source.voice}_{count:04d}.flac", samples, RATE, subtype="PCM_16")
            total_s, count = total_s + len(samples) / RATE, count + 1
        print(f"{side}/{source.voice}: {count} files, {total_s / 60:.1f} min, {source.licence}", flush=True)


def main() -> None:
    """Run the program; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of the unpacked packages")
    parser.add_argument("out", type=Path, help="new folder for the corpus")
    parser.add_argument("--licences", choices=["permissive", "all"], default="permissive", help="licences to train on")
    given = parser.parse_args()
    found = {source: sorted((given.root / "usr/share" / source.folder).glob(source.pattern)) for source in SOURCES}
    if missing := sorted({source.package for source, paths in found.items() if not paths}):
        names = " ".join(missing)
        sys.exit(
            f"{given.root}: nothing there of {names}; type: apt-get download {names}, "
            f"and for each of them: dpkg -x PACKAGE*.deb {given.root}"
        )
    if shutil.which("ffmpeg") is None:
        sys.exit("ffmpeg, which decodes G.722, is not installed; type: apt-get install ffmpeg")
    if given.out.exists():
        sys.exit(f"{given.out} exists already; name a new folder")
    for source, paths in found.items():
        lay_out(source, paths, given.out, given.licences)


if __name__ == "__main__":
    main()
