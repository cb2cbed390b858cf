"""Data sets over audio files: random crops to train on, fixed segments to validate on.

Legend: C channels, N samples per channel.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from discrete_ae.data.files import AudioFile
from discrete_ae.data.reading import read_audio
from discrete_ae.errors import DataError

log = logging.getLogger("discrete_ae")

_MAX_ATTEMPTS = 100


class TrainingCrops(Dataset[Tensor]):
    """Crops (C, N), each a pure function of (seed, sample number), for any number from 0 on.

    The file is drawn in proportion to its duration and the start uniformly within it, so that every second of audio
    is as likely as any other; a file shorter than a crop is padded with zeros at its end. Where a file turns out to
    be damaged, the next draw of the same number takes its place.

    Raises:
        DataError: from `__getitem__`, at a damaged file if `strict`, otherwise if nearly all of them are.
    """

    def __init__(
        self,
        files: Sequence[AudioFile],
        num_samples: int,
        sample_rate: int,
        channels: int,
        seed: int = 0,
        *,
        strict: bool = False,
    ) -> None:
        self.files = list(files)
        self.num_samples = num_samples
        self.sample_rate = sample_rate
        self.channels = channels
        self.seed = seed
        self.strict = strict
        self.damaged: set[Path] = set()
        """The damaged files met so far, in this process."""
        self._ends_s = np.cumsum([file.duration_s for file in self.files])

    def __getitem__(self, sample_number: int) -> Tensor:
        for attempt in range(_MAX_ATTEMPTS):
            file, start = self._draw(sample_number, attempt)
            try:
                return read_segment(file, start, self.num_samples, self.sample_rate, self.channels)
            except DataError as error:
                if self.strict:
                    raise
                if file.path not in self.damaged:
                    self.damaged.add(file.path)
                    log.warning("Skipped in training (%d so far): %s", len(self.damaged), error)
        raise DataError(f"{len(self.damaged)} of {len(self.files)} training files are damaged; see the warnings above")

    def _draw(self, sample_number: int, attempt: int) -> tuple[AudioFile, int]:
        seeds = np.random.SeedSequence((self.seed, sample_number, attempt))
        random = np.random.Generator(np.random.Philox(seeds))
        file = self.files[np.searchsorted(self._ends_s, random.random() * self._ends_s[-1], side="right")]
        num_frames = math.ceil(self.num_samples * file.sample_rate / self.sample_rate)
        return file, int(random.integers(max(file.num_frames - num_frames, 0) + 1))


class ValidationSegments(Dataset[Tensor]):
    """Consecutive segments (C, N) of every file from its start, at most `max_segments`, spread evenly over all.

    What is left at the end of a file is dropped, except that a file shorter than one segment is padded with zeros.
    Every chosen segment is read once when the set is made, so that a damaged file is met before the training.

    Raises:
        DataError: no segment can be read; with `strict`, one cannot.
    """

    def __init__(
        self,
        files: Sequence[AudioFile],
        num_samples: int,
        sample_rate: int,
        channels: int,
        max_segments: int,
        *,
        strict: bool = False,
    ) -> None:
        self.num_samples = num_samples
        self.sample_rate = sample_rate
        self.channels = channels
        self.damaged: set[Path] = set()
        segments = [
            (file, round(k * num_samples * file.sample_rate / sample_rate))
            for file in files
            for k in range(max(int(file.num_frames * sample_rate / (num_samples * file.sample_rate)), 1))
        ]
        count = min(len(segments), max_segments)
        self.segments: list[tuple[AudioFile, int]] = []
        for file, start in (segments[k * len(segments) // count] for k in range(count)):
            try:
                read_segment(file, start, num_samples, sample_rate, channels)
            except DataError as error:
                if strict:
                    raise
                if file.path not in self.damaged:
                    self.damaged.add(file.path)
                    log.warning("Skipped in validation: %s", error)
            else:
                self.segments.append((file, start))
        if not self.segments:
            raise DataError("none of the validation files can be used; see the warnings above")

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, index: int) -> Tensor:
        return read_segment(*self.segments[index], self.num_samples, self.sample_rate, self.channels)


def read_segment(file: AudioFile, start: int, num_samples: int, sample_rate: int, channels: int) -> Tensor:
    """Read exactly `num_samples` at `sample_rate`, from the file's own frame `start` on, zeros after the file's end.

    Raises:
        DataError: as `read_audio`.
    """
    audio = read_audio(file, sample_rate, channels, start / file.sample_rate, num_samples / sample_rate)
    return torch.from_numpy(np.pad(audio, ((0, 0), (0, num_samples - audio.shape[1]))))
