"""What `discrete-ae compare` computes of models and baselines: evaluations, clips; kept for another time."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from discrete_ae.cli.options import Device, load_model
from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.folder import fingerprint, kept_evaluation, state_of
from discrete_ae.compare.listening_clips import Renderer, by_channel
from discrete_ae.compare.methods import kbps
from discrete_ae.compare.runs import Run, Skipped
from discrete_ae.data.files import AudioFile, probe
from discrete_ae.data.reading import Audio
from discrete_ae.errors import DataError
from discrete_ae.evaluation.baselines import BaselineCodec, evaluate_baseline
from discrete_ae.evaluation.evaluate import Plan, evaluate, reconstruct
from discrete_ae.evaluation.recordings import Source
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.scores import Choice
from discrete_ae.model import DiscreteAutoencoder

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


def _device_of(model: DiscreteAutoencoder) -> torch.device:
    return next(model.parameters()).device


def _rendering(model: DiscreteAutoencoder) -> Callable[[Audio], Audio]:
    def render(audio: Audio) -> Audio:
        with torch.inference_mode():
            return reconstruct(model, audio)

    return render


def _through(program: BaselineCodec, sample_rate: int, channels: int) -> Callable[[Audio], Audio]:
    return lambda audio: program.reconstruct(audio, sample_rate, channels)[0]
