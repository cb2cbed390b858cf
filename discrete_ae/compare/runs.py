"""The runs and evaluations to compare: existing evaluations are read; runs without one are evaluated."""

import itertools
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from discrete_ae.build import load, training_recordings, validation_recordings
from discrete_ae.compare.methods import Method
from discrete_ae.compare.places import short_names
from discrete_ae.compare.words import listed
from discrete_ae.data import recordings_root
from discrete_ae.data.sources import LIMITS
from discrete_ae.errors import DataError, UsageError, from_system
from discrete_ae.evaluation.baselines import installed
from discrete_ae.evaluation.coded import reconstruct
from discrete_ae.evaluation.coders import Coder, through
from discrete_ae.evaluation.evaluate import (
    Plan,
    evaluate_coder,
    evaluate_model,
    is_bundle,
    run_of_bundle,
    settings_of,
)
from discrete_ae.evaluation.recordings import Source, find_sources, named_sources
from discrete_ae.evaluation.results import ERROR_NAME, FORMAT, Evaluation, Excerpt, Run, read_run
from discrete_ae.evaluation.saving import Render, with_clips
from discrete_ae.evaluation.tokenizers import Tokenizer
from discrete_ae.paths import CONFIG_NAME, PRETRAINED, real

log = logging.getLogger("discrete_ae")

_NAMED = 3  # largest number of given recordings and folders that a description lists
_TAKES = (
    "expected the folder of a run or a sweep (such as logs/compare/TIME), a .json file of discrete-ae evaluate, a "
    f"folder of discrete-ae export, or {PRETRAINED}"
)

_SPLIT = (
    "root",
    "manifest",
    "validation_root",
    "validation_manifest",
    "sources",
    "validation_fraction",
    "channels",
    *LIMITS,
)  # settings that determine which files are for training and which for validation


class Placed(NamedTuple):
    """An evaluation and its file."""

    path: Path
    evaluation: Evaluation
    render: Callable[[], Render] | None = None
    """Function that returns the codec as a function of audio; None if the codec is not available."""

    @property
    def name(self) -> str:
        """Name of the run or of the other codec."""
        return self.evaluation.run.name if self.evaluation.run else self.evaluation.codec


class Given(NamedTuple):
    """Runs and evaluations found at the given paths."""

    runs: list[Run]
    """Runs, each once, sorted by path; their names are unique."""
    evaluations: list[Placed]
    """Evaluations that were given as files; their names are unique."""
    lines: list[str]
    """Messages, one for each run that cannot be compared."""

    def by_use(self, names: Collection[str]) -> tuple[list[Run], list[Run], list[Run]]:
        """Return runs in three groups, the most useful last, for a comparison on the recordings with these names.

        The groups are runs of evaluations that lack some of these recordings, runs that can be evaluated, and runs of
        evaluations that have all of these recordings.
        """
        lacking, complete = list[Run](), list[Run]()
        for _, one, _ in self.evaluations:
            if one.run:
                measured = {file.path for file in one.files} | {failure.path for failure in one.failures}
                (complete if measured.issuperset(names) else lacking).append(one.run)
        return lacking, self.runs, complete


def find_given(paths: Sequence[Path], checkpoint: str = "best") -> Given:
    """Find training runs and evaluations at the given paths and below them.

    Args:
        paths: folders of runs, which hold a config.yaml; files that `evaluate` wrote; folders of both; or bundles.
        checkpoint: "best" or "last"; if a run has only one of these checkpoints, that checkpoint is used.

    Raises:
        OSError: a path does not exist.
        DataError: a path contains neither run nor evaluation, or nothing can be compared.
    """
    folders: set[Path] = set()
    files: dict[Path, Evaluation] = {}
    runs: dict[Path, Run] = {}
    for path in paths:
        if is_bundle(path):
            runs[real(path)] = run_of_bundle(path)
        elif path.is_dir():
            below, written = _below(real(path))
            if not below and not written:
                raise DataError(f"{path}: has no run and no evaluation in it; {_TAKES}")
            folders |= below
            files |= written
        elif path.suffix == ".json" or FORMAT.encode() in path.read_bytes():
            files[real(path)] = Evaluation.read_json(path)
        else:
            raise DataError(f"{path}: cannot be compared; {_TAKES}")
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
    """Find folders of runs, and evaluations outside them."""
    runs: set[Path] = set()
    evaluations: dict[Path, Evaluation] = {}
    for folder, subfolders, names in os.walk(root):
        if CONFIG_NAME in names or ERROR_NAME in names:
            subfolders.clear()  # a run contains no other run
            runs.add(Path(folder))
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        evaluations |= dict(evaluations_in(Path(folder)))
    return runs, evaluations


def evaluations_in(folder: Path) -> Iterator[tuple[Path, Evaluation]]:
    """Yield the evaluations in a folder, not in its subfolders; other JSON files are skipped.

    Raises:
        DataError: an evaluation is damaged.
    """
    for path in sorted(folder.glob("*.json")):
        if FORMAT.encode() in path.read_bytes():
            yield path, Evaluation.read_json(path)


def _known_in(folder: Path) -> list[tuple[Path, Evaluation]]:
    """Return the evaluations in a folder; none if one of them is damaged, with a warning."""
    try:
        return list(evaluations_in(folder))
    except DataError as error:
        log.warning("%s; its folder is ignored, and evaluated again", error)
        return []


def _told_apart(placed: Sequence[Placed], runs: Sequence[Run]) -> list[Placed]:
    """Return evaluations with unique names: a name that is taken gets a number.

    The name of another codec must also differ from the quantizers of the runs, which label methods.
    """
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


def given_recordings(data: Sequence[Path]) -> tuple[list[Source], str]:
    """Return the recordings found in files, folders or patterns, and their description.

    Raises:
        DataError: recordings are missing.
    """
    recordings = find_sources(data)
    if recordings.problems:
        raise recordings.problems[0]
    more = f" and {len(data) - _NAMED} more" if len(data) > _NAMED else ""
    return recordings.sources, ", ".join(map(str, data[:_NAMED])) + more


def recordings_of(runs: Sequence[Run]) -> tuple[list[Source], str]:
    """Return the validation recordings of runs, and their description.

    Raises:
        DataError: the recordings are missing.
        UsageError: the runs were validated on different recordings.
    """
    if alone := [run.name for run in runs if "data" not in run.config]:
        raise UsageError(f"{alone[0]}: its validation recordings are unknown; give recordings with --data")
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
                f"{first.name} and {other.name} were validated on different recordings; give the recordings to compare "
                "on with --data"
            )
    names = {path: Path(os.path.relpath(path, root)).as_posix() for path in paths}
    return named_sources(names), _in_words(first.config["data"], root)


def _in_words(data: Mapping[str, Any], root: Path) -> str:
    """Describe the validation recordings of a run with this configuration of data."""
    if real(root) == real(recordings_root() / "validation"):
        return "the project's own validation recordings"
    if _is_split(data):
        return f"held out from the runs' training recordings in {root.name}"
    return f"the runs' validation recordings in {root.name}"


def _is_split(data: Mapping[str, Any]) -> bool:
    """Return whether one folder has both the training and the validation recordings."""
    return bool(data.get("root")) and not (data.get("validation_root") or data.get("validation_manifest"))


def trained_on(runs: Sequence[Run], sources: Sequence[Source], say: Callable[[str], None]) -> set[Path]:
    """Return the recordings that any of the runs was trained on; `say` receives a line if that is unknown of a run."""
    found: set[Path] = set()
    places = {source.path: real(source.path) for source in sources}
    for run in {_split(run): run for run in runs if "data" in run.config}.values():
        try:
            found |= _trained_on(run.config["data"], places)
        except (OSError, DataError, UsageError) as error:
            reason = from_system(error) if isinstance(error, OSError) else error
            say(f"warning: {run.name}: could not be checked for recordings that it was trained on: {reason}")
    return found


def _trained_on(data: Mapping[str, Any], places: Mapping[Path, Path]) -> set[Path]:
    """Return the recordings, given with their real places, that a run with this configuration of data was trained on.

    Raises:
        OSError: a manifest that the run was trained on cannot be read.
        DataError: files that the run was trained or validated on can no longer be read.
        UsageError: the configuration is not of this package's data module.
    """
    if data.get("manifest") is not None or data.get("sources") is not None:
        trained = set(map(real, training_recordings(data)))
        return {path for path, place in places.items() if place in trained}
    root = Path(data["root"]).expanduser() if data.get("root") else recordings_root() / "train"
    below = {path for path, place in places.items() if place.is_relative_to(real(root))}
    if below and _is_split(data):
        validated = set(map(real, validation_recordings(data)[1]))
        below = {path for path in below if places[path] not in validated}
    return below


def _split(run: Run) -> str:
    return repr([run.config["data"].get(key) for key in _SPLIT])


@dataclass(frozen=True)
class Evaluator:
    """Evaluator of runs and other codecs on the same recordings; existing evaluations that match are reused."""

    folder: Path
    """Folder of the evaluations."""
    sources: Sequence[Source]
    plan: Plan
    device: str
    say: Callable[[str], None]
    """Function that receives each message for the user."""
    trust: Sequence[str] = ()
    """Modules to trust, as in `discrete_ae.load`."""
    codebooks: Sequence[int] | None = ()
    """Numbers of codebooks for additional rates; None for every number from which a run can be decoded."""
    opus_bps: Sequence[float] = ()
    """Bitrates of Opus; () for those nearest to the bitrates of the methods."""

    @cached_property
    def known(self) -> list[tuple[Path, Evaluation]]:
        """Evaluations that the folder had at first."""
        return [*_known_in(self.folder), *_known_in(self.folder / "baselines")]

    def of_runs(self, runs: Sequence[Run]) -> Iterator[Placed]:
        """Yield the evaluations of runs at each requested rate; `say` receives a line on each run that fails."""
        for number, run in enumerate(runs, 1):
            try:
                yield from self._of_run(run, number, len(runs))
            except DataError as error:
                self.say(f"Not compared: {run.name}: {str(error).removeprefix(f'{run.name}: ')}")

    def of_baselines(self, methods: Sequence[Method], others: Sequence[str]) -> Iterator[Placed]:
        """Yield evaluations of Opus and Codec 2 near the methods' rates; `say` receives a line on a missing program."""
        nominal = [bps for method in methods if (bps := method.nominal_bitrate_bps)]
        programs, lines = installed(nominal, self.opus_bps)
        yield from self.of_coders(programs, methods, others)
        for line in lines:
            self.say(f"{line}.")

    def at_rates(self, tokenizers: Sequence[Tokenizer]) -> list[Coder]:
        """Return tokenizers at each requested number of codebooks; if none is requested, at their own rates."""
        found: list[Coder] = []
        for one in tokenizers:
            wanted = self.codebooks if self.codebooks is None or self.codebooks else one.rates
            counts = self._counts(one.label, one.counts, one.decodes_from, wanted)
            found += [one.at(count) for count in (*counts, one.counts[-1])]
        return found

    def of_coders(self, coders: Iterable[Coder], methods: Sequence[Method], others: Sequence[str]) -> Iterator[Placed]:
        """Yield evaluations of other codecs at the methods' highest sample rate, except those named in `others`.

        A codec that fails on a recording that all runs were measured on is left out, and `say` receives a line.
        """
        runs = [evaluation for method in methods for evaluation in method.runs]
        highest = max(runs, key=lambda evaluation: evaluation.sample_rate)
        rate, channels = highest.sample_rate, int(highest.settings.get("channels") or 1)
        measured = set.intersection(*({file.path for file in one.files} for one in runs))
        missing = [coder for coder in coders if coder.name not in others]
        for number, coder in enumerate(missing, 1):
            plan = self._part(f"{coder.name} (other codec {number} of {len(missing)})", number - 1, len(missing))
            try:
                placed = self._of_coder(coder, rate, channels, plan)
                if lacking := [one.reason for one in placed.evaluation.failures if one.path in measured]:
                    raise DataError(f"failed on {lacking[0]}")
            except DataError as error:
                reason = str(error).removeprefix(f"{coder.name}: ").rstrip(".")
                self.say(f"{coder.name} is left out: {reason}.")
            else:
                yield placed

    def with_clips(self, placed: Placed, excerpts: Sequence[Excerpt]) -> Placed:
        """Return an evaluation with clips of the excerpts.

        If clips are missing and the codec is not available to make them, the evaluation is returned unchanged.
        """
        path, evaluation, render = placed
        missing = {excerpt.place for excerpt in excerpts} - {clip.place for clip in evaluation.clips}
        if not missing or render is None:
            return placed
        path = self._path(placed.name, is_run=evaluation.run is not None)
        evaluation = with_clips(evaluation, path, excerpts, self.sources, render())
        evaluation.write_json(path)
        return Placed(path, evaluation)

    def _part(self, name: str, before: int, count: int) -> Plan:
        """Return the plan of one of `count` evaluations, with progress over all of them.

        Progress is reported under `name`, and includes the `before` evaluations that came earlier.
        """
        report = self.plan.progress
        if report is None:
            return self.plan

        def progress(label: str, done_s: float, total_s: float) -> None:
            report(f"evaluating {name}", before * total_s + done_s, count * total_s)

        return self.plan._replace(progress=progress)

    def _of_run(self, run: Run, number: int, of_runs: int) -> Iterator[Placed]:
        load_again = partial(load, Path(run.folder) / run.checkpoint, self.device, self.trust)
        model = load_again()
        if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
            name = Path(run.folder, run.checkpoint).name
            raise DataError(f"{name} has NaN or infinite weights; its training diverged")

        def render(count: int | None) -> Render:  # loads the model again, so that models need not stay in memory
            return partial(reconstruct, load_again(), num_codebooks=count)

        quantizer = model.quantizer
        counts = self._counts(run.name, quantizer.decodable_counts, quantizer.decodes_from, self.codebooks)
        known = [*self.known, *_known_in(Path(run.folder))]
        for place, count in enumerate((*counts, None)):
            of_rate, rates = run.decoded_from(count), len(counts) + 1
            name = f"{of_rate.name} (run {number} of {of_runs})"
            plan = self._part(name, (number - 1) * rates + place, of_runs * rates)
            path = self._path(of_rate.name, is_run=True)
            wanted = {"model_hash": model.model_hash, **settings_of(model, self.plan, count)}
            if not (found := self._found(known, wanted)):
                found = Placed(path, evaluate_model(model, self.sources, run.name, plan, count, run))
                found.evaluation.write_json(path)
            yield Placed(found.path, found.evaluation.model_copy(update={"run": of_rate}), partial(render, count))

    def _counts(
        self, name: str, decodable: Sequence[int], decodes_from: str, wanted: Sequence[int] | None
    ) -> list[int]:
        """Return the numbers of codebooks to decode from, without the full number.

        `say` receives a line if some of the wanted numbers cannot be decoded from.
        """
        wanted = decodable if wanted is None else wanted
        if decodable[-1] and (lacking := sorted({*wanted} - {*decodable})):
            counts = listed([str(count) for count in lacking])
            self.say(f"{name} is not compared at {counts} codebooks: it decodes from {decodes_from}.")
        return sorted({*wanted} & {*decodable[:-1]})

    def _of_coder(self, coder: Coder, sample_rate: int, channels: int, plan: Plan) -> Placed:
        path = self._path(coder.name, is_run=False)
        wanted = {"codec": coder.name, "sample_rate": sample_rate, "channels": channels,
                  "segment_seconds": self.plan.segment_seconds, "model_hash": coder.model_hash}  # fmt: skip
        if not (found := self._found(self.known, wanted)):
            found = Placed(path, evaluate_coder(coder, self.sources, plan, sample_rate, channels))
            found.evaluation.write_json(path)
        return found._replace(render=lambda: lambda audio: through(coder, audio, sample_rate, channels).audio)

    def _path(self, name: str, *, is_run: bool) -> Path:
        return (self.folder if is_run else self.folder / "baselines") / f"{name}.json"

    def _found(self, known: Iterable[tuple[Path, Evaluation]], wanted: Mapping[str, Any]) -> Placed | None:
        """Return the known evaluation with the wanted settings, recordings and scores; None without one."""
        recordings, versions = {source.name: source.sha256 for source in self.sources}, self.plan.choice.versions()
        for path, found in known:
            said = found.settings | {key: getattr(found, key) for key in ("codec", "sample_rate", "model_hash")}
            files = {one.path: one.sha256 for one in found.files} | {one.path: one.sha256 for one in found.failures}
            is_alike = wanted.items() <= said.items() and versions.items() <= found.versions.items()
            if is_alike and files == recordings:
                return Placed(path, found)
        return None


def at_fault(placed: Sequence[Placed]) -> dict[str, str]:
    """Return the runs that failed on recordings that another run was measured on: reasons by name of the run.

    If all runs failed on such recordings, the result is empty: no run is clearly at fault, and the runs are compared on
    the common recordings.
    """
    of_runs = [one for one in placed if one.evaluation.run]
    measured = {file.path for one in of_runs for file in one.evaluation.files}
    found = {}
    for one in of_runs:
        if lacking := [failure for failure in one.evaluation.failures if failure.path in measured]:
            of = f"{len(lacking)} of {len(measured)} recordings that other runs can do"
            found[one.name] = f"failed on {of}; the first: {lacking[0].reason}"
    return found if len(found) < len(of_runs) else {}
