"""The recordings as Lightning wants them: found, checked and split at `setup`, then loaded in batches (B, C, N)."""

import contextlib
import inspect
import logging
import math
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor
from torch.utils.data import DataLoader

from discrete_ae.data.crops import CropSettings, TrainingCrops, ValidationSegments, folder_weights
from discrete_ae.data.files import (
    TEST,
    TRAIN,
    VALIDATION,
    AudioFile,
    Split,
    name_of,
    recordings_root,
    split_by_hash,
    warn_doubtful,
    warn_skipped,
    without,
)
from discrete_ae.data.index import find_audio
from discrete_ae.data.loudness import bring_to_loudness
from discrete_ae.data.manifest import read_manifest
from discrete_ae.data.reading import read_audio
from discrete_ae.data.remote import is_url
from discrete_ae.errors import DataError, UsageError, counted
from discrete_ae.paths import command, in_utf8, listed

log = logging.getLogger("discrete_ae")

MAX_WORKERS = 16
"""More loading processes than this are only started where they are asked for."""


def _named(folder: str) -> str:
    if not folder:  # as of a variable of the shell that is not set
        raise ValueError("expected a folder, or null, got an empty name")
    return folder


Folder = Annotated[str, AfterValidator(_named)]
Manifests = Folder | list[Folder] | None


class DataSettings(CropSettings):
    """What AudioDataModule loads: its arguments."""

    root: Folder | None
    """Folder of the recordings; None, without a manifest, takes the project's own, already split."""
    validation_root: Folder | None
    """Folder of the validation recordings; None splits those to train on."""
    manifest: Manifests = None
    """One manifest, or several, in place of `root`."""
    validation_manifest: Manifests = None
    """The same in place of `validation_root`."""
    min_seconds: Annotated[float, Field(gt=0)] | None = None
    """Shorter recordings are not trained on."""
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    """Longer recordings are not trained on."""
    min_bandwidth_hz: Annotated[float, Field(gt=0)] | None = None
    """Recordings whose measured bandwidth is less are not trained on."""
    batch_size: Annotated[int, Field(ge=1)]
    """Crops per step and device."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the files that validates, where `root` is split."""
    max_validation_segments: Annotated[int, Field(ge=1)] = 256
    """At most this many, spread evenly over the validation files."""
    num_workers: Annotated[int, Field(ge=0)] | None = None
    """Loading processes per device; None takes none on CPU, `loading_workers` otherwise."""
    prefetch_batches: Annotated[int, Field(ge=1)] = 4
    """Batches that each loading process keeps ready."""
    balance: Literal["duration", "folder"] = "duration"
    """What is trained on equally often: every second, or every folder right below `root`, as `folder_weights`."""

    @model_validator(mode="after")
    def _name_one_source(self) -> Self:
        for folder, manifest in (("root", "manifest"), ("validation_root", "validation_manifest")):
            if getattr(self, folder) is not None and getattr(self, manifest) is not None:
                raise ValueError(f"{manifest}: expected null beside data.{folder}; give one of the two")
            if getattr(self, manifest) == []:
                raise ValueError(f"{manifest}: expected the path of a manifest, or several, got none")
        if self.root is None and self.manifest is None and self.validation_manifest is not None:
            raise ValueError("validation_manifest: expected data.manifest or data.root beside it")
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


class AudioLoader(DataLoader[Tensor]):
    """DataLoader of batches (B, C, N) that can be resumed and whose workers fail in one line.

    The place in the stream follows from the trainer's step, so there is no state to save; having the two methods
    tells Lightning that resuming in the middle is safe.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: see the class."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing: see the class."""

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except DataError as error:
            # An error that crosses from a worker process carries that process's traceback as its text.
            message = str(error).strip().splitlines()[-1]
            raise DataError(message.removeprefix("discrete_ae.errors.DataError: ")) from None


class AudioDataModule(pl.LightningDataModule):
    """Random training crops and fixed validation segments of a folder of audio files.

    Args:
        settings: the fields of `DataSettings`.

    Raises:
        UsageError: an unknown or missing setting, or one out of its range.
        DataError: from `setup`, if there is nothing to train or validate on.
    """

    __signature__ = inspect.signature(DataSettings)

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        try:
            self.settings = DataSettings.of(settings)
        except ValueError as error:
            raise UsageError(f"data.{error}") from error
        self.train_files: list[AudioFile] = []
        self.validation_files: list[AudioFile] = []
        self.num_skipped = 0

    def setup(self, stage: str | None = None) -> None:
        """Find, check and split the files, once."""
        if self.train_files:
            return
        its = self.settings
        train_files, validation_files = self._find()
        self.validation_segments = ValidationSegments(validation_files, its, its.max_validation_segments)
        weights = folder_weights(train_files, self._train_roots) if its.balance == "folder" else None
        self.training_crops = TrainingCrops(train_files, its, weights)
        damaged = self.validation_segments.damaged
        self.num_skipped += len(damaged)
        self.validation_files = [file for file in validation_files if file.name not in damaged]
        self.train_files = train_files

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

    def val_dataloader(self) -> AudioLoader:
        """Load every validation segment once, on one rank or another."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = validation_batches(len(self.validation_segments), self.settings.batch_size, rank, world_size)
        return self._loader(self.validation_segments, batches)

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
        """Say in one line what `setup` found."""
        return (
            f"{_amount(self.train_files)} to train on, {_amount(self.validation_files)} to validate on"
            f" ({counted(len(self.validation_segments), 'segment')}), {counted(self.num_skipped, 'file')} skipped"
        )

    @property
    def validation_root(self) -> Path:
        """The folder in which the validation files lie, but for those of URLs."""
        its = self.settings
        if its.validation_manifest is not None or (its.manifest is not None and its.validation_root is None):
            places = [file.place for file in self.validation_files if not is_url(file.place)]
            return Path(os.path.commonpath(map(os.path.dirname, places))) if places else Path()
        return Path(its.validation_root or its.root or recordings_root() / "validation").expanduser()

    @property
    def _train_roots(self) -> list[Path]:
        """The folders to which the names of the training files are relative."""
        its = self.settings
        if its.manifest is not None:
            return [Path(os.path.abspath(path.expanduser().parent)) for path in listed(its.manifest)]  # noqa: PTH100
        return [Path(its.root or recordings_root() / "train").expanduser()]

    def _find(self) -> Split:
        its = self.settings
        is_split = its.root is None and its.manifest is None
        found = self._taken(self._train_roots[0], its.manifest)
        source = ", ".join(self._train_sources)
        files = [file for file in found if file.split != TEST]
        if not files:
            raise DataError(f"{source}: every line is of split test, and these are not trained on; give others")
        if left := len(found) - len(files):
            log.info("%s of split test, neither trained nor validated on", counted(left, "recording"))
        train = [file for file in files if file.split != VALIDATION]
        if is_split or its.validation_root is not None or its.validation_manifest is not None:
            validation = self._taken(
                self.validation_root if its.validation_manifest is None else Path(), its.validation_manifest
            )
            # One folder may lie in the other: what validates does not train.
            train = without(train, validation)
            if not train:
                raise DataError(
                    f"{source}: every file also validates; nothing is left to train on, give others with "
                    "data.validation_root"
                )
        elif any(file.split for file in files):
            validation = [file for file in files if file.split == VALIDATION]
            for side, found in ((TRAIN, train), (VALIDATION, validation)):
                if not found:
                    raise DataError(f"{source}: no line is of split {side}; add some, or give data.validation_manifest")
        else:
            train, validation = split_by_hash(files, self._train_roots, its.validation_fraction)
        return Split(self._within_limits(train), validation)

    @property
    def _train_sources(self) -> list[str]:
        """What the training files are found in."""
        its = self.settings
        return [str(each) for each in (self._train_roots if its.manifest is None else listed(its.manifest))]

    def _taken(self, root: Path, manifest: Manifests) -> list[AudioFile]:
        """Return the recordings of a folder, or of manifests, that can be brought to the wanted number of channels."""
        its = self.settings
        if manifest is None:
            scan = find_audio(root, strict=its.strict)
            files, folder = scan.files, root.expanduser()
            self.num_skipped += len(scan.skipped)
        else:
            folder = Path(", ".join(map(str, listed(manifest))))
            files = [file for path in listed(manifest) for file in read_manifest(path)]
            warn_doubtful(files, folder, strict=its.strict)

        def fits(file: AudioFile) -> bool:
            return its.channels in (1, file.channels) or file.channels == 1

        others = [name_of(file, folder) for file in files if not fits(file)]
        if others and (its.strict or len(others) == len(files)):
            raise DataError(
                f"{folder}: {others[0]} has neither 1 nor {its.channels} channels; mix it down, or train a mono model"
            )
        warn_skipped(others, folder, f"neither 1 nor {its.channels} channels")
        self.num_skipped += len(others)
        return [file for file in files if fits(file)]

    def _within_limits(self, files: list[AudioFile]) -> list[AudioFile]:
        """Leave out what is too short, too long, or too narrow to train on."""
        its = self.settings
        least_s, most_s = its.min_seconds or 0, its.max_seconds or math.inf
        taken = [file for file in files if least_s <= file.duration_s <= most_s]
        if its.min_bandwidth_hz:
            taken = [file for file in taken if self._bandwidth_hz(file) >= its.min_bandwidth_hz]
        if not taken:
            raise DataError(
                f"{', '.join(self._train_sources)}: every file is outside of data.min_seconds, data.max_seconds or "
                "data.min_bandwidth_hz; nothing is left to train on"
            )
        if left := len(files) - len(taken):
            log.info("%s outside of the limits of data, not trained on", counted(left, "file"))
        return taken

    def _bandwidth_hz(self, file: AudioFile) -> float:
        bandwidth = file.known.get("bandwidth_hz")
        if isinstance(bandwidth, int | float):
            return bandwidth
        measuring = [command("discrete-ae"), "index", *self._train_sources, "-o", "measured.jsonl", "--measure"]
        raise DataError(
            f"data.min_bandwidth_hz: {file.name} has no bandwidth_hz; measure with {shlex.join(measuring)}, and give "
            "data.manifest=measured.jsonl"
        )

    def _loader(
        self, dataset: TrainingCrops | ValidationSegments, batches: TrainingBatches | list[list[int]]
    ) -> AudioLoader:
        on_cpu = self.trainer is None or isinstance(self.trainer.accelerator, CPUAccelerator)
        workers = self.settings.num_workers
        if workers is None:
            # On CPU the model wants the cores, and reading takes a small part of one.
            workers = 0 if self.trainer is None or on_cpu else loading_workers(self.trainer.num_devices)
        return AudioLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=self.settings.prefetch_batches if workers else None,
            pin_memory=not on_cpu,
            worker_init_fn=_outlive_signals,
        )


def _outlive_signals(worker: int) -> None:
    """Let a loading process go on after a signal to all processes of its run: the main one makes its last step first.

    A second SIGTERM, which Python sends at the main process's end to those that are left, ends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


def _amount(files: Sequence[AudioFile]) -> str:
    return f"{counted(len(files), 'file')} ({sum(file.duration_s for file in files) / 60:.1f} min)"


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
