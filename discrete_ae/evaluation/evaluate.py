"""Evaluate a codec over a data set of recordings: quality, cost and bitrate."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from discrete_ae.build import check_codebooks, load, pick_device, read_saved
from discrete_ae.data.cores import usable_cores
from discrete_ae.data.reading import Audio
from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.coded import (
    Coded,
    coded_by_model,
    failed,
    passed_through,
    real_time_factors,
    reconstruct,
    time_model,
    timing_device,
)
from discrete_ae.evaluation.coders import Coder, Passed, through
from discrete_ae.evaluation.perceptual import weighted_mean
from discrete_ae.evaluation.pretrained import is_tokenizer, load_tokenizer
from discrete_ae.evaluation.recordings import MIN_SEGMENT_S, Source, choose_excerpts, find_sources, without_doubt
from discrete_ae.evaluation.results import Evaluation, Failure, FileScores, Run, run_of
from discrete_ae.evaluation.saving import Render, claim, result_paths, save_pairs, saved_paths, with_clips
from discrete_ae.evaluation.scores import OVERALL, SEGMENT_S, Choice, Scores, choose
from discrete_ae.evaluation.scoring import Scorer
from discrete_ae.inference import MAX_JOBS, one_thread, runner_of
from discrete_ae.metrics import CodeUsage
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.model.summary import summarize
from discrete_ae.paths import PRETRAINED, Kind, Paths, in_utf8, kind_of, listed, real
from discrete_ae.saving.bundle import CONFIG, TENSORS
from discrete_ae.saving.hub import is_on_hub

Figures = dict[str, float | None]
Settings = dict[str, str | int | float | None]
Progress = Callable[[str, float, float], None]
"""Callback that receives the codec's name, the seconds of audio done, and the total seconds."""


class Plan(NamedTuple):
    """Settings of an evaluation, the same for all codecs of a comparison."""

    choice: Choice
    """Scores to compute."""
    segment_seconds: float = SEGMENT_S
    """Length of a segment, at least 1. The score of a longer recording is the mean over its segments."""
    jobs: int | None = None
    """Number of segments scored, and of windows computed on a CPU, in parallel. None for one per core, at most 16. The
    results do not depend on it."""
    progress: Progress | None = None
    save_audio: Path | None = None
    """Folder for originals and reconstructions as WAV files; see `save_pairs`."""
    timing: bool = True
    """True to measure real-time factors."""

    @property
    def num_jobs(self) -> int:
        """Value of `jobs`, by default one per usable core, at most 16."""
        return self.jobs or min(usable_cores(), MAX_JOBS)


def evaluate(
    model: DiscreteAutoencoder | str | Path,
    data: Paths,
    out: str | Path | None = None,
    *,
    metrics: str | Sequence[str] | None = None,
    num_codebooks: int | None = None,
    segment_seconds: float = SEGMENT_S,
    clips: int = 0,
    clip_seconds: float = 6.0,
    trust: Sequence[str] = (),
    device: str = "auto",
    jobs: int | None = None,
    save_audio: str | Path | None = None,
    force: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Encode recordings to hard codes, decode them, and compare at the model's sample rate.

    A model without codes is scored on its reconstruction, and its figures about codes are None. A recording that cannot
    be coded is listed in the result's `failures`, and the evaluation continues.

    >>> found = discrete_ae.evaluate(checkpoint, recordings, metrics=["si_sdr_db"])
    >>> [file.path for file in found.files]
    ['clip_0.wav', 'clip_1.wav']
    >>> found.means()["si_sdr_db"].mean > -100
    True

    Args:
        model: best.ckpt or last.ckpt of a run, an exported bundle, or a model that `discrete_ae.load` returned; or an
            audio tokenizer of the package transformers: "hf:" and its folder, or its name in Hugging Face's cache.
        data: recordings, folders of them, or patterns such as "corpus/**/*.wav".
        out: a .json file to write, which `compare` reads, with clips beside it; a .csv file with one row per recording;
            or a folder for both.
        metrics: scores to compute; see `scores.choose`.
        num_codebooks: number of codebooks to use, from which the model must be able to decode; None for all.
        segment_seconds: length of a segment. The score of a longer recording is the mean over its segments.
        clips: number of excerpts to write beside the .json file for listening.
        clip_seconds: maximum duration of an excerpt.
        trust: further modules whose components the model may name; see `discrete_ae.load`.
        device: "cpu", "cuda", or "auto" for a GPU if available; a model that is already loaded keeps its own.
        jobs: number of segments scored, and of windows computed on a CPU, in parallel; None for one per core, up to 16.
        save_audio: folder for all originals and reconstructions, as WAV files.
        force: True to overwrite existing files.
        strict: True to count recordings whose length differs from that in the header as failures; else they are logged.
        progress: callback for the progress.

    Raises:
        DataError: an output file exists, the model cannot be loaded, or no recording could be coded.
        UsageError: a score is unknown or not installed, num_codebooks or segment_seconds is invalid, or no data is
            given.
    """
    results = result_paths(Path(out) if out else None)
    targets = [path for path in results if path.suffix.lower() == ".json"] if clips else []
    if clips and not targets:
        raise UsageError(f"--clips {clips}: clips are written beside a .json file; give one, or a folder, with -o")
    pairs = Path(save_audio) if save_audio else None
    claim([*saved_paths(pairs), *results], force=force)
    plan = Plan(choose(metrics), segment_seconds, jobs, progress, pairs)
    if not MIN_SEGMENT_S <= segment_seconds < math.inf:
        raise UsageError(f"segment_seconds: expected {MIN_SEGMENT_S:g} or more, finite, got {segment_seconds}")
    if not listed(data):
        raise UsageError("data: expected recordings, folders or patterns, got none")
    found = find_sources(listed(data))
    if strict:
        found = without_doubt(found)
    subject = _subject(model, num_codebooks, trust, device)
    if not found.sources:
        raise found.problems[0]
    evaluation = subject.evaluate(found.sources, plan)
    absent = tuple(Failure(path=reason.partition(": ")[0], reason=reason) for reason in map(str, found.problems))
    evaluation = evaluation.model_copy(update={"failures": (*absent, *evaluation.failures)})
    for path in results:
        (evaluation.write_csv if path.suffix.lower() == ".csv" else evaluation.write_json)(path)
    for path in targets:  # the scores are saved by now, even if the clips fail
        measured = {file.path for file in evaluation.files}
        excerpts = choose_excerpts([one for one in found.sources if one.name in measured], clips, clip_seconds)
        evaluation = with_clips(evaluation, path, excerpts, found.sources, subject.render)
        evaluation.write_json(path)
    return evaluation


class _Subject(NamedTuple):
    """A codec to evaluate."""

    evaluate: Callable[[Sequence[Source], Plan], Evaluation]
    render: Render


def _subject(
    model: DiscreteAutoencoder | str | Path, num_codebooks: int | None, trust: Sequence[str], device: str
) -> _Subject:
    if is_tokenizer(model):
        coder = load_tokenizer(str(model), pick_device(device)).at(num_codebooks)
        at = coder.decoded_rate, coder.max_channels
        return _Subject(
            lambda sources, plan: evaluate_coder(coder, sources, plan, *at),
            lambda audio: through(coder, audio, *at).audio,
        )
    if isinstance(model, DiscreteAutoencoder):
        name, run, loaded = "model", None, model
    else:
        path = Path(model)
        name, run = in_utf8(str(model)), run_of_bundle(path) if is_bundle(path) else run_of(path)
        loaded = load(model, pick_device(device), trust)
    return _Subject(
        lambda sources, plan: evaluate_model(loaded, sources, name, plan, num_codebooks, run),
        partial(reconstruct, loaded, num_codebooks=num_codebooks),
    )


def is_bundle(path: Path) -> bool:
    """Return whether a path is a folder from `discrete-ae export`, one on the hub, or the model in this package."""
    is_own = str(path) == PRETRAINED and kind_of(path) is Kind.NOTHING
    return is_own or is_on_hub(path) or all((path / name).is_file() for name in (CONFIG, TENSORS))


def run_of_bundle(path: Path) -> Run:
    """Return a run that stands for the model in a bundle, named by its folder; the run has no settings of training.

    Raises:
        DataError: the bundle cannot be read.
    """
    name, model = in_utf8(real(path).name), read_saved(path).config
    return Run(name=name, quantizer=name, config={"model": model, "quantizer": model["quantizer"]}, folder=str(path))


def evaluate_model(
    model: DiscreteAutoencoder,
    sources: Sequence[Source],
    codec: str,
    plan: Plan,
    num_codebooks: int | None = None,
    run: Run | None = None,
) -> Evaluation:
    """Evaluate a loaded model like `evaluate`; `codec` and `run` name the model and its training run in the result."""
    check_codebooks(model, num_codebooks)
    sizes = model.quantizer.codebook_sizes[:num_codebooks]
    if run and len(sizes) < model.quantizer.num_codebooks:
        run = run.decoded_from(num_codebooks)
    runner = runner_of(model, plan.num_jobs)
    figures, settings = _figures_of(model, num_codebooks), settings_of(model, plan, num_codebooks)
    if plan.timing:
        timed = partial(time_model, model, runner=runner, num_codebooks=num_codebooks)
        factors = real_time_factors(sources, model.sample_rate, model.channels, timed)
        figures |= factors
        settings |= {"rtf_device": timing_device(model), "rtf_audio_s": factors.get("rtf_audio_s")}
    if sizes:
        coded = coded_by_model(model, sources, num_codebooks, runner, plan.segment_seconds)
    else:
        coded = passed_through(
            sources, model.sample_rate, model.channels, plan.segment_seconds,
            lambda audio: (reconstruct(model, audio, runner=runner), None),
            around=(model.receptive_field_samples, model.look_ahead_samples), hop=model.hop_length,
        )  # fmt: skip
    usage = CodeUsage(sizes) if sizes else None
    found = evaluation_of(coded, codec, model.sample_rate, plan, sources, figures, settings, usage)
    return found.model_copy(update={"model_hash": model.model_hash, "run": run})


def evaluate_coder(coder: Coder, sources: Sequence[Source], plan: Plan, sample_rate: int, channels: int) -> Evaluation:
    """Evaluate a codec from outside this package like `evaluate_model`.

    Args:
        coder: a codec at one bitrate.
        sources: the recordings.
        plan: settings of the evaluation.
        sample_rate: sample rate of the comparison in Hz, which is that of the models to compare the codec with.
        channels: number of channels of these models. With 1, every channel is coded separately.

    Raises:
        DataError: no recording could be coded.
    """
    figures: Figures = {"nominal_bitrate_bps": coder.bitrate_bps, "parameters": coder.parameters}
    if not coder.is_entropy_coded:
        figures["entropy_coded_bitrate_bps"] = None
    settings: Settings = {"channels": channels, "segment_seconds": plan.segment_seconds}

    def passed(audio: Audio) -> Passed:
        return through(coder, audio, sample_rate, channels)

    if plan.timing:
        with one_thread():
            factors = real_time_factors(sources, sample_rate, channels, lambda audio: passed(audio)[2:])
        figures |= factors
        settings |= {"rtf_device": coder.device, "rtf_audio_s": factors.get("rtf_audio_s")}
    coded = passed_through(
        sources, sample_rate, channels, plan.segment_seconds, lambda audio: passed(audio)[:2], piece_s=coder.piece_s
    )
    found = evaluation_of(coded, coder.name, sample_rate, plan, sources, figures, settings)
    versions = found.versions | {coder.name: coder.version()}
    about = {"keeps_waveform": coder.keeps_waveform, "versions": versions, "model_hash": coder.model_hash}
    return found.model_copy(update=about)


def settings_of(model: DiscreteAutoencoder, plan: Plan, num_codebooks: int | None = None) -> Settings:
    """Return the settings that an evaluation depends on, besides weights, recordings and scores."""
    codebooks = len(model.quantizer.codebook_sizes[:num_codebooks])
    return {
        "codebooks": codebooks,
        "codebooks_of_model": model.quantizer.num_codebooks,
        "entropy_model": model.entropy_model.fingerprint if model.entropy_model and codebooks else None,
        "channels": model.channels,
        "segment_seconds": plan.segment_seconds,
    }


def _figures_of(model: DiscreteAutoencoder, num_codebooks: int | None) -> Figures:
    """Return the figures that depend on the model alone."""
    on_cpu = model if next(model.parameters()).device.type == "cpu" else copy.deepcopy(model).cpu()
    total = summarize(on_cpu).total
    sizes = model.quantizer.codebook_sizes[:num_codebooks]
    return {
        "nominal_bitrate_bps": math.fsum(map(math.log2, sizes)) * model.frame_rate_hz if sizes else None,
        "parameters": total.parameters,
        "macs_per_second": total.macs_per_second,
    }


def evaluation_of(
    coded: Iterable[Coded | Failure],
    codec: str,
    sample_rate: int,
    plan: Plan,
    sources: Sequence[Source],
    figures: Figures,
    settings: Settings,
    usage: CodeUsage | None = None,
) -> Evaluation:
    """Score a codec's reconstructions, and combine the scores with its other figures.

    Raises:
        DataError: no recording could be evaluated.
    """
    if plan.save_audio is not None:
        coded = save_pairs(coded, plan.save_audio, sample_rate)
    scored: list[tuple[Coded, _Segments]] = []
    failures: list[Failure] = []
    total_s = math.fsum(source.duration_s for source in sources) if plan.progress else 0.0
    done_s = 0.0
    with Scorer(sample_rate, plan.choice, plan.num_jobs) as scorer:
        for item in coded:
            if isinstance(item, Failure):
                failures.append(item)
                continue
            segments: _Segments = []
            try:
                with closing(item.pairs):  # type: ignore[type-var]
                    for pair in item.pairs:
                        length = pair.original.shape[1]
                        segments.append((length, scorer.submit(pair.reconstruction, pair.original)))
                        done_s += length / sample_rate
                        if plan.progress:
                            plan.progress(codec, done_s, total_s)
            except DataError as error:
                failures.append(failed(item.source, error))
                continue
            if item.code_file is not None and usage is not None:
                usage.update(torch.from_numpy(item.code_file.codes.astype(np.int64)))
            item.code_file = None
            scored.append((item, segments))
        files = [_file_scores(*each) for each in scored]
    if not files:
        reason = f"; reason for the first: {failures[0].reason}" if failures else ""
        raise DataError(f"{codec}: no recording could be evaluated{reason}")
    known = [item.bits for item, _ in scored if item.bits is not None]
    seconds = math.fsum(file.duration_s for file in files)
    figures = {"entropy_coded_bitrate_bps": sum(known) / seconds if known else None, **figures}
    counts: list[tuple[int, ...]] = []
    if usage is not None:
        figures |= {name: float(value) for name, value in usage.compute().items()}
        counts = [tuple(row[:size]) for row, size in zip(usage.counts.tolist(), usage.codebook_sizes, strict=True)]
    return Evaluation(
        codec=codec,
        files=tuple(sorted(files, key=lambda file: file.path)),
        failures=tuple(failures),
        overall={quantity.name: figures.get(quantity.name) for quantity in OVERALL},
        code_counts=tuple(counts),
        sample_rate=sample_rate,
        versions=plan.choice.versions(),
        settings=settings,
    )


_Segments = list[tuple[int, Future[Scores]]]


def _file_scores(item: Coded, segments: _Segments) -> FileScores:
    """Return the mean scores over the segments of a recording.

    A score is None if any segment lost it, so that all codecs are compared on the same audio.
    """
    found = [(length, future.result()) for length, future in segments]
    means = {name: weighted_mean([(length, scores[name]) for length, scores in found]) for name in found[0][1]}
    scores = {name: None if mean is None or math.isnan(mean) else mean for name, mean in means.items()}
    scores["bitrate_bps"] = None if item.bits is None else item.bits / item.duration_s
    return FileScores(path=item.source.name, duration_s=item.duration_s, scores=scores, sha256=item.source.sha256)
