"""Lay out recordings from Debian packages for training: train/, validation/ and test/, with a folder per kind.

    mkdir packages && cd packages
    apt-get download tuxpaint-stamps-default festvox-ru wesnoth-1.16-music singularity-music warzone2100-music
    for package in *.deb; do dpkg -x $package root; done && cd ..
    python benchmarks/corpus.py packages/root corpus

`words` are short descriptions of pictures in ten languages (tuxpaint-stamps-default, GPL-2), `sentences` are of one
Russian speaker (festvox-ru, BSD-like), `music` is orchestral, electronic and rock (wesnoth and warzone2100, GPL-2+;
singularity, CC-BY-SA). This repository holds none of them. A picture's descriptions in all languages, a sentence, or a
piece of music are in one split only; voices are in all splits.

train/ holds links to whole recordings. validation/ and test/ hold copies, of music excerpts of 6 s, as mono FLAC at the
recording's sample rate: a mono model would code the channels of a stereo recording separately, at twice the bitrate.
"""

import argparse
import hashlib
from pathlib import Path

import soundfile

KINDS = {
    "words": ("usr/share/tuxpaint/stamps", "*_desc_*.ogg"),
    "sentences": ("usr/share/festival/voices/russian/msu_ru_nsh_clunits/wav", "*.wav"),
    "music": ("usr/share/games", "*.o[gp][gu]*"),
}
HELD_OUT = {"words": (24, 24), "sentences": (24, 24), "music": (8, 8)}  # works in validation/ and test/
EXCERPT_S = 6.0
EXCERPTS = 3  # of a piece of music
LEAST_S, MOST_S = 1.0, 12.0  # of a held-out recording of speech


def work_of(path: Path, kind: str) -> str:
    """Return the unit that must stay in one split: the described picture, or the recording."""
    return str(path).partition("_desc_")[0] if kind == "words" else str(path)


def order(work: str) -> bytes:
    """Return a sort key for an arbitrary order that is the same on every machine."""
    return hashlib.sha256(work.encode()).digest()


def write_excerpts(path: Path, target: Path, kind: str) -> int:
    """Write the held-out files of a recording and return their number."""
    with soundfile.SoundFile(path) as file:
        duration_s = len(file) / file.samplerate
        if kind != "music":
            if not LEAST_S <= duration_s <= MOST_S:
                return 0
            starts, length = [0], len(file)
        else:
            length = round(EXCERPT_S * file.samplerate)
            starts = [round((i + 1) / (EXCERPTS + 1) * len(file)) for i in range(EXCERPTS)]
        for i, start in enumerate(starts):
            file.seek(start)
            name = path.stem if len(starts) == 1 else f"{path.stem}_{i + 1}"
            mono = file.read(length, always_2d=True).mean(axis=1)
            soundfile.write(target / f"{name}.flac", mono, file.samplerate, subtype="PCM_16")
        return len(starts)


def main() -> None:
    """Run the program; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of the unpacked packages")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    for kind, (folder, pattern) in KINDS.items():
        found = sorted((given.root / folder).rglob(pattern))
        works: dict[str, list[Path]] = {}
        for path in found:
            works.setdefault(work_of(path.relative_to(given.root), kind), []).append(path)
        left = sorted(works, key=order)
        for side, count in zip(("validation", "test"), HELD_OUT[kind], strict=True):
            target = given.out / side / kind
            target.mkdir(parents=True, exist_ok=True)
            taken = 0
            while taken < count:
                # One language per picture: the first in the arbitrary order.
                path = min(works[left.pop(0)], key=lambda path: order(path.name))
                taken += bool(write_excerpts(path, target, kind))
        target = given.out / "train" / kind
        target.mkdir(parents=True, exist_ok=True)
        for work in left:
            for path in works[work]:
                link = target / "-".join(path.relative_to(given.root / folder).parts)
                link.unlink(missing_ok=True)
                link.symlink_to(path.resolve())
    for side in ("train", "validation", "test"):
        for kind in KINDS:
            paths = sorted((given.out / side / kind).iterdir())
            minutes = sum(soundfile.info(path).duration for path in paths) / 60
            print(f"{side}/{kind}: {len(paths)} files, {minutes:.1f} min")


if __name__ == "__main__":
    main()
