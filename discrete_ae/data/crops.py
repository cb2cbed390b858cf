"""Data sets over audio files: random crops to train on, fixed segments to validate on.

Legend: C channels, N samples per channel.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from discrete_ae.data.augmentation import Augmentation, Changes, equalize, mixture
from discrete_ae.data.files import AudioFile
from discrete_ae.data.level import bring_to_loudness
from discrete_ae.data.reading import read_audio
from discrete_ae.errors import DataError

log = logging.getLogger("discrete_ae")

_MAX_ATTEMPTS = 100


@dataclass(frozen=True)
class SegmentReader:
    """Reads parts of one length, brought to the sample rate and the channels."""

    num_samples: int
    sample_rate: int
    channels: int

    def __call__(self, file: AudioFile, start: int, speed: float = 1.0) -> Tensor:
        """Return exactly (C, N) from the file's own frame `start` on, with zeros after the file's end.

        At another speed it is a longer or shorter stretch of the file, as in `read_audio`.

        Raises:
            DataError: as `read_audio`.
        """
        start_s, duration_s = start / file.sample_rate, self.num_samples / self.sample_rate
        read = read_audio(file, self.sample_rate, self.channels, start_s, duration_s, speed=speed, keep_open=True)
        audio = torch.from_numpy(read)
        if missing := self.num_samples - read.shape[1]:  # padding by nothing is a tenth of the time of a crop
            audio = F.pad(audio, (0, missing))
        return audio

    def last_start(self, file: AudioFile, speed: float = 1.0) -> int:
        """The last frame of a file from which a part lies within it; 0 where there is none."""
        num_frames = math.ceil(self.num_samples * file.sample_rate * speed / self.sample_rate)
        return max(file.num_frames - num_frames, 0)


class TrainingCrops(Dataset[Tensor]):
    """Crops (C, N), each a pure function of (seed, sample number), for any number from 0 on.

    The file is drawn in proportion to its duration and the start uniformly within it, so that every second of audio
    is as likely as any other; a file shorter than a crop is padded with zeros at its end. Where a file turns out to
    be damaged, the next draw of the same number takes its place.

    The changes are drawn after the file and the start, and made in this order: speed, mixture, equalizer, loudness,
    gain, polarity. The second crop of a mixture comes from a stream of random numbers of its own, in the same way, at
    its own speed.

    Args:
        files: to draw from.
        num_samples: length of a crop.
        sample_rate: of the crops, in Hz.
        channels: of the crops.
        seed: at least 0.
        strict: whether a damaged file ends the run.
        weights: of the files in the draw; None takes their durations.
        loudness_lufs: of every crop, as `bring_to_loudness`; None leaves it as it is.
        augmentation: which changes there are; None for none.

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
        weights: Sequence[float] | None = None,
        loudness_lufs: float | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.files = list(files)
        self.read = SegmentReader(num_samples, sample_rate, channels)
        self.loudness_lufs = loudness_lufs
        self.augmentation = augmentation or Augmentation()
        self.seed = seed
        self.strict = strict
        self.damaged: set[Path] = set()
        """The damaged files met so far, in this process."""
        self._ends = np.cumsum([file.duration_s for file in self.files] if weights is None else weights)

    def __getitem__(self, sample_number: int) -> Tensor:
        crop, changes = self._crop(sample_number)
        if changes.mix_db is not None:
            crop = mixture(crop, self._crop(sample_number, second=True)[0], changes.mix_db)
        if changes.band_gains_db is not None:
            crop = equalize(crop, changes.band_gains_db)
        return changes.change_level(bring_to_loudness(crop, self.read.sample_rate, self.loudness_lufs))

    def _crop(self, sample_number: int, *, second: bool = False) -> tuple[Tensor, Changes]:
        """Read a crop at its speed; what else is to be changed is returned beside it."""
        for attempt in range(_MAX_ATTEMPTS):
            file, start, changes = self._draw(sample_number, attempt, second)
            try:
                return self.read(file, start, changes.speed), changes
            except DataError as error:
                if self.strict:
                    raise
                if file.path not in self.damaged:
                    self.damaged.add(file.path)
                    log.warning("Skipped in training (%d so far): %s", len(self.damaged), error)
        raise DataError(f"{len(self.damaged)} of {len(self.files)} training files are damaged; see the warnings above")

    def _draw(self, sample_number: int, attempt: int, second: bool) -> tuple[AudioFile, int, Changes]:
        """Draw the file, the start and the changes, in this order, from Philox seeded by all that is given."""
        seeds = np.random.SeedSequence((self.seed, sample_number, attempt), spawn_key=(1,) if second else ())
        random = np.random.Generator(np.random.Philox(seeds))
        file = self.files[np.searchsorted(self._ends, random.random() * self._ends[-1], side="right")]
        last = self.read.last_start(file)
        start = int(random.integers(last + 1))
        changes = self.augmentation.draw(random)
        # The draw of the start is the same at every speed, and its place among the possible starts too.
        return file, start * self.read.last_start(file, changes.speed) // max(last, 1), changes


class ValidationSegments(Dataset[Tensor]):
    """Consecutive segments (C, N) of every file from its start, at most `max_segments`, spread evenly over all.

    What is left at the end of a file is dropped, except that a file shorter than one segment is padded with zeros.
    Every chosen segment is read once when the set is made, so that a damaged file is met before the training.
    With `loudness_lufs`, every segment is brought to that loudness, as the crops are.

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
        loudness_lufs: float | None = None,
    ) -> None:
        self.read = SegmentReader(num_samples, sample_rate, channels)
        self.loudness_lufs = loudness_lufs
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
                self.read(file, start)
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
        return bring_to_loudness(self.read(*self.segments[index]), self.read.sample_rate, self.loudness_lufs)
