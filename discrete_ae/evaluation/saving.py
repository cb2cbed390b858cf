"""Audio files of an evaluation: clips for a report, and whole recordings for other scoring programs.

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
"""Function that maps a clip (C, N) at a codec's sample rate to its reconstruction (C, N). C is the codec's number of
channels; a mono codec takes any number of channels."""

SUFFIXES = (".json", ".csv")
KINDS = ("reference", "decoded")


def result_paths(out: Path | None) -> list[Path]:
    """Return the files to write: `out` itself if it names a file, or a file of each kind in the folder `out`."""
    if out is None:
        return []
    is_file = out.suffix.lower() in SUFFIXES and not out.is_dir()
    return [out] if is_file else [out / f"evaluation{suffix}" for suffix in SUFFIXES]


def claim(paths: Iterable[Path], *, force: bool) -> None:
    """Check in advance that files can be written, and create their folders.

    Raises:
        DataError: a file exists and `force` is false.
        OSError: a file cannot be written.
    """
    for path in paths:
        if path.exists() and not force:
            raise DataError(f"{path}: already exists; use --force to overwrite it")
        check_writable(path)


def with_clips(
    evaluation: Evaluation, target: Path, excerpts: Sequence[Excerpt], sources: Iterable[Source], render: Render
) -> Evaluation:
    """Write original and decoded excerpts as FLAC files beside `target`; return the evaluation with these clips.

    The level is not changed. Recordings with more than two channels are mixed to mono, and a mono codec codes each
    channel separately. Excerpts that cannot be rendered are skipped.

    Args:
        evaluation: the codec's evaluation.
        target: JSON file of the evaluation, to be written later.
        excerpts: excerpts to write, as chosen by `choose_excerpts`.
        sources: the recordings.
        render: function that applies the codec.
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
    """Return the paths that `save_pairs` writes in a folder: for each kind, a list and a folder of recordings."""
    return [folder / f"{kind}{suffix}" for kind in KINDS for suffix in (".scp", "")] if folder else []


def save_pairs(coded: Iterable[Coded | Failure], folder: Path, sample_rate: int) -> Iterator[Coded | Failure]:
    """Yield the recordings, and write originals and reconstructions as their pairs are consumed.

    An original and its reconstruction are WAV files with the same name. After the last recording, reference.scp and
    decoded.scp list the files in Kaldi's format: one line "name path" per recording, sorted by name. Failed recordings
    are omitted.

    Args:
        coded: the recordings.
        folder: output folder.
        sample_rate: sample rate of the pairs, in Hz.
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
    """Return a unique name without spaces and slashes."""
    plain = re.sub(r"[^\w.-]+", "_", str(Path(name).with_suffix("")))
    found, count = plain, 1
    while found.lower() in taken:  # some file systems ignore case
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
