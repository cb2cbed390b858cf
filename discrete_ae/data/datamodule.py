"""The recordings as Lightning wants them: found, checked and split at `setup`, then loaded in batches (B, C, N)."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from pydantic import AfterValidator, ConfigDict, Field
from torch import Tensor

from discrete_ae.data.crops import Augmentation, TrainingCrops, ValidationSegments, folder_weights
from discrete_ae.data.files import AudioFile, Split, find_audio, recordings_root, split_by_hash, warn_skipped
from discrete_ae.data.loading import AudioLoader, TrainingBatches, loading_workers, validation_batches
from discrete_ae.data.loudness import BLOCK_SECONDS, MAX_CHANNELS, MIN_SAMPLE_RATE, bring_to_loudness
from discrete_ae.data.reading import read_audio
from discrete_ae.errors import DataError, UsageError
from discrete_ae.records import Record


def _within(least: float, most: float) -> AfterValidator:
    """Refuse what is not two numbers in [least, most], the lower one first."""

    def check(pair: list[float]) -> list[float]:
        if not (len(pair) == 2 and least <= pair[0] <= pair[1] <= most):
            raise ValueError(f"expected [low, high] in {least:g} to {most:g}, got {pair}")
        return pair

    return AfterValidator(check)


class DataSettings(Record):
    """What AudioDataModule loads; its arguments, in the order in which crops are changed."""

    model_config = ConfigDict(extra="forbid")

    root: str | None
    """Folder of the recordings; None takes the project's own, already split."""
    validation_root: str | None
    """Folder of the validation recordings; None splits `root` by file."""
    sample_rate: Annotated[int, Field(ge=1)]
    """Of the batches, in Hz; files of other rates are resampled."""
    channels: Annotated[int, Field(ge=1)]
    """Of the batches; files are mixed down to mono or copied from it, others are skipped."""
    crop_seconds: Annotated[float, Field(gt=0)]
    """Length of the crops and segments."""
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
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the crops."""
    strict: bool = False
    """Whether a file that cannot be used ends the run instead of being skipped and named."""
    balance: Literal["duration", "folder"] = "duration"
    """What is trained on equally often: every second, or every folder right below `root`, as `folder_weights`."""
    speed: Annotated[list[float], _within(0.5, 2)] | None = None
    """Lowest and highest random speed of a crop, as `Augmentation`; None for no change."""
    mix: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that a second crop is added to a crop."""
    equalizer_db: Annotated[float, Field(ge=0, le=30)] | None = None
    """Greatest random gain of a band, up or down, as `equalize`; None for no equalizer."""
    loudness_lufs: Annotated[float, Field(ge=-70, le=0)] | None = None
    """To which every crop, segment and clip is brought, as `bring_to_loudness`; None leaves them as recorded."""
    gain_db: Annotated[list[float], _within(-100, 100)] | None = None
    """Lowest and highest random gain of a crop, as `Augmentation`; None for none."""
    flip_polarity: bool = False
    """Whether half of the crops are multiplied by -1."""

    @property
    def num_samples(self) -> int:
        """Length of the crops and segments."""
        return round(self.crop_seconds * self.sample_rate)


class AudioDataModule(pl.LightningDataModule):
    """Random training crops and fixed validation segments of a folder of audio files.

    Args:
        settings: the fields of `DataSettings`.

    Raises:
        UsageError: an unknown or missing setting, or one out of its range.
        DataError: from `setup`, if there is nothing to train or validate on.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        try:
            self.settings = DataSettings.of(settings)
        except ValueError as error:
            raise UsageError(f"data.{error}") from error
        _require(self.settings.num_samples >= 1, "crop_seconds", "more than one sample")
        if self.settings.loudness_lufs is not None:
            shortest = f"at least {BLOCK_SECONDS}, the shortest audio that has a loudness, or data.loudness_lufs=null"
            _require(self.settings.crop_seconds >= BLOCK_SECONDS, "crop_seconds", shortest)
            most, least = f"at most {MAX_CHANNELS}", f"at least {MIN_SAMPLE_RATE}"
            _require(self.settings.channels <= MAX_CHANNELS, "channels", f"{most} with data.loudness_lufs")
            _require(self.settings.sample_rate >= MIN_SAMPLE_RATE, "sample_rate", f"{least} with data.loudness_lufs")
        self.train_files: list[AudioFile] = []
        self.validation_files: list[AudioFile] = []
        self.num_skipped = 0

    def setup(self, stage: str | None = None) -> None:
        """Find, check and split the files, once."""
        if self.train_files:
            return
        its = self.settings
        train_files, validation_files = self._find()
        audio = (its.num_samples, its.sample_rate, its.channels)
        common: dict[str, Any] = {"strict": its.strict, "loudness_lufs": its.loudness_lufs}
        self.validation_segments = ValidationSegments(validation_files, *audio, its.max_validation_segments, **common)
        weights = folder_weights(train_files, self._train_root) if its.balance == "folder" else None
        changes = Augmentation(its.gain_db, its.flip_polarity, its.speed, its.equalizer_db, its.mix)
        self.training_crops = TrainingCrops(
            train_files, *audio, its.seed, weights=weights, augmentation=changes, **common
        )
        damaged = self.validation_segments.damaged
        self.num_skipped += len(damaged)
        self.validation_files = [file for file in validation_files if file.path not in damaged]
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
        """Read the beginnings of up to `count` validation files, spread evenly, as (file name, (C, N))."""
        its = self.settings
        places = np.linspace(0, len(self.validation_files) - 1, min(count, len(self.validation_files)))
        clips = []
        for file in (self.validation_files[round(place)] for place in places):
            # `setup` has read segments of this file, not all of it.
            with contextlib.suppress(DataError):
                audio = torch.from_numpy(read_audio(file, its.sample_rate, its.channels, duration_s=max_seconds))
                clips.append((file.path.name, bring_to_loudness(audio, its.sample_rate, its.loudness_lufs)))
        return clips

    def describe(self) -> str:
        """Say in one line what `setup` found."""
        return (
            f"{_amount(self.train_files)} to train on, {_amount(self.validation_files)} to validate on"
            f" ({len(self.validation_segments)} segments), {self.num_skipped} files skipped"
        )

    @property
    def validation_root(self) -> Path:
        """The folder in which the validation files lie."""
        its = self.settings
        return Path(its.validation_root or its.root or recordings_root() / "validation").expanduser()

    @property
    def _train_root(self) -> str | Path:
        return self.settings.root or recordings_root() / "train"

    def _find(self) -> Split:
        its = self.settings
        files = self._scan(self._train_root)
        if its.root is not None and its.validation_root is None:
            return split_by_hash(files, its.root, its.validation_fraction)
        validation = self._scan(self.validation_root)
        # One folder may lie in the other: what validates does not train.
        held_out = {file.path.resolve() for file in validation}
        train = [file for file in files if file.path.resolve() not in held_out]
        if not train:
            raise DataError(f"{its.root}: every file also lies in data.validation_root; nothing is left to train on")
        return Split(train, validation)

    def _scan(self, root: str | Path) -> list[AudioFile]:
        """Return the files below `root` that can be brought to the wanted number of channels."""
        root, channels, strict = Path(root).expanduser(), self.settings.channels, self.settings.strict
        scan = find_audio(root, strict=strict)
        fitting = [file for file in scan.files if channels in (1, file.channels) or file.channels == 1]
        taken = set(fitting)
        others = [file.path.relative_to(root).as_posix() for file in scan.files if file not in taken]
        if others and (strict or not fitting):
            raise DataError(
                f"{root}: {others[0]} has neither 1 nor {channels} channels; mix it down, or train a mono model"
            )
        warn_skipped(others, root, f"neither 1 nor {channels} channels")
        self.num_skipped += len(scan.skipped) + len(others)
        return fitting

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
        )


def _amount(files: Sequence[AudioFile]) -> str:
    noun = "file" if len(files) == 1 else "files"
    return f"{len(files)} {noun} ({sum(file.duration_s for file in files) / 60:.1f} min)"


def _require(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise UsageError(f"data.{name}: expected {expected}")
