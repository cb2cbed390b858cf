"""What is compared, as WAV files of equal names and Kaldi's lists of them, as other programs of scores read them."""

import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

from discrete_ae.data.reading import recorded_whole
from discrete_ae.evaluation.coded import Coded, Pair
from discrete_ae.writing import write_whole

KINDS = ("reference", "decoded")


def saved_paths(folder: Path) -> list[Path]:
    """What `save_pairs` writes into a folder: a list and a folder of recordings of each kind."""
    return [folder / f"{kind}{suffix}" for kind in KINDS for suffix in (".scp", "")]


def save_pairs(coded: Iterable[Coded], folder: Path, sample_rate: int) -> Iterator[Coded]:
    """Pass recordings on, and write what they were and what was made of them while their pairs are taken.

    After the last one reference.scp and decoded.scp name the files, a line "name path" for each recording, sorted by
    name; those that failed are not among them.

    Args:
        coded: the recordings.
        folder: to write into.
        sample_rate: of the pairs, in Hz.

    Raises:
        DataError: a list cannot be written; taking pairs raises it where a recording cannot.
    """
    saved: set[str] = set()
    taken: set[str] = set()
    for item in coded:
        name = _unique(item.source.name, taken)
        item.pairs = _saved(item.pairs, folder, name, sample_rate, saved)
        yield item
    for kind in KINDS:
        lines = (f"{name} {(folder / kind / name).resolve()}.wav\n" for name in sorted(saved))
        write_whole(folder / f"{kind}.scp", "".join(lines).encode(errors="surrogateescape"))


def _unique(name: str, taken: set[str]) -> str:
    """A name without blanks and slashes, that no other recording has."""
    plain = re.sub(r"[^\w.-]+", "_", str(Path(name).with_suffix("")))
    found, count = plain, 1
    while found.lower() in taken:  # some file systems do not tell cases apart
        count += 1
        found = f"{plain}-{count}"
    taken.add(found.lower())
    return found


def _saved(pairs: Iterator[Pair], folder: Path, name: str, sample_rate: int, saved: set[str]) -> Iterator[Pair]:
    reference, decoded = (folder / kind / f"{name}.wav" for kind in KINDS)
    with closing(pairs):  # type: ignore[type-var]
        first = next(pairs, None)
        if first is None:
            return
        channels = len(first.original)
        with (
            recorded_whole(reference, sample_rate, channels) as write_reference,
            recorded_whole(decoded, sample_rate, channels) as write_decoded,
        ):
            for pair in chain([first], pairs):
                write_reference(pair.original)
                write_decoded(pair.reconstruction)
                yield pair
    saved.add(name)
