"""The recordings as Lightning wants them: found, checked and split at `setup`, then loaded in batches (B, C, N)."""

import contextlib
import inspect
import itertools
import logging
import math
import os
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
"""More loading processes than this are only started where they are asked for."""


class DataSettings(CropSettings, RecordingsSettings):
    """What AudioDataModule loads: its arguments.

    Without a root, a manifest or sources, that is the project's own recordings, already split.
    """

    sources: dict[str, SourceSettings | None] | None = None
    """Several places by name, in place of one, with shares of the crops of their own; a None is left out."""
    batch_size: Annotated[int, Field(ge=1)]
    """Crops per step and device."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the files that validates, where nobody says which do."""
    max_validation_segments: Annotated[int, Field(ge=1)] = 256
    """At most this many, spread evenly over the validation files; each source has as many."""
    num_workers: Annotated[int, Field(ge=0)] | None = None
    """Loading processes per device; None takes none on CPU, `loading_workers` otherwise."""
    prefetch_batches: Annotated[int, Field(ge=1)] = 4
    """Batches that each loading process keeps ready."""
    balance: Literal["duration", "folder"] = "duration"
    """What is trained on equally often: every second, or every folder right below `root`, as `folder_weights`."""

    @property
    def named(self) -> dict[str, SourceSettings]:
        """The sources by name; one that has none."""
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
                raise ValueError(f"{name}: expected null beside data.sources, each of which has its own")
        check_mixture(self.named)
        check_distinct(self.named)
        if self.max_validation_segments < (count := len(self.named)):
            raise ValueError(f"max_validation_segments: expected at least 1 for each of {count} sources")
        return self


@dataclass(frozen=True)
class TrainingBatches:
    """Batch sampler of one endless stream of sample numbers, shared out between the ranks.

    Batch b of rank r of w holds the numbers from (b·w + r)·batch_size on. A resumed run begins at the batch `first`;
    the length is that of the whole run, from batch 0, because Lightning counts a resumed run on from where it was.
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
    """Share the segments r, r + w, r + 2w, … of rank r into batches: each segment once, as many batches on each rank.

    Equal counts matter: a rank with one batch more would wait for the others in the first collective of that batch.
    The batches of a rank differ in size by one at most; one may exceed `batch_size` only where that is 1.

    Raises:
        DataError: fewer segments than ranks.
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
    """Random training crops and fixed validation segments of a folder of audio files, or of several sources.

    Args:
        settings: the fields of `DataSettings`.

    Raises:
        UsageError: an unknown or missing setting, or one out of its range.
        DataError: from `setup`, if there is nothing to train or validate on.
    """

    __signature__ = inspect.signature(DataSettings)
    trainer: Any = None
    """Lightning's, in a run of training."""

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
        """Those of one source after the other."""
        self.validation_files: list[AudioFile] = []
        self.validation_sets: list[ValidationSegments] = []
        """Of the sources, in their order."""
        self.num_skipped = 0

    def setup(self, stage: str | None = None) -> None:
        """Find, check and split the files, once."""
        if self.train_files:
            return
        its, sources = self.settings, list(self._sources.values())
        for source in sources:
            source.find()
        if len(sources) > 1:  # what validates in one trains in none
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
        self.validation_files = list(dict.fromkeys(found))  # two sources may have the same
        weights = None
        if its.balance == "folder":
            weights = [each for source in sources for each in folder_weights(source.train, source.train_roots)]
        train_files = [file for source in sources for file in source.train]
        shares = [Source(len(source.train), source.weight) for source in sources]
        self.training_crops = TrainingCrops(train_files, its, weights, shares)
        self.train_files = train_files

    @property
    def validation_segments(self) -> ConcatDataset[Tensor]:
        """Those of all sources, one source after the other."""
        return ConcatDataset(self.validation_sets)

    @property
    def source_names(self) -> list[str]:
        """The names of the sources, in the order of the validation loaders."""
        return list(self._sources)

    @property
    def shares(self) -> dict[str, float]:
        """Of the crops, by the names of the sources; they add up to 1."""
        return dict(zip(self._sources, self.training_crops.shares, strict=True))

    def train_dataloader(self) -> AudioLoader:
        """Load what is left of the run's stream of batches, by the trainer's step."""
        trainer, size = self.trainer, self.settings.batch_size
        if trainer is None:
            return self._loader(self.training_crops, TrainingBatches(size))
        per_step = trainer.accumulate_grad_batches
        batches = TrainingBatches(size, trainer.global_rank, trainer.world_size, trainer.global_step * per_step)
        if trainer.max_steps > 0:
            batches = replace(batches, total=trainer.max_steps * per_step)
        return self._loader(self.training_crops, batches)

    def val_dataloader(self) -> AudioLoader | list[AudioLoader]:
        """Load every validation segment once, on one rank or another; of several sources, by a loader for each."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        size, sets = self.settings.batch_size, self.validation_sets
        loaders = [self._loader(one, validation_batches(len(one), size, rank, world_size), len(sets)) for one in sets]
        return loaders if len(loaders) > 1 else loaders[0]

    def clips(self, count: int, max_seconds: float = 5.0) -> list[tuple[str, Tensor]]:
        """Read the beginnings of up to `count` validation files, spread evenly: (path there in UTF-8, (C, N))."""
        its = self.settings
        places = np.linspace(0, len(self.validation_files) - 1, min(count, len(self.validation_files)))
        clips = []
        for file in (self.validation_files[round(place)] for place in places):
            # `setup` has read segments of this file, not all of it.
            with contextlib.suppress(DataError):
                audio = torch.from_numpy(read_audio(file, its.sample_rate, its.channels, duration_s=max_seconds))
                name = in_utf8(name_of(file, self.validation_root))
                clips.append((name, bring_to_loudness(audio, its.sample_rate, its.loudness_lufs)))
        return clips

    def describe(self) -> str:
        """Say in one line what `setup` found, and the shares of several sources."""
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
        """The folder in which the validation files lie, but for those of URLs."""
        roots = [source.validation_root for source in self._sources.values()]
        return roots[0] if len(roots) == 1 and roots[0] else common_folder(self.validation_files)

    def _loader(
        self, dataset: Dataset[Tensor], batches: TrainingBatches | list[list[int]], beside: int = 1
    ) -> AudioLoader:
        """Load batches of a data set; `beside` loaders, used one after the other, share the processes of one."""
        from lightning.pytorch.accelerators import CPUAccelerator  # here: to find recordings needs no Lightning

        on_cpu = self.trainer is None or isinstance(self.trainer.accelerator, CPUAccelerator)
        workers = self.settings.num_workers
        if workers is None:
            # On CPU the model wants the cores, and reading takes a small part of one.
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
    """Return how many loading processes each of a run's `processes` on this machine starts, 0 to `MAX_WORKERS`.

    A process has its share of the usable cores, and keeps one of them for itself.
    """
    return min(max(usable_cores() // processes - 1, 0), MAX_WORKERS)


def usable_cores(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Count the processors that this process may keep busy: those of its affinity, fewer by a container's quota.

    Args:
        groups: the folder in which a container finds its control group, version 2, or version 1 with its `cpu` below.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):  # the other version's; "max"
            quota, period = (int(number) for name in names for number in (groups / name).read_text().split())
            if quota > 0:
                cores = min(cores, quota // period)
    return max(1, cores)
