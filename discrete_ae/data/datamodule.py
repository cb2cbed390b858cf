"""The recordings as a Lightning data module: found, checked and split at `setup`, then loaded in batches (B, C, N)."""

import contextlib
import inspect
import itertools
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from discrete_ae.data.cores import usable_cores
from discrete_ae.data.crops import CropSettings, Source, TrainingCrops, ValidationSegments, folder_weights
from discrete_ae.data.files import AudioFile, name_of
from discrete_ae.data.loudness import bring_to_loudness
from discrete_ae.data.reading import read_audio
from discrete_ae.data.sources import (
    PLACES,
    RecordingSource,
    RecordingsSettings,
    SourceSettings,
    check_distinct,
    check_mixture,
    common_folder,
)
from discrete_ae.data.workers import AudioLoader
from discrete_ae.errors import DataError, UsageError, counted
from discrete_ae.paths import in_utf8

log = logging.getLogger("discrete_ae")

MAX_WORKERS = 16
"""Largest default number of worker processes per device."""


class DataSettings(CropSettings, RecordingsSettings):
    """Arguments of AudioDataModule.

    Without a root, a manifest or sources, the module loads the project's own recordings, which are already split.
    """

    sources: dict[str, SourceSettings | None] | None = None
    """Sources by name, instead of a single place; each has a share of the crops. A source that is None is left out."""
    batch_size: Annotated[int, Field(ge=1)]
    """Crops per step and device."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the files used for validation, if no split is given."""
    max_validation_segments: Annotated[int, Field(ge=1)] = 256
    """Largest number of validation segments. Sources get equal parts, spread evenly over their validation files."""
    num_workers: Annotated[int, Field(ge=0)] | None = None
    """Worker processes per device; None for 0 on CPU, and for `loading_workers` on other devices."""
    prefetch_batches: Annotated[int, Field(ge=1)] = 4
    """Batches that each worker process prefetches."""
    balance: Literal["duration", "folder"] = "duration"
    """Unit drawn equally often: every second of audio, or every folder directly below `root` (`folder_weights`)."""

    @property
    def named(self) -> dict[str, SourceSettings]:
        """The sources by name; a single unnamed source has the name ""."""
        own = {name: value for name in RecordingsSettings.model_fields if (value := getattr(self, name)) is not None}
        if self.sources is None:
            return {"": SourceSettings(**own)}
        given = {name: source.model_dump(exclude_none=True) for name, source in self.sources.items() if source}
        return {name: SourceSettings(**{**own, **of_source}) for name, of_source in given.items()}

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        self.check_places("")
        if self.sources is None:
            check_distinct(self.named)
            return self
        for name in PLACES:
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: expected null beside data.sources; set {name} in each source instead")
        check_mixture(self.named)
        check_distinct(self.named)
        if self.max_validation_segments < (count := len(self.named)):
            raise ValueError(
                f"max_validation_segments: expected at least {count}, 1 for each source, "
                f"got {self.max_validation_segments}"
            )
        return self


@dataclass(frozen=True)
class TrainingBatches:
    """Batch sampler over one endless stream of sample numbers, distributed over the ranks.

    Batch b of rank r of w has the numbers from (b·w + r)·batch_size on. A resumed run begins at the batch `first`. The
    length counts from batch 0, because Lightning's count of batches continues in a resumed run.
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1
    first: int = 0
    total: int = sys.maxsize

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.first, self.total):
            start = (batch * self.world_size + self.rank) * self.batch_size
            yield list(range(start, start + self.batch_size))


def validation_batches(num_segments: int, batch_size: int, rank: int, world_size: int) -> list[list[int]]:
    """Divide the segments r, r + w, r + 2w, … of rank r of w into batches.

    Every segment is in exactly one batch. Every rank has the same number of batches. A rank with one more batch would
    wait forever for the others in its first collective. The batches of a rank differ in size by at most one. They have
    at most `batch_size` segments, except with a `batch_size` of 1.

    Raises:
        DataError: there are fewer segments than ranks.
    """
    if num_segments < world_size:
        raise DataError(
            f"expected a validation segment for each of {world_size} devices, got {counted(num_segments, 'segment')}; "
            "give more validation audio, a shorter data.crop_seconds, or fewer devices"
        )
    most = -(-num_segments // world_size)
    num_batches = min(-(-most // batch_size), num_segments // world_size)
    own = np.arange(rank, num_segments, world_size)
    return [batch.tolist() for batch in np.array_split(own, num_batches)]


class AudioData:
    """Random training crops and fixed validation segments from one or several sources of recordings.

    Args:
        settings: the fields of `DataSettings`.

    Raises:
        UsageError: a setting is unknown, missing or out of range.
        DataError: from `setup`, if there are no recordings to train or validate on.
    """

    __signature__ = inspect.signature(DataSettings)
    trainer: Any = None
    """Lightning's trainer during training, otherwise None."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        try:
            self.settings = its = DataSettings.of(settings)
        except ValueError as error:
            raise UsageError(f"data.{error}") from error
        self._sources = {
            name: RecordingSource(
                source, f"data.sources.{name}." if name else "data.", its.channels, its.validation_fraction, its.strict
            )
            for name, source in its.named.items()
        }
        self.train_files: list[AudioFile] = []
        """Training files, source by source."""
        self.validation_files: list[AudioFile] = []
        self.validation_sets: list[ValidationSegments] = []
        """Validation segments of each source, in the order of the sources."""
        self.num_skipped = 0

    def setup(self, stage: str | None = None) -> None:
        """Find, check and split the files; further calls do nothing."""
        if self.train_files:
            return
        its, sources = self.settings, list(self._sources.values())
        for source in sources:
            source.find()
        if len(sources) > 1:  # a validation file of one source is a training file of none
            held_out = [file for source in sources for file in source.validation]
            for source in sources:
                source.hold_out(held_out)
        for source in sources:
            source.limit()
        ends = [place * its.max_validation_segments // len(sources) for place in range(len(sources) + 1)]
        self.validation_sets = [
            ValidationSegments(source.validation, its, end - start)
            for source, (start, end) in zip(sources, itertools.pairwise(ends), strict=True)
        ]
        damaged = set[str]().union(*(one.damaged for one in self.validation_sets))
        self.num_skipped = len(damaged) + sum(source.num_skipped for source in sources)
        found = (file for source in sources for file in source.validation if file.name not in damaged)
        self.validation_files = list(dict.fromkeys(found))  # two sources may share a file
        weights = None
        if its.balance == "folder":
            weights = [each for source in sources for each in folder_weights(source.train, source.train_roots)]
        train_files = [file for source in sources for file in source.train]
        shares = [Source(len(source.train), source.weight) for source in sources]
        self.training_crops = TrainingCrops(train_files, its, weights, shares)
        self.train_files = train_files
        longest_s = max(file.num_frames / file.sample_rate for file in train_files)
        if its.crop_seconds > longest_s:
            log.warning(
                "data.crop_seconds=%g: the longest training recording has %g s, so silence is appended to every crop; "
                "give fewer seconds",
                its.crop_seconds,
                round(longest_s, 3),
            )

    @property
    def validation_segments(self) -> ConcatDataset[Tensor]:
        """Validation segments of all sources, source by source."""
        return ConcatDataset(self.validation_sets)

    @property
    def source_names(self) -> list[str]:
        """Names of the sources, in the order of the validation loaders."""
        return list(self._sources)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the crops by name of the source; the sum is 1."""
        return dict(zip(self._sources, self.training_crops.shares, strict=True))

    def train_dataloader(self) -> AudioLoader:
        """Return a loader of the run's remaining batches, from the trainer's current step on."""
        trainer, size = self.trainer, self.settings.batch_size
        if trainer is None:
            return self._loader(self.training_crops, TrainingBatches(size))
        per_step = trainer.accumulate_grad_batches
        batches = TrainingBatches(size, trainer.global_rank, trainer.world_size, trainer.global_step * per_step)
        if trainer.max_steps > 0:
            batches = replace(batches, total=trainer.max_steps * per_step)
        return self._loader(self.training_crops, batches)

    def val_dataloader(self) -> AudioLoader | list[AudioLoader]:
        """Return the loaders of this rank's validation segments: one, or one for each of several sources.

        Each segment is loaded by exactly one rank.
        """
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        size, sets = self.settings.batch_size, self.validation_sets
        loaders = [self._loader(one, validation_batches(len(one), size, rank, world_size), len(sets)) for one in sets]
        return loaders if len(loaders) > 1 else loaders[0]

    def clips(self, count: int, max_seconds: float = 5.0) -> list[tuple[str, Tensor]]:
        """Read the beginnings of up to `count` evenly spread validation files.

        Returns:
            Pairs of a file's path relative to `validation_root`, in UTF-8, and the audio (C, N).
        """
        its = self.settings
        places = np.linspace(0, len(self.validation_files) - 1, min(count, len(self.validation_files)))
        clips = []
        for file in (self.validation_files[round(place)] for place in places):
            # `setup` has read only segments of this file; the beginning may be damaged.
            with contextlib.suppress(DataError):
                audio = torch.from_numpy(read_audio(file, its.sample_rate, its.channels, duration_s=max_seconds))
                name = in_utf8(name_of(file, self.validation_root))
                clips.append((name, bring_to_loudness(audio, its.sample_rate, its.loudness_lufs)))
        return clips

    def describe(self) -> str:
        """Summarize the files found by `setup` in one line, with the shares of several sources."""
        shares = [
            f"{name} {100 * share:.1f} %{'' if place else ' of the crops'} ({_duration(self._sources[name].seconds)})"
            for place, (name, share) in enumerate(self.shares.items())
        ]
        return (
            f"{_amount(self.train_files)} to train on, {_amount(self.validation_files)} to validate on"
            f" ({counted(len(self.validation_segments), 'segment')}), {counted(self.num_skipped, 'file')} skipped"
            f"{'; ' + ', '.join(shares) if len(shares) > 1 else ''}"
        )

    @property
    def validation_root(self) -> Path:
        """Folder that contains all validation files except URLs."""
        roots = [source.validation_root for source in self._sources.values()]
        return roots[0] if len(roots) == 1 and roots[0] else common_folder(self.validation_files)

    def _loader(
        self, dataset: Dataset[Tensor], batches: TrainingBatches | list[list[int]], beside: int = 1
    ) -> AudioLoader:
        """Return a loader of batches. If `beside` loaders take turns, they divide the worker processes among them."""
        from lightning.pytorch.accelerators import CPUAccelerator  # here, since finding recordings needs no Lightning

        on_cpu = self.trainer is None or isinstance(self.trainer.accelerator, CPUAccelerator)
        workers = self.settings.num_workers
        if workers is None:
            # On CPU the model needs the cores, and reading takes only a small part of one core.
            workers = 0 if self.trainer is None or on_cpu else loading_workers(self.trainer.num_devices)
        workers = -(-workers // beside)
        return AudioLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            prefetch_factor=self.settings.prefetch_batches if workers else None,
            pin_memory=not on_cpu,
        )


def _amount(files: Sequence[AudioFile]) -> str:
    return f"{counted(len(files), 'file')} ({_duration(math.fsum(file.duration_s for file in files))})"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def loading_workers(processes: int) -> int:
    """Return the number of worker processes, 0 to `MAX_WORKERS`, for each of a run's `processes` on this machine.

    Each of the `processes` gets an equal part of the usable cores, and keeps one of its cores for itself.
    """
    return min(max(usable_cores() // processes - 1, 0), MAX_WORKERS)
