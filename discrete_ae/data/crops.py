"""Data sets over audio files: random crops to train on, fixed segments to validate on.

Legend: C channels, N samples per channel.
"""

import functools
import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from discrete_ae.data.files import AudioFile
from discrete_ae.data.loudness import amplify, bring_to_loudness, fft_size
from discrete_ae.data.reading import read_audio
from discrete_ae.errors import DataError

log = logging.getLogger("discrete_ae")

NUM_BANDS = 8
MIX_DB = (-10.0, 0.0)
"""The second crop of a mixture is lowered by a gain between these, uniform in dB."""

# So many samples from an impulse, the equalizer's answer is 60 dB below its peak, even where its bands differ by 60 dB.
_ANSWER_SAMPLES = 1024

_MAX_ATTEMPTS = 100


class Changes(NamedTuple):
    """What was drawn for one crop; a None is a change that is not made."""

    speed: float
    """In hundredths; 1 is the recording's own."""
    mix_db: float | None
    """Gain of the crop that is added."""
    band_gains_db: npt.NDArray[np.float64] | None
    """The equalizer's, (`NUM_BANDS`,)."""
    gain_db: float | None
    flip: bool

    def change_level(self, audio: Tensor) -> Tensor:
        """Amplify by the gain, lowered where the peak would exceed 1, and flip the polarity."""
        if self.gain_db is not None:
            audio = amplify(audio, self.gain_db)
        return -audio if self.flip else audio


@dataclass(frozen=True)
class Augmentation:
    """Which changes there are, and how large they may be.

    All numbers are drawn whether they are used or not: switching one change on leaves the others' draws as they were.
    """

    gain_db: Sequence[float] | None = None
    """The gain is uniform in dB between these; None for no gain."""
    flip_polarity: bool = False
    """Whether the audio is multiplied by -1 with probability 1/2."""
    speed: Sequence[float] | None = None
    """The logarithm of the speed is uniform between those of these; None for no change."""
    equalizer_db: float | None = None
    """The gain of every band is uniform between minus and plus this, as `equalize`; None for no equalizer."""
    mix: float = 0.0
    """Probability that another crop is added, as `mixture`, by a gain in `MIX_DB`."""

    def draw(self, random: np.random.Generator) -> Changes:
        """Draw the changes of one crop."""
        gain, coin, speed, mixed, level, *bands = random.random(5 + NUM_BANDS)
        return Changes(
            round(self.speed[0] * (self.speed[1] / self.speed[0]) ** speed, 2) if self.speed else 1.0,
            _between(MIX_DB, level) if mixed < self.mix else None,
            None if self.equalizer_db is None else self.equalizer_db * (2 * np.array(bands) - 1),
            _between(self.gain_db, gain) if self.gain_db is not None else None,
            self.flip_polarity and bool(coin < 0.5),
        )


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
        """Return the last frame of a file from which a part lies within it; 0 where there is none."""
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


def folder_weights(files: Sequence[AudioFile], root: str | Path) -> list[float]:
    """Weights by which every folder right below `root` is drawn equally often, and the files within it by duration.

    Files at any depth belong to the folder right below `root`; those in `root` itself are one group more. The weights
    of a group add up to 1.
    """
    root = Path(root).expanduser()
    groups = [file.path.relative_to(root).parts[:-1][:1] for file in files]
    durations_s: dict[tuple[str, ...], float] = defaultdict(float)
    for file, group in zip(files, groups, strict=True):
        durations_s[group] += file.duration_s
    return [file.duration_s / durations_s[group] for file, group in zip(files, groups, strict=True)]


def mixture(audio: Tensor, other: Tensor, other_db: float) -> Tensor:
    """Add another crop, amplified by `other_db`; both are lowered alike where the peak would exceed 1."""
    return amplify(audio + 10 ** (other_db / 20) * other, 0.0)


def equalize(audio: Tensor, band_gains_db: npt.NDArray[np.float64]) -> Tensor:
    """Filter by a smooth magnitude and no phase; the audio is lowered where the peak would exceed 1.

    The gains hold at frequencies an octave apart, the last at half the sample rate. Between two of them the gain in dB
    goes from one to the other by half a period of a cosine of the octave, so that it is never outside of the two; below
    the first it stays.
    """
    num_samples = audio.shape[1]
    size, bands = _bands(num_samples)
    magnitude = 10 ** (band_gains_db.astype(np.float32) / 20 @ bands)
    filtered = np.fft.irfft(np.fft.rfft(audio.numpy(), size) * magnitude, size)[:, :num_samples]
    return amplify(torch.from_numpy(filtered.astype(np.float32, copy=False)), 0.0)


def _between(ends: Sequence[float], place: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * place


@functools.lru_cache(maxsize=4)
def _bands(num_samples: int) -> tuple[int, npt.NDArray[np.float32]]:
    """Return the size of an FFT in which the answer does not wrap around, and each band's share (bands, bins)."""
    size = fft_size(num_samples + _ANSWER_SAMPLES)
    octaves = np.log2(np.maximum(2 * np.fft.rfftfreq(size), 2.0 ** (1 - NUM_BANDS)))
    distances = np.minimum(np.abs(octaves - np.arange(1 - NUM_BANDS, 1)[:, None]), 1)
    return size, ((1 + np.cos(np.pi * distances)) / 2).astype(np.float32)
