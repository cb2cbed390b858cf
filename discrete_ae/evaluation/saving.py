"""Audio files of an evaluation: clips that a report plays, and whole recordings for other programs of scores.

Axes: C channels, N samples.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np

from discrete_ae.data import match_channels, read_audio
from discrete_ae.data.reading import Audio, recorded_whole
from discrete_ae.errors import DataError
from discrete_ae.evaluation.coded import Coded, Pair
from discrete_ae.evaluation.recordings import Source
from discrete_ae.evaluation.results import Evaluation, Excerpt, Failure, SavedClip
from discrete_ae.writing import check_writable, write_whole

Render = Callable[[Audio], Audio]
"""A clip (C, N) at a codec's sample rate to one of the same shape; C is its number of channels, of a mono one any."""

SUFFIXES = (".json", ".csv")
KINDS = ("reference", "decoded")


def result_paths(out: Path | None) -> list[Path]:
    """Return the files that are written for `out`: itself, or in a folder one of each kind."""
    if out is None:
        return []
    is_file = out.suffix.lower() in SUFFIXES and not out.is_dir()
    return [out] if is_file else [out / f"evaluation{suffix}" for suffix in SUFFIXES]


def claim(paths: Iterable[Path], *, force: bool) -> None:
    """Find out that files can be written before the work for them is done, and make their folders.

    Raises:
        DataError: one exists, and is not to be overwritten.
        OSError: one cannot be written.
    """
    for path in paths:
        if path.exists() and not force:
            raise DataError(f"{path}: exists already; use --force to overwrite it (in Python force=True)")
        check_writable(path)


def with_clips(
    evaluation: Evaluation, target: Path, excerpts: Sequence[Excerpt], sources: Iterable[Source], render: Render
) -> Evaluation:
    """Write excerpts as a codec decodes them as FLAC files into a folder beside `target`, and return where they are.

    The level is left as it is. A recording of more than two channels is mixed down; a mono codec renders each channel
    by itself. An excerpt that cannot be rendered is left out.

    Args:
        evaluation: of the codec.
        target: the JSON file that the evaluation is to be written to.
        excerpts: of `choose_excerpts`.
        sources: the recordings.
        render: the codec.
    """
    paths = {source.name: source.path for source in sources}
    rate, channels = evaluation.sample_rate, int(evaluation.settings.get("channels") or 1)
    folder = target.with_suffix(".clips")
    clips = []
    for number, excerpt in enumerate(excerpts, 1):
        files = {"original": folder / f"{number}_original.flac", "decoded": folder / f"{number}.flac"}
        try:
            audio = read_audio(paths[excerpt.recording], rate, None, excerpt.start_s, excerpt.duration_s)
            audio = audio if len(audio) <= 2 else match_channels(audio, 1)
            found = render(audio if channels in (1, len(audio)) else match_channels(audio, channels))
            found = found if len(found) == len(audio) else found.mean(axis=0, keepdims=True)
            for name, signal in (("original", audio), ("decoded", found)):
                with recorded_whole(files[name], rate, len(signal), "FLAC") as write:
                    write(np.nan_to_num(signal, nan=0.0, posinf=1.0, neginf=-1.0))
        except DataError:
            continue
        names = {name: path.relative_to(target.parent).as_posix() for name, path in files.items()}
        clips.append(SavedClip.of({**excerpt.model_dump(), **names}))
    return evaluation.model_copy(update={"clips": tuple(clips)})


def saved_paths(folder: Path | None) -> list[Path]:
    """Return the paths that `save_pairs` writes in a folder: a list and a folder of recordings of each kind."""
    return [folder / f"{kind}{suffix}" for kind in KINDS for suffix in (".scp", "")] if folder else []


def save_pairs(coded: Iterable[Coded | Failure], folder: Path, sample_rate: int) -> Iterator[Coded | Failure]:
    """Pass recordings on, and write originals and reconstructions while their pairs are taken.

    They are WAV files of equal names. After the last one reference.scp and decoded.scp name the files, a line "name
    path" for each recording, sorted by name, as Kaldi has it; those that failed are not among them.

    Args:
        coded: the recordings.
        folder: to write into.
        sample_rate: of the pairs, in Hz.
    """
    saved: set[str] = set()
    taken: set[str] = set()
    for item in coded:
        if isinstance(item, Coded):
            item.pairs = _saved(item.pairs, folder, _unique(item.source.name, taken), sample_rate, saved)
        yield item
    for kind in KINDS:
        lines = (f"{name} {(folder / kind / name).resolve()}.wav\n" for name in sorted(saved))
        write_whole(folder / f"{kind}.scp", "".join(lines).encode(errors="surrogateescape"))


def _unique(name: str, taken: set[str]) -> str:
    """Return a name without blanks and slashes that no other recording has."""
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
