"""What is compared: runs of training, and evaluations, read where they are there and made where they are not."""

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from discrete_ae.build import load, training_recordings, validation_recordings
from discrete_ae.compare.methods import Method, repeated_runs, set_aside
from discrete_ae.compare.places import short_names
from discrete_ae.compare.words import listed
from discrete_ae.data import recordings_root
from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.baselines import installed
from discrete_ae.evaluation.coded import reconstruct
from discrete_ae.evaluation.coders import Coder, through
from discrete_ae.evaluation.evaluate import Plan, evaluate_coder, evaluate_model, settings_of
from discrete_ae.evaluation.recordings import Source, find_sources, named_sources
from discrete_ae.evaluation.results import ERROR_NAME, FORMAT, Evaluation, Excerpt, Run, read_run
from discrete_ae.evaluation.saving import Render, with_clips
from discrete_ae.evaluation.tokenizers import Tokenizer
from discrete_ae.paths import CONFIG_NAME, real

log = logging.getLogger("discrete_ae")

_SPLIT = (
    "root",
    "manifest",
    "validation_root",
    "validation_manifest",
    "sources",
    "validation_fraction",
    "channels",
)  # which files train and which validate


class Placed(NamedTuple):
    """An evaluation, and the file that it is in."""

    path: Path
    evaluation: Evaluation
    render: Callable[[], Render] | None = None
    """Gives the codec, where it is at hand."""

    @property
    def name(self) -> str:
        """Of its run, or of another codec."""
        return self.evaluation.run.name if self.evaluation.run else self.evaluation.codec


class Given(NamedTuple):
    """What lies at the paths that were given."""

    runs: list[Run]
    """Sorted by path, each once, with names that tell them apart."""
    evaluations: list[Placed]
    """Those that were given themselves, with names that none of the others has."""
    lines: list[str]
    """One on each run that cannot be compared."""


def find_given(paths: Sequence[Path], checkpoint: str = "best") -> Given:
    """Find the runs of training and the evaluations among paths and below them.

    Args:
        paths: folders of runs, which hold a config.yaml, files that `evaluate` wrote, and folders of both.
        checkpoint: "best" or "last"; where a run has only the other one, that one is taken.

    Raises:
        OSError: a path is not there.
        DataError: a path holds neither, or nothing can be compared.
    """
    folders: set[Path] = set()
    files: dict[Path, Evaluation] = {}
    for path in paths:
        if path.is_dir():
            below, written = _below(real(path))
            if not below and not written:
                raise DataError(
                    f"{path}: no run of training in it or below (a run has a {CONFIG_NAME}), nor evaluations"
                )
            folders |= below
            files |= written
        else:
            files[real(path)] = Evaluation.read_json(path)
    runs: dict[Path, Run] = {}
    lines: list[str] = []
    for folder in sorted(folders):
        try:
            runs[folder] = read_run(folder, checkpoint)
        except DataError as error:
            lines.append(f"Not compared: {folder.name}: {error}")
    if not runs and not files:
        raise DataError(f"{paths[0]}: none of the {len(lines)} runs can be compared; the first: {lines[0]}")
    named = [
        run.model_copy(update={"name": name}) for run, name in zip(runs.values(), short_names(list(runs)), strict=True)
    ]
    return Given(named, _told_apart([Placed(*one) for one in files.items()], named), lines)


def _below(root: Path) -> tuple[set[Path], dict[Path, Evaluation]]:
    """Find folders of runs, and evaluations outside of them."""
    runs: set[Path] = set()
    evaluations: dict[Path, Evaluation] = {}
    for folder, subfolders, names in os.walk(root):
        if CONFIG_NAME in names or ERROR_NAME in names:
            subfolders.clear()  # a run holds no other run
            runs.add(Path(folder))
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        evaluations |= dict(evaluations_in(Path(folder)))
    return runs, evaluations


def evaluations_in(folder: Path) -> Iterator[tuple[Path, Evaluation]]:
    """Yield the evaluations that lie right in a folder, among other files of JSON.

    Raises:
        DataError: one is damaged.
    """
    for path in sorted(folder.glob("*.json")):
        if FORMAT.encode() in path.read_bytes():
            yield path, Evaluation.read_json(path)


def _told_apart(placed: Sequence[Placed], runs: Sequence[Run]) -> list[Placed]:
    """Number the names that another one has; what is no run shall not have the label of a method either."""
    found: list[Placed] = []
    names = {run.name for run in runs}
    quantizers = {one.evaluation.run.quantizer for one in placed if one.evaluation.run}
    for one in placed:
        run = one.evaluation.run
        numbered = itertools.chain([one.name], (f"{one.name} ({i})" for i in itertools.count(2)))
        free = next(name for name in numbered if name not in (names if run else names | quantizers))
        names.add(free)
        update = {"run": run.model_copy(update={"name": free})} if run else {"codec": free}
        found.append(one._replace(evaluation=one.evaluation.model_copy(update=update)))
    return found


def recordings_of(data: Sequence[Path], runs: Sequence[Run]) -> tuple[list[Source], str]:
    """Return the recordings to compare on, and what they are, in words: those given, or what runs were validated on.

    Raises:
        DataError: they are not there.
        UsageError: the runs were validated on different ones.
    """
    if data:
        recordings = find_sources(data)
        if recordings.problems:
            raise recordings.problems[0]
        return recordings.sources, ", ".join(map(str, data))
    found: list[tuple[Run, Path, list[Path]]] = []
    for run in {_split(run): run for run in runs[::-1]}.values():
        try:
            found.append((run, *validation_recordings(run.config["data"])))
        except (DataError, UsageError) as error:
            raise type(error)(f"{error}; or give the recordings with --data (run {run.name})") from error
    if not found:
        return [], "the recordings that the evaluations have in common"
    (first, root, paths), *others = found
    for other, _, different in others:
        if set(map(real, different)) != set(map(real, paths)):
            raise UsageError(
                f"{first.name} and {other.name} were validated on different recordings; say with --data on what to "
                "compare"
            )
    is_own = real(root).is_relative_to(real(recordings_root()))
    said = "the project's own validation recordings" if is_own else f"the runs' validation recordings, {root.name}"
    return named_sources({path: Path(os.path.relpath(path, root)).as_posix() for path in paths}), said


def trained_on(runs: Sequence[Run], sources: Sequence[Source]) -> set[Path]:
    """Return the recordings that one of the runs was trained on.

    Raises:
        DataError: the recordings of a run are below the same folder, and can no longer be read.
    """
    found: set[Path] = set()
    places = {source.path: real(source.path) for source in sources}
    for data in {_split(run): run.config["data"] for run in runs}.values():
        if data.get("manifest") is not None or data.get("sources") is not None:
            trained = set(map(real, training_recordings(data)))
            found |= {path for path, place in places.items() if place in trained}
            continue
        root = Path(data["root"]).expanduser() if data.get("root") else recordings_root() / "train"
        below = {path for path, place in places.items() if place.is_relative_to(real(root))}
        if below and data.get("root") and not (data.get("validation_root") or data.get("validation_manifest")):
            validated = set(map(real, validation_recordings(data)[1]))
            below = {path for path in below if places[path] not in validated}
        found |= below
    return found


def _split(run: Run) -> str:
    return repr([run.config["data"].get(key) for key in _SPLIT])


@dataclass(frozen=True)
class Evaluator:
    """Evaluates runs and other codecs on the same recordings, unless that was done before."""

    folder: Path
    """Where evaluations are kept."""
    sources: Sequence[Source]
    plan: Plan
    device: str
    anew: bool
    """Whether to evaluate again what was."""
    say: Callable[[str], None]
    """Tells the user a line."""
    trust: Sequence[str] = ()
    """As of `discrete_ae.load`."""
    codebooks: Sequence[int] | None = ()
    """Numbers of codebooks to decode runs from, besides all; None for every number that decodes."""

    def of_runs(self, runs: Sequence[Run]) -> Iterator[Placed]:
        """Yield the evaluations of runs, of those with the same settings and seed only one's, at each rate wanted.

        Those that fail, or are set aside, are said.
        """
        for same in repeated_runs(runs):
            for place, run in enumerate(same):
                try:
                    yield from self._of_run(run)
                except DataError as error:
                    self.say(f"Not compared: {run.name}: {str(error).removeprefix(f'{run.name}: ')}")
                    continue
                for other in same[place + 1 :]:
                    self.say(set_aside(other, run))
                break

    def of_baselines(self, methods: Sequence[Method], others: Sequence[str]) -> Iterator[Placed]:
        """Yield evaluations of Opus and Codec 2 near the methods' rates, as `of_coders`; the absent ones are said."""
        programs, lines = installed([bps for method in methods if (bps := method.nominal_bitrate_bps)])
        yield from self.of_coders(programs, methods, others)
        for line in lines:
            self.say(f"{line}.")

    def at_rates(self, tokenizers: Sequence[Tokenizer]) -> list[Coder]:
        """Return tokenizers at each rate wanted: unless numbers of codebooks are, at those that are their own."""
        found: list[Coder] = []
        for one in tokenizers:
            wanted = self.codebooks if self.codebooks is None or self.codebooks else one.rates
            counts = self._counts(one.label, one.counts, one.decodes_from, wanted)
            found += [one.at(count) for count in (*counts, one.counts[-1])]
        return found

    def of_coders(self, coders: Iterable[Coder], methods: Sequence[Method], others: Sequence[str]) -> Iterator[Placed]:
        """Yield evaluations of other codecs at the methods' highest sample rate, unless they are among the others.

        Those that fail on what all runs can do are said.
        """
        runs = [evaluation for method in methods for evaluation in method.runs]
        highest = max(runs, key=lambda evaluation: evaluation.sample_rate)
        rate, channels = highest.sample_rate, int(highest.settings.get("channels") or 1)
        measured = set.intersection(*({file.path for file in one.files} for one in runs))
        for coder in (coder for coder in coders if coder.name not in others):
            try:
                placed = self._of_coder(coder, rate, channels)
                if lacking := [one.reason for one in placed.evaluation.failures if one.path in measured]:
                    raise DataError(f"could not do {lacking[0]}")
            except DataError as error:
                reason = str(error).removeprefix(f"{coder.name}: ").rstrip(".")
                self.say(f"{coder.name} is left out: {reason}.")
            else:
                yield placed

    def with_clips(self, placed: Placed, excerpts: Sequence[Excerpt]) -> Placed:
        """Return an evaluation with what its codec makes of the excerpts, unless it has them or the codec is away."""
        path, evaluation, render = placed
        missing = {excerpt.place for excerpt in excerpts} - {clip.place for clip in evaluation.clips}
        if not missing or render is None:
            return placed
        path = self._path(placed.name, is_run=evaluation.run is not None)
        evaluation = with_clips(evaluation, path, excerpts, self.sources, render())
        evaluation.write_json(path)
        return Placed(path, evaluation)

    def _of_run(self, run: Run) -> Iterator[Placed]:
        load_again = partial(load, Path(run.folder) / run.checkpoint, self.device, self.trust)
        model = load_again()
        if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
            raise DataError(f"{Path(run.checkpoint).name} holds NaN or infinite weights; its training diverged")

        def render(count: int | None) -> Render:  # the models need not be in memory together
            return partial(reconstruct, load_again(), num_codebooks=count)

        quantizer = model.quantizer
        counts = self._counts(run.name, quantizer.decodable_counts, quantizer.decodes_from, self.codebooks)
        for count in (*counts, None):
            of_rate = run.decoded_from(count)
            path = self._path(of_rate.name, is_run=True)
            wanted = {"model_hash": model.model_hash, **settings_of(model, self.plan, count)}
            found = self._found(path.parent, wanted) or self._found(Path(run.folder), wanted)
            if not found:
                found = Placed(path, evaluate_model(model, self.sources, run.name, self.plan, count, run))
                found.evaluation.write_json(path)
            yield Placed(found.path, found.evaluation.model_copy(update={"run": of_rate}), partial(render, count))

    def _counts(
        self, name: str, decodable: Sequence[int], decodes_from: str, wanted: Sequence[int] | None
    ) -> list[int]:
        """Return from how many codebooks to decode, besides all; what is wanted and does not decode is said."""
        wanted = decodable if wanted is None else wanted
        if decodable[-1] and (lacking := sorted({*wanted} - {*decodable})):
            counts = listed([str(count) for count in lacking])
            self.say(f"{name} is not compared at {counts} codebooks: it decodes from {decodes_from}.")
        return sorted({*wanted} & {*decodable[:-1]})

    def _of_coder(self, coder: Coder, sample_rate: int, channels: int) -> Placed:
        path = self._path(coder.name, is_run=False)
        wanted = {"codec": coder.name, "sample_rate": sample_rate, "channels": channels,
                  "segment_seconds": self.plan.segment_seconds, "model_hash": coder.model_hash}  # fmt: skip
        found = self._found(path.parent, wanted)
        if not found:
            found = Placed(path, evaluate_coder(coder, self.sources, self.plan, sample_rate, channels))
            found.evaluation.write_json(path)
        return found._replace(render=lambda: lambda audio: through(coder, audio, sample_rate, channels).audio)

    def _path(self, name: str, *, is_run: bool) -> Path:
        return (self.folder if is_run else self.folder / "baselines") / f"{name}.json"

    def _found(self, folder: Path, wanted: Mapping[str, Any]) -> Placed | None:
        """Find an evaluation in a folder, of the same recordings and scores, that says of itself what is wanted."""
        if self.anew or not folder.is_dir():
            return None
        recordings, versions = {source.name: source.sha256 for source in self.sources}, self.plan.choice.versions()
        try:
            there = list(evaluations_in(folder))
        except DataError as error:
            log.warning("%s; what is in this folder is evaluated again", error)
            return None
        for path, found in there:
            said = found.settings | {key: getattr(found, key) for key in ("codec", "sample_rate", "model_hash")}
            files = {one.path: one.sha256 for one in found.files} | {one.path: one.sha256 for one in found.failures}
            is_alike = wanted.items() <= said.items() and versions.items() <= found.versions.items()
            if is_alike and files == recordings:
                return Placed(path, found)
        return None


def at_fault(placed: Sequence[Placed]) -> dict[str, str]:
    """Return, by name, why evaluations of runs failed on recordings that another one measured.

    Nothing where all do: then nothing says which is at fault, and what all have is compared.
    """
    of_runs = [one for one in placed if one.evaluation.run]
    measured = {file.path for one in of_runs for file in one.evaluation.files}
    found = {}
    for one in of_runs:
        if lacking := [failure for failure in one.evaluation.failures if failure.path in measured]:
            of = f"{len(lacking)} of {len(measured)} recordings that others could"
            found[one.name] = f"could not do {of}; of the first: {lacking[0].reason}"
    return found if len(found) < len(of_runs) else {}
