"""A codec over a data set of recordings: what it does to them, what it costs, and at which rate.

Axes: C channels, N samples, F recordings.
"""

import copy
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from discrete_ae.codec import Codec
from discrete_ae.codes import CodeFile
from discrete_ae.errors import DataError
from discrete_ae.evaluation.coded import Coded, Failed, coded_by_model, passed_through
from discrete_ae.evaluation.perceptual import Scores
from discrete_ae.evaluation.quantities import SEGMENT_S
from discrete_ae.evaluation.recordings import Source
from discrete_ae.evaluation.results import Evaluation, FileScores, overall_of
from discrete_ae.evaluation.saving import save_pairs
from discrete_ae.evaluation.scores import Choice, choose
from discrete_ae.evaluation.scoring import Scorer
from discrete_ae.evaluation.segments import check_segment_seconds, weighted_mean
from discrete_ae.evaluation.timing import time_model, timed_audio, timing_device
from discrete_ae.inference import Runner
from discrete_ae.inference.runner import MAX_JOBS
from discrete_ae.metrics import CodeUsage
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.model.summary import summarize

Audio = NDArray[np.float32]
Progress = Callable[[float], None]
"""Is told the seconds of audio that were done since it was last called."""


class Plan(NamedTuple):
    """How to evaluate, the same for everything that is to be compared."""

    choice: Choice | None = None
    """Scores; None is all whose packages are installed."""
    segment_seconds: float = SEGMENT_S
    """Longer recordings are scored in segments of this length, at least 1, of which their score is the mean."""
    runner: Runner = Runner()
    """How windows are computed."""
    jobs: int | None = None
    """Segments scored at a time, and windows on a CPU; None is one a core, at most 16. No figure depends on it."""
    failed: Failed = lambda source, error: None
    """Is told of every recording that could not be coded, with one line that names it; the others are done."""
    progress: Progress = lambda seconds: None
    save_audio: Path | None = None
    """A folder for what is compared, as WAV files; see `save_pairs`."""
    timing: bool = True
    """Whether to measure real-time factors."""

    @property
    def num_jobs(self) -> int:
        """As many as there are."""
        return self.jobs or min(os.cpu_count() or 1, MAX_JOBS)


def evaluate(
    model: DiscreteAutoencoder,
    sources: Sequence[Source],
    codec: str,
    plan: Plan | None = None,
    num_codebooks: int | None = None,
) -> Evaluation:
    """Encode recordings to hard codes, decode them, and compare at the model's rate.

    Of a model without codes, its reconstruction without a quantizer is compared, and what is said of codes is None.

    Args:
        model: from `discrete_ae.load`, on any device.
        sources: the recordings; see `find_sources`.
        codec: what the result calls it.
        plan: how.
        num_codebooks: how many of the codebooks to use, one of `model.quantizer.decodable_counts`; None is all.

    Raises:
        DataError: not one recording could be coded.
        UsageError: segments of the plan's length are not possible.
        ValueError: the model was not loaded from a file, or num_codebooks does not decode.
    """
    plan = plan or Plan()
    if num_codebooks is not None:
        model.quantizer.check_count(num_codebooks)
    runner = plan.runner._replace(jobs=plan.num_jobs)
    figures, settings = _of_model(model, num_codebooks)
    if plan.timing and (audio := timed_audio(sources, model.sample_rate, model.channels)).shape[1]:
        try:
            factors = time_model(model, audio, runner, num_codebooks)
        except ValueError as error:  # codes that do not decode: those of latents that are no numbers
            raise DataError(f"{codec}: cannot code: {error}; use another checkpoint") from error
        figures |= {"encode_rtf": factors.encode, "decode_rtf": factors.decode}
        settings |= {"rtf_device": timing_device(model), "rtf_audio_s": factors.audio_s}
    segment_s = plan.segment_seconds
    if model.quantizer.num_codebooks:
        coded = coded_by_model(model, sources, num_codebooks, runner, segment_s, plan.failed)
    else:
        coded = passed_through(model, sources, runner, segment_s, plan.failed)
    usage = Usage(model.quantizer.codebook_sizes[:num_codebooks])
    return evaluation_of(coded, codec, model.sample_rate, plan, figures, settings, usage, model.model_hash)


class Usage:
    """Counts codes, of any number of codebooks from 0 on."""

    def __init__(self, codebook_sizes: Sequence[int] = ()) -> None:
        self._sizes = tuple(codebook_sizes)
        self._metric = CodeUsage(self._sizes) if self._sizes else None

    def add(self, code_file: CodeFile) -> None:
        """Count those of a recording."""
        if self._metric is not None:
            self._metric.update(torch.from_numpy(code_file.codes.astype(np.int64)))

    def figures(self) -> dict[str, float]:
        """Usage, perplexity and entropy_bits; nothing without codes."""
        return {} if self._metric is None else {name: float(value) for name, value in self._metric.compute().items()}

    def counts(self) -> tuple[tuple[int, ...], ...]:
        """Of every entry of every codebook."""
        if self._metric is None:
            return ()
        rows = self._metric.counts.tolist()
        return tuple(tuple(row[:size]) for row, size in zip(rows, self._sizes, strict=True))


def evaluation_of(
    coded: Iterable[Coded],
    codec: str,
    sample_rate: int,
    plan: Plan,
    figures: dict[str, float | None],
    settings: dict[str, str | int | float | None],
    usage: Usage,
    model_hash: str | None = None,
    versions: dict[str, str] | None = None,
) -> Evaluation:
    """Score what a codec made of recordings, and put it together with its other figures, by name.

    Raises:
        DataError: there is not one recording.
        UsageError: segments of the plan's length are not possible.
    """
    check_segment_seconds(plan.segment_seconds)
    choice = plan.choice or choose()
    if plan.save_audio is not None:
        coded = save_pairs(coded, plan.save_audio, sample_rate)
    with Scorer(sample_rate, choice, plan.num_jobs) as scorer:
        scored = _scored(coded, scorer, plan, usage, choice)
    if not scored:
        raise DataError(f"{codec}: not one recording could be evaluated; see what is said of each, or give others")
    scored.sort(key=lambda item: item[0].path)
    files = tuple(file for file, _ in scored)
    bits = [bits for _, bits in scored if bits is not None]
    total_s = math.fsum(file.duration_s for file in files)
    rate = {"entropy_coded_bitrate_bps": sum(bits) / total_s if bits else None}
    return Evaluation(
        codec=codec,
        files=files,
        overall=overall_of(**figures, **usage.figures(), **rate),
        code_counts=usage.counts(),
        sample_rate=sample_rate,
        model_hash=model_hash,
        versions={**choice.versions(), **(versions or {})},
        settings={**settings, "segment_seconds": plan.segment_seconds},
    )


def reconstruct(model: DiscreteAutoencoder, audio: Audio, num_codebooks: int | None = None) -> Audio:
    """What the model makes of a short clip (C, N) at its own rate and with its channels, through hard codes if any.

    Raises:
        ValueError: audio of another shape, or see `Codec.encode`.
    """
    signal = torch.from_numpy(np.ascontiguousarray(audio, np.float32))[None].to(next(model.parameters()).device)
    if model.quantizer.num_codebooks:
        codec = Codec(model)
        found = codec.decode(codec.encode(signal, num_codebooks), signal.shape[-1])
    else:
        ((_, result),) = Runner().map(model, lambda window: model(window).reconstruction, [(None, signal[0].cpu())])
        assert result is not None
        found = result[None]
    reconstruction: Audio = found[0].cpu().numpy()
    return reconstruction


def _of_model(
    model: DiscreteAutoencoder, num_codebooks: int | None
) -> tuple[dict[str, float | None], dict[str, str | int | float | None]]:
    """Figures that need no recording, and settings."""
    on_cpu = model if next(model.parameters()).device.type == "cpu" else copy.deepcopy(model).cpu()
    total = summarize(on_cpu).total
    sizes = model.quantizer.codebook_sizes[:num_codebooks]
    nominal_bps = math.fsum(map(math.log2, sizes)) * model.frame_rate_hz if sizes else None
    entropy_model = model.entropy_model.fingerprint if model.entropy_model else None
    return (
        {
            "nominal_bitrate_bps": nominal_bps,
            "parameters": total.parameters,
            "macs_per_second": total.macs_per_second,
        },
        {"codebooks": len(sizes), "entropy_model": entropy_model if sizes else None, "channels": model.channels},
    )


def _scored(
    coded: Iterable[Coded], scorer: Scorer, plan: Plan, usage: Usage, choice: Choice
) -> list[tuple[FileScores, float | None]]:
    """Every recording that could be coded, and the bits of its codes."""
    done: list[tuple[FileScores, float | None]] = []
    waiting: deque[tuple[Coded, list[tuple[int, Future[Scores]]]]] = deque()

    def finish() -> None:
        item, segments = waiting.popleft()
        found = [(length, future.result()) for length, future in segments]
        scores = {name: _score([(length, each[name]) for length, each in found]) for name in choice.names}
        scores["bitrate_bps"] = None if item.bits is None else item.bits / item.duration_s
        done.append((FileScores(item.source.name, item.duration_s, scores), item.bits))

    for item in coded:
        segments: list[tuple[int, Future[Scores]]] = []
        try:
            with closing(item.pairs):  # type: ignore[type-var]
                for pair in item.pairs:
                    length = pair.original.shape[1]
                    segments.append((length, scorer.submit(pair.reconstruction, pair.original)))
                    plan.progress(length / scorer.sample_rate)
        except DataError as error:
            line = str(error)
            named = line if line.startswith(str(item.source.path)) else f"{item.source.path}: {line}"
            plan.failed(item.source, DataError(named))
            continue
        if item.code_file is not None:
            usage.add(item.code_file)
        waiting.append((item, segments))
        while waiting and all(future.done() for _, future in waiting[0][1]):
            finish()
    while waiting:
        finish()
    return done


def _score(segments: Sequence[tuple[int, float | None]]) -> float | None:
    """Of a recording, from lengths and scores of its segments. None where one was lost: codecs are compared on the same
    recordings, and not on other parts of one.
    """
    mean = weighted_mean(segments)
    return None if mean is None or math.isnan(mean) else mean
