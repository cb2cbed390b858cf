"""The recordings as Lightning wants them: found, checked and split at `setup`, then loaded in batches (B, C, N)."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from torch import Tensor

from discrete_ae.data.augmentation import Augmentation
from discrete_ae.data.balance import folder_weights
from discrete_ae.data.cores import loading_workers
from discrete_ae.data.crops import TrainingCrops, ValidationSegments
from discrete_ae.data.files import AudioFile, Split, find_audio, recordings_root, split_by_hash, warn_skipped
from discrete_ae.data.level import bring_to_loudness
from discrete_ae.data.loading import AudioLoader, TrainingBatches, validation_batches
from discrete_ae.data.loudness import BLOCK_SECONDS, MAX_CHANNELS, MIN_SAMPLE_RATE
from discrete_ae.data.reading import read_audio
from discrete_ae.errors import DataError, UsageError


class AudioDataModule(pl.LightningDataModule):
    """Random training crops and fixed validation segments of a folder of audio files.

    Args:
        root: folder of the recordings; None takes the project's own, already split.
        validation_root: folder of the validation recordings; None splits `root` by file.
        sample_rate: of the batches, in Hz; files of other rates are resampled.
        channels: of the batches; files are mixed down to mono or copied from it, others are skipped.
        crop_seconds: length of the crops and segments.
        batch_size: crops per step and device.
        validation_fraction: share of the files that validates, in (0, 1), where `root` is split.
        max_validation_segments: at most this many, spread evenly over the validation files.
        num_workers: loading processes per device; None takes none on CPU, `loading_workers` otherwise.
        seed: of the crops, at least 0.
        strict: whether a file that cannot be used ends the run instead of being skipped and named.
        balance: what is trained on equally often: with "duration" every second, with "folder" every folder right below
            `root`, as `folder_weights`.
        loudness_lufs: to which every crop, segment and clip is brought, as `bring_to_loudness`, in [-70, 0]; None
            leaves them as recorded.
        gain_db: lowest and highest random gain of a crop, in [-100, 100], as `Augmentation`; None for none.
        flip_polarity: whether half of the crops are multiplied by -1.
        speed: lowest and highest random speed of a crop, in [0.5, 2], as `Augmentation`; None for no change.
        equalizer_db: greatest random gain of a band, up or down, in [0, 30], as `equalize`; None for no equalizer.
        mix: probability, in [0, 1], that a second crop is added to a crop.
        prefetch_batches: batches that each loading process keeps ready.

    Raises:
        UsageError: a number out of its range.
        DataError: from `setup`, if there is nothing to train or validate on.
    """

    def __init__(
        self,
        root: str | None,
        validation_root: str | None,
        sample_rate: int,
        channels: int,
        crop_seconds: float,
        batch_size: int,
        validation_fraction: float = 0.1,
        max_validation_segments: int = 256,
        num_workers: int | None = None,
        seed: int = 0,
        strict: bool = False,
        balance: str = "duration",
        loudness_lufs: float | None = None,
        gain_db: Sequence[float] | None = None,
        flip_polarity: bool = False,
        speed: Sequence[float] | None = None,
        equalizer_db: float | None = None,
        mix: float = 0.0,
        prefetch_batches: int = 4,
    ) -> None:
        super().__init__()
        numbers = {
            "crop_seconds": crop_seconds,
            "batch_size": batch_size,
            "validation_fraction": validation_fraction,
            "max_validation_segments": max_validation_segments,
            "num_workers": num_workers or 0,
            "prefetch_batches": prefetch_batches,
            "loudness_lufs": loudness_lufs or 0,
            "equalizer_db": equalizer_db or 0,
            "mix": mix,
        }
        for name, value in numbers.items():
            _require(isinstance(value, int | float), f"data.{name}", value, "a number")
        _require(isinstance(flip_polarity, bool), "data.flip_polarity", flip_polarity, "true or false")
        self.num_samples = round(crop_seconds * sample_rate)
        _require(self.num_samples >= 1, "data.crop_seconds", crop_seconds, "more than one sample")
        _require(batch_size >= 1, "data.batch_size", batch_size, "at least 1")
        _require(0 < validation_fraction < 1, "data.validation_fraction", validation_fraction, "between 0 and 1")
        _require(max_validation_segments >= 1, "data.max_validation_segments", max_validation_segments, "at least 1")
        _require(num_workers is None or num_workers >= 0, "data.num_workers", num_workers, "null, 0 or more")
        _require(prefetch_batches >= 1, "data.prefetch_batches", prefetch_batches, "at least 1")
        _require(seed >= 0, "seed", seed, "0 or more")
        _require(balance in ("duration", "folder"), "data.balance", balance, "duration or folder")
        ranges = {"gain_db": (gain_db, -100, 100), "speed": (speed, 0.5, 2)}
        for name, (pair, least, most) in ranges.items():
            holds = pair is None or _is_range(pair, least, most)
            _require(holds, f"data.{name}", pair, f"null or [low, high] in {least} to {most}")
        holds = equalizer_db is None or 0 <= equalizer_db <= 30
        _require(holds, "data.equalizer_db", equalizer_db, "null or a number from 0 to 30")
        _require(0 <= mix <= 1, "data.mix", mix, "from 0 to 1")
        if loudness_lufs is not None:
            _require(-70 <= loudness_lufs <= 0, "data.loudness_lufs", loudness_lufs, "null or a number from -70 to 0")
            shortest = f"at least {BLOCK_SECONDS}, the shortest audio that has a loudness, or data.loudness_lufs=null"
            _require(crop_seconds >= BLOCK_SECONDS, "data.crop_seconds", crop_seconds, shortest)
            fewer, lowest = f"at most {MAX_CHANNELS}", f"at least {MIN_SAMPLE_RATE}"
            _require(channels <= MAX_CHANNELS, "data.channels", channels, f"{fewer} with data.loudness_lufs")
            _require(
                sample_rate >= MIN_SAMPLE_RATE, "data.sample_rate", sample_rate, f"{lowest} with data.loudness_lufs"
            )
        self.root = root
        self.validation_root = validation_root
        self.sample_rate = sample_rate
        self.channels = channels
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.max_validation_segments = max_validation_segments
        self.num_workers = num_workers
        self.seed = seed
        self.strict = strict
        self.balance = balance
        self.loudness_lufs = loudness_lufs
        self.augmentation = Augmentation(
            (gain_db[0], gain_db[1]) if gain_db else None,
            flip_polarity,
            (speed[0], speed[1]) if speed else None,
            equalizer_db,
            mix,
        )
        self.prefetch_batches = prefetch_batches
        self.train_files: list[AudioFile] = []
        self.validation_files: list[AudioFile] = []
        self.num_skipped = 0

    def setup(self, stage: str | None = None) -> None:
        """Find, check and split the files, once."""
        if self.train_files:
            return
        train_files, validation_files = self._find()
        audio = (self.num_samples, self.sample_rate, self.channels)
        common: dict[str, Any] = {"strict": self.strict, "loudness_lufs": self.loudness_lufs}
        self.validation_segments = ValidationSegments(validation_files, *audio, self.max_validation_segments, **common)
        weights = folder_weights(train_files, self._train_root) if self.balance == "folder" else None
        self.training_crops = TrainingCrops(
            train_files, *audio, self.seed, weights=weights, augmentation=self.augmentation, **common
        )
        damaged = self.validation_segments.damaged
        self.num_skipped += len(damaged)
        self.validation_files = [file for file in validation_files if file.path not in damaged]
        self.train_files = train_files

    def train_dataloader(self) -> AudioLoader:
        """Load what is left of the run's stream of batches, by the trainer's step."""
        trainer = self.trainer
        if trainer is None:
            batches = TrainingBatches(self.batch_size)
        else:
            per_step = trainer.accumulate_grad_batches
            batches = TrainingBatches(
                self.batch_size,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
                first=trainer.global_step * per_step,
                **({"total": trainer.max_steps * per_step} if trainer.max_steps > 0 else {}),
            )
        return self._loader(self.training_crops, batches)

    def val_dataloader(self) -> AudioLoader:
        """Load every validation segment once, on one rank or another."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = validation_batches(len(self.validation_segments), self.batch_size, rank, world_size)
        return self._loader(self.validation_segments, batches)

    def clips(self, count: int, max_seconds: float = 5.0) -> list[tuple[str, Tensor]]:
        """Read the beginnings of up to `count` validation files, spread evenly, as (file name, (C, N))."""
        places = np.linspace(0, len(self.validation_files) - 1, min(count, len(self.validation_files)))
        clips = []
        for file in (self.validation_files[round(place)] for place in places):
            # `setup` has read segments of this file, not all of it.
            with contextlib.suppress(DataError):
                audio = torch.from_numpy(read_audio(file, self.sample_rate, self.channels, duration_s=max_seconds))
                clips.append((file.path.name, bring_to_loudness(audio, self.sample_rate, self.loudness_lufs)))
        return clips

    def describe(self) -> str:
        """Say in one line what `setup` found."""
        return (
            f"{_amount(self.train_files)} to train on, {_amount(self.validation_files)} to validate on"
            f" ({len(self.validation_segments)} segments), {self.num_skipped} files skipped"
        )

    @property
    def _train_root(self) -> str | Path:
        return self.root or recordings_root() / "train"

    def _find(self) -> Split:
        files = self._scan(self._train_root)
        if self.root is not None and self.validation_root is None:
            return split_by_hash(files, self.root, self.validation_fraction)
        validation = self._scan(self.validation_root or recordings_root() / "validation")
        # One folder may lie in the other: what validates does not train.
        held_out = {file.path.resolve() for file in validation}
        train = [file for file in files if file.path.resolve() not in held_out]
        if not train:
            raise DataError(f"{self.root}: every file also lies in data.validation_root; nothing is left to train on")
        return Split(train, validation)

    def _scan(self, root: str | Path) -> list[AudioFile]:
        """Return the files below `root` that can be brought to the wanted number of channels."""
        root = Path(root).expanduser()
        scan = find_audio(root, strict=self.strict)
        fitting, others = [], []
        for file in scan.files:
            if self.channels in (1, file.channels) or file.channels == 1:
                fitting.append(file)
            else:
                others.append(file.path.relative_to(root).as_posix())
        if others and (self.strict or not fitting):
            raise DataError(
                f"{root}: {others[0]} has neither 1 nor {self.channels} channels; mix it down, or train a mono model"
            )
        warn_skipped(others, root, f"neither 1 nor {self.channels} channels")
        self.num_skipped += len(scan.skipped) + len(others)
        return fitting

    def _loader(
        self, dataset: TrainingCrops | ValidationSegments, batches: TrainingBatches | list[list[int]]
    ) -> AudioLoader:
        on_cpu = self.trainer is None or isinstance(self.trainer.accelerator, CPUAccelerator)
        workers = self.num_workers
        if workers is None:
            # On CPU the model wants the cores, and reading takes a small part of one.
            workers = 0 if self.trainer is None or on_cpu else loading_workers(self.trainer.num_devices)
        return AudioLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=self.prefetch_batches if workers else None,
            pin_memory=not on_cpu,
        )


def _amount(files: Sequence[AudioFile]) -> str:
    noun = "file" if len(files) == 1 else "files"
    return f"{len(files)} {noun} ({sum(file.duration_s for file in files) / 60:.1f} min)"


def _is_range(value: object, least: float, most: float) -> bool:
    """Whether it is two numbers in [least, most], the lower one first."""
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(isinstance(number, int | float) for number in value)
        and least <= value[0] <= value[1] <= most
    )


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise UsageError(f"{key} is {value}, expected {expected}")
