"""What `discrete-ae compare` computes of models and baselines: evaluations, gradients, clips; kept for another time."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import discrete_ae
from discrete_ae.build import validation_recordings
from discrete_ae.cli.options import Device, load_model
from discrete_ae.data import ValidationSegments, recordings_root
from discrete_ae.data.channels import Audio
from discrete_ae.data.files import AudioFile, probe
from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.baselines import BaselineCodec, evaluate_baseline
from discrete_ae.evaluation.evaluate import Plan, evaluate, reconstruct
from discrete_ae.evaluation.recordings import Source
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.scores import Choice
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.quantizers import ScalarQuantizer
from discrete_ae.report.comparison import Comparison
from discrete_ae.report.figures_gradients import OWN
from discrete_ae.report.folder import fingerprint, kept_agreements, kept_evaluation, state_of
from discrete_ae.report.gradients import Agreement, Candidate, compare, prepare
from discrete_ae.report.listening_clips import Renderer, by_channel
from discrete_ae.report.methods import kbps
from discrete_ae.report.runs import Run, Skipped

SEGMENTS, SEGMENT_S, COORDINATES = 4, 1.0, 32
_FAILURES = "not_measured"  # in the settings of an evaluation: by name of a recording, why


class NotMeasuredError(DataError):
    """A codec fails on all recordings, or alone."""


@dataclass
class Workshop:
    """Computes, or takes from the report's folder what was computed from the same things."""

    folder: Path
    """Of the evaluations."""
    sources: Sequence[Source]
    choice: Choice
    device: Device
    jobs: int | None
    anew: bool
    """Whether to compute what is there, too."""
    problems: dict[str, str] = field(default_factory=dict)
    """Why a recording could not be measured by anything, by its name."""
    progress: Callable[[float], None] = lambda seconds: None
    """Is told of every second of audio that was evaluated."""

    @property
    def duration_s(self) -> float:
        """Of all recordings that can be opened."""
        return sum(file.duration_s for file in self._files.values())

    def evaluate_run(self, run: Run) -> Evaluation | Skipped:
        """Of its checkpoint; or why there is none.

        Raises:
            DataError: what was found cannot be kept.
        """
        try:
            model = self._load(run)
        except DataError as error:
            return Skipped(run.path, str(error))
        if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
            return Skipped(run.path, f"{run.checkpoint.name} holds NaN or infinite weights; its training diverged")
        entropy_model = model.entropy_model.fingerprint if model.entropy_model else None
        key = self._key(model.model_hash, entropy_model, _device_of(model).type)
        try:
            return self._kept(run.name, key, lambda plan: evaluate(model, self.sources, run.name, plan))
        except NotMeasuredError as error:
            return Skipped(run.path, str(error))

    def evaluate_baseline(self, program: BaselineCodec, sample_rate: int, channels: int) -> Evaluation:
        """At the rate, in Hz, and with the channels of the models beside it.

        Raises:
            NotMeasuredError: the program fails.
            DataError: what was found cannot be kept.
        """
        key = self._key(program.name, program.version, sample_rate, channels)
        return self._kept(
            f"baselines/{program.name}",
            key,
            lambda plan: evaluate_baseline(program, self.sources, sample_rate, channels, plan),
        )

    def agreements(self, run: Run) -> list[Agreement]:
        """Of the run's own rounding with the loss's steps, on a few segments; none without a scalar rounding."""
        model = self._load(run).requires_grad_(False)
        quantizer = model.quantizer
        if not isinstance(quantizer, ScalarQuantizer):
            return []

        def computed() -> list[Agreement]:
            length = round(SEGMENT_S * model.sample_rate)
            files = [file for name, file in self._files.items() if name not in self.problems]
            segments = ValidationSegments(files, length, model.sample_rate, model.channels, SEGMENTS)
            found = []
            for i in range(len(segments)):
                loss, u, highest = prepare(model, segments[i].to(_device_of(model)))
                candidate = Candidate(OWN, quantizer.rounding)
                found.append(compare(loss, u, highest, [candidate], COORDINATES, seed=i)[OWN])
            return found

        about = discrete_ae.__version__, torch.__version__, _device_of(model).type
        key = fingerprint(model.model_hash, about, state_of(self.sources), SEGMENTS, SEGMENT_S, COORDINATES)
        path = self.folder / f"{run.name}.gradients.json"
        return kept_agreements(path, key, computed, anew=self.anew)

    def renderers(
        self, comparison: Comparison, programs: Sequence[BaselineCodec], sample_rate: int, channels: int
    ) -> Iterator[Renderer]:
        """Of every method, by the first seed that all have, and of the baselines; loaded one after the other."""
        common = set.intersection(*(set(method.seeds) for method in comparison.methods))
        for method in comparison.methods:
            run = next((run for run in method.runs if run.seed == min(common, default=run.seed)), method.runs[0])
            model = self._load(run)
            note = f"{kbps(method.nominal_bitrate_bps)} kbps" if method.nominal_bitrate_bps else ""
            yield Renderer(method.label, model.sample_rate, by_channel(_rendering(model), model.channels), note)
        for program in programs:
            render = by_channel(_through(program, sample_rate, channels), channels)
            yield Renderer(program.name, sample_rate, render, "", program.keeps_waveform)

    def _kept(self, name: str, key: str, compute: Callable[[Plan], Evaluation]) -> Evaluation:
        done = 0.0
        failures: dict[str, str] = {}

        def progress(seconds: float) -> None:
            nonlocal done
            done += seconds
            self.progress(seconds)

        def failed(source: Source, error: DataError) -> None:
            failures[source.name] = str(error)

        def computed() -> Evaluation:
            plan = Plan(choice=self.choice, jobs=self.jobs, failed=failed, progress=progress)
            try:
                evaluation = compute(plan)
            except DataError as error:
                first = f"could do no recording; of the first: {next(iter(failures.values()))}" if failures else error
                raise NotMeasuredError(str(first)) from error
            return replace(evaluation, settings={**evaluation.settings, _FAILURES: json.dumps(failures)})

        evaluation = kept_evaluation(self.folder / f"{name}.json", key, computed, anew=self.anew)
        self.progress(max(self.duration_s - done, 0.0))
        return evaluation

    def _key(self, *parts: Any) -> str:
        return fingerprint(*parts, state_of(self.sources), self.choice.versions(), Plan().segment_seconds)

    def _load(self, run: Run) -> DiscreteAutoencoder:
        return load_model(run.checkpoint, self.device)

    @cached_property
    def _files(self) -> dict[str, AudioFile]:
        """Of the recordings that can be opened, by name."""
        files = {}
        for source in self.sources:
            try:
                files[source.name] = probe(source.path)
            except DataError:  # which the evaluation says
                continue
        return files


def failures_of(evaluation: Evaluation) -> dict[str, str]:
    """Why a recording could not be measured, in one line, by its name."""
    found: dict[str, str] = json.loads(str(evaluation.settings.get(_FAILURES) or "{}"))
    return found


def at_fault(evaluations: Mapping[str, Evaluation]) -> dict[str, str]:
    """By name, of the evaluations that lack a recording which another one has, why.

    None where all lack one: then nothing says which is at fault, and what all have is compared.
    """
    measured = {name: {file.path for file in evaluation.files} for name, evaluation in evaluations.items()}
    every = set().union(*measured.values())
    found = {}
    for name, paths in measured.items():
        if lacking := sorted(every - paths):
            why = failures_of(evaluations[name]).get(lacking[0], lacking[0])
            found[name] = (
                f"could not do {len(lacking)} of {len(every)} recordings that others could; of the first: {why}"
            )
    return found if len(found) < len(evaluations) else {}


def recordings_of(runs: Sequence[Run]) -> tuple[list[Source], str]:
    """The recordings on which all runs were validated, and what they are, in words.

    Raises:
        UsageError: they are not the same for all.
        DataError: they are not there.
    """
    found: dict[str, tuple[Path, list[Path]]] = {}
    first: tuple[str, tuple[Path, list[Path]]] | None = None
    for run in runs:
        data: Mapping[str, Any] = run.config["data"]
        # What else there is in it decides on crops and segments, not on files.
        split = fingerprint(*(data.get(key) for key in ("root", "validation_root", "validation_fraction", "channels")))
        if split not in found:
            try:
                found[split] = validation_recordings(data)
            except (DataError, UsageError) as error:
                raise type(error)(f"{error}; or give the recordings with --data (run {run.name})") from error
        if first is None:
            first = run.name, found[split]
        elif {path.resolve() for path in found[split][1]} != {path.resolve() for path in first[1][1]}:
            raise UsageError(
                f"{first[0]} and {run.name} were validated on different recordings; say with --data what to compare on"
            )
    assert first is not None
    root, paths = first[1]
    return sorted((Source(path, path.relative_to(root).as_posix()) for path in paths), key=lambda s: s.name), _said(
        root
    )


def trained_on(runs: Sequence[Run], sources: Sequence[Source]) -> set[Path]:
    """The recordings that one of the runs was trained on.

    Raises:
        DataError: the recordings of a run are below the same folder, and can no longer be read.
    """
    found: set[Path] = set()
    places = {source.path: source.path.resolve() for source in sources}
    settings = {fingerprint(run.config["data"]): run.config["data"] for run in runs}
    for data in settings.values():
        root = Path(data["root"]).expanduser() if data.get("root") else recordings_root() / "train"
        below = {path for path, place in places.items() if place.is_relative_to(root.resolve())}
        if below and data.get("root") and not data.get("validation_root"):
            validated = {path.resolve() for path in validation_recordings(data)[1]}
            below = {path for path in below if places[path] not in validated}
        found |= below
    return found


def _said(root: Path) -> str:
    """A folder on a page that may be given away."""
    is_own = root.resolve().is_relative_to(recordings_root().resolve())
    return "the project's own validation recordings" if is_own else f"the runs' validation recordings, {root.name}"


def _device_of(model: DiscreteAutoencoder) -> torch.device:
    return next(model.parameters()).device


def _rendering(model: DiscreteAutoencoder) -> Callable[[Audio], Audio]:
    def render(audio: Audio) -> Audio:
        with torch.inference_mode():
            return reconstruct(model, audio)

    return render


def _through(program: BaselineCodec, sample_rate: int, channels: int) -> Callable[[Audio], Audio]:
    return lambda audio: program.reconstruct(audio, sample_rate, channels)[0]
