"""Data sets over audio files: random crops for training, fixed segments for validation.

Legend: C channels, N samples per channel.
"""

import functools
import itertools
import logging
import math
import mmap
import operator
import pickle
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import scipy
import torch
import torch.nn.functional as F
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from torch import Tensor
from torch.utils.data import Dataset

from discrete_ae.data.files import AudioFile, key_of
from discrete_ae.data.loudness import (
    BLOCK_SECONDS,
    MAX_CHANNELS,
    MIN_SAMPLE_RATE,
    amplify,
    bring_to_loudness,
)
from discrete_ae.data.reading import read_audio
from discrete_ae.data.shares import Shares
from discrete_ae.data.workers import note
from discrete_ae.errors import DataError, counted
from discrete_ae.paths import Paths, listed
from discrete_ae.records import Record

log = logging.getLogger("discrete_ae")

NUM_BANDS = 8
MIX_DB = (-10.0, 0.0)
"""Range of the gain of a mixture's second crop, uniform in dB."""

# At this distance in samples, the equalizer's impulse response is 60 dB below its peak, even if its bands differ by
# 60 dB.
_ANSWER_SAMPLES = 1024

_MAX_ATTEMPTS = 100


class Changes(NamedTuple):
    """The changes drawn for one crop; None stands for no change."""

    speed: float
    """Speed, a multiple of 0.01; 1 is the recording's own."""
    mix_db: float | None
    """Gain of the second crop of a mixture."""
    band_gains_db: npt.NDArray[np.float64] | None
    """Gains of the equalizer, (`NUM_BANDS`,)."""
    gain_db: float | None
    flip: bool

    def change_level(self, audio: Tensor) -> Tensor:
        """Amplify by the gain, or by less if the peak would exceed 1; then flip the polarity if `flip` is set."""
        if self.gain_db is not None:
            audio = amplify(audio, self.gain_db)
        return -audio if self.flip else audio


def _within(least: float, most: float) -> AfterValidator:
    """Return a validator for two numbers in [least, most], the lower one first."""

    def check(pair: list[float]) -> list[float]:
        if not (len(pair) == 2 and least <= pair[0] <= pair[1] <= most):
            raise ValueError(f"expected [low, high] in {least:g} to {most:g}, got {pair}")
        return pair

    return AfterValidator(check)


# Hydra's lists are sequences, but not of type list.
Pair = Annotated[list[float], BeforeValidator(lambda pair: list(pair) if isinstance(pair, Sequence) else pair)]


class CropSettings(Record):
    """Settings of crops and segments; the changes of crops are listed in the order in which they are applied."""

    model_config = ConfigDict(extra="forbid")

    sample_rate: Annotated[int, Field(ge=1)]
    """Sample rate in Hz; files of other rates are resampled."""
    channels: Annotated[int, Field(ge=1)]
    """Number of channels. With 1, files are mixed down to mono. With n > 1, a file must be mono or have n channels."""
    crop_seconds: Annotated[float, Field(gt=0)]
    """Length of the crops and segments in seconds."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the crops."""
    strict: bool = False
    """True to end the run at an unusable file, False to skip the file with a warning."""
    speed: Annotated[Pair, _within(0.5, 2)] | None = None
    """Range of a crop's speed, whose logarithm is uniform; None for no change."""
    mix: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that `mixture` adds a second crop with a gain in `MIX_DB`."""
    equalizer_db: Annotated[float, Field(ge=0, le=30)] | None = None
    """Largest gain g of a band of `equalize`: gains are uniform from -g to g; None for no equalizer."""
    loudness_lufs: Annotated[float, Field(ge=-70, le=0)] | None = None
    """Loudness to which `bring_to_loudness` brings every crop, segment and clip; None to leave it unchanged."""
    gain_db: Annotated[Pair, _within(-100, 100)] | None = None
    """Range of the gain, uniform in dB; None for no gain."""
    flip_polarity: bool = False
    """True to multiply a random half of the crops by -1."""

    @property
    def num_samples(self) -> int:
        """Length of the crops and segments in samples per channel."""
        return round(self.crop_seconds * self.sample_rate)

    @model_validator(mode="after")
    def _fit_one_another(self) -> Self:
        if self.num_samples < 1:
            raise ValueError("crop_seconds: expected more than one sample")
        if self.loudness_lufs is not None:
            if self.crop_seconds < BLOCK_SECONDS:
                shortest = f"at least {BLOCK_SECONDS}, the shortest audio that has a loudness"
                raise ValueError(f"crop_seconds: expected {shortest}, or data.loudness_lufs=null")
            if self.channels > MAX_CHANNELS:
                raise ValueError(f"channels: expected at most {MAX_CHANNELS} with data.loudness_lufs")
            if self.sample_rate < MIN_SAMPLE_RATE:
                raise ValueError(f"sample_rate: expected at least {MIN_SAMPLE_RATE} with data.loudness_lufs")
        return self

    def draw(self, random: np.random.Generator) -> Changes:
        """Draw the changes of one crop.

        All random numbers are drawn, even unused ones, so that switching one change on or off does not affect the rest.
        """
        gain, coin, speed, mixed, level, *bands = random.random(5 + NUM_BANDS)
        return Changes(
            round(self.speed[0] * (self.speed[1] / self.speed[0]) ** speed, 2) if self.speed else 1.0,
            _between(MIX_DB, level) if mixed < self.mix else None,
            None if self.equalizer_db is None else self.equalizer_db * (2 * np.array(bands) - 1),
            _between(self.gain_db, gain) if self.gain_db is not None else None,
            self.flip_polarity and bool(coin < 0.5),
        )


class Packed(Sequence[AudioFile]):
    """Recordings as one block of bytes, which forked worker processes share without copies.

    A worker process shares each memory page with its parent until either process writes to the page. Python writes an
    object's reference count whenever the object is used, and the system then copies the page. A single block of bytes
    avoids these copies.
    """

    def __init__(self, files: Sequence[AudioFile]) -> None:
        values = operator.attrgetter(*(field.name for field in fields(AudioFile)))
        packed = [pickle.dumps(values(file)) for file in files]
        self._ends = np.cumsum([0, *map(len, packed)])
        self._bytes = np.frombuffer(b"".join(packed), np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: Any) -> Any:
        start, stop = self._ends[place], self._ends[place + 1]
        return AudioFile(*pickle.loads(self._bytes[start:stop].tobytes()))


class Draw(NamedTuple):
    """A candidate stretch of a recording."""

    file: AudioFile
    start: int
    """Start in frames of the file."""
    place: int
    """Index of the file in its data set."""
    changes: Changes | None = None


class Damage:
    """Skips unreadable recordings, and warns of each only once across all worker processes.

    The flags are in memory that forked processes share. Processes that are not forked warn separately.

    Args:
        count: number of recordings.
        message: the warning, with placeholders for the number of unreadable recordings so far and the error.
    """

    def __init__(self, count: int, message: str) -> None:
        self._flags = np.frombuffer(mmap.mmap(-1, count), np.uint8)
        self._message = message

    def first_readable(self, draws: Iterable[Draw], settings: CropSettings) -> tuple[Tensor, Draw]:
        """Return the audio (C, N) of the first readable draw, and that draw.

        Raises:
            DataError: no draw can be read; with `settings.strict`, the first draw cannot be read.
        """
        failed: dict[int, DataError] = {}
        tries = 0
        for draw in draws:
            tries += 1
            try:
                audio = _read(draw.file, draw.start, settings, draw.changes.speed if draw.changes else 1.0)
            except DataError as error:
                if settings.strict:
                    raise
                failed.setdefault(draw.place, error)
            else:
                self._name(failed)
                return audio, draw
        first, told = next(iter(failed.values())), counted(len(failed), "recording")
        raise DataError(
            f"all {tries} draws for a crop failed, from {told}; check for a missing disk or a wrong duration in a "
            f"manifest. The first error: {first}"
        )

    def _name(self, failed: dict[int, DataError]) -> None:
        for place, error in failed.items():
            if not self._flags[place]:
                self._flags[place] = 1
                log.warning(self._message, np.count_nonzero(self._flags), error)


class Source(NamedTuple):
    """A collection of recordings with a given share of the training crops."""

    num_files: int
    weight: float
    """Relative share of the crops, in any unit, above 0."""


class TrainingCrops(Dataset[Tensor]):
    """Crops (C, N), each a pure function of the seed and of a sample number, 0 or above.

    With several sources, `Shares` first chooses one. A file is then drawn in proportion to its duration times its
    weight, and a start uniformly within the file. Every second of audio is therefore equally likely. A file shorter
    than a crop is padded with zeros at its end. If a file is damaged, the file and the start are drawn again.

    The changes are drawn after the file and the start. They are applied in this order: speed, mixture, equalizer,
    loudness, gain, polarity. The second crop of a mixture is drawn in the same way, with its own speed, from a separate
    random stream.

    Args:
        files: the files to draw from.
        settings: settings of the crops.
        weights: weights of the files in the draw; None for each file's duration times its own weight.
        sources: the sources of the files, in the order of the files; None for a single source.

    Raises:
        DataError: from `__getitem__`: a file is damaged and `settings.strict` is set, or all draws of a crop failed.
    """

    def __init__(
        self,
        files: Sequence[AudioFile],
        settings: CropSettings,
        weights: Sequence[float] | None = None,
        sources: Sequence[Source] | None = None,
    ) -> None:
        self.files = Packed(files)
        self.settings = settings
        self._damage = Damage(len(files), "Skipped in training (%d so far): %s")
        sources = sources or [Source(len(self.files), 1.0)]
        self._shares = [Shares([source.weight for source in sources], settings.seed, stream) for stream in range(2)]
        self._ends = np.cumsum([file.duration_s * file.weight for file in files] if weights is None else weights)
        self._bounds = np.cumsum([0, *(source.num_files for source in sources)])

    @property
    def shares(self) -> list[float]:
        """Shares of the sources, in their order."""
        return self._shares[0].shares.tolist()

    def __getitem__(self, sample_number: int) -> Tensor:
        return self.__getitems__([sample_number])[0]

    def __getitems__(self, sample_numbers: Sequence[int]) -> list[Tensor]:
        """Return the crops of a batch. Drawing all crops before reading any takes an eighth less time."""
        draws = [self._draw(number) for number in sample_numbers]
        return [self._finished(*numbered) for numbered in zip(sample_numbers, draws, strict=True)]

    def _finished(self, sample_number: int, draw: Draw) -> Tensor:
        crop, changes = self._crop(sample_number, draw)
        if changes.mix_db is not None:
            other, _ = self._crop(sample_number, self._draw(sample_number, second=True), second=True)
            crop = mixture(crop, other, changes.mix_db)
        if changes.band_gains_db is not None:
            crop = equalize(crop, changes.band_gains_db)
        return changes.change_level(_leveled(crop, self.settings))

    def _crop(self, sample_number: int, draw: Draw, *, second: bool = False) -> tuple[Tensor, Changes]:
        """Read a crop and apply its speed; return the crop and all its changes."""
        others = (self._draw(sample_number, attempt, second=second) for attempt in range(1, _MAX_ATTEMPTS))
        crop, draw = self._damage.first_readable(itertools.chain([draw], others), self.settings)
        assert draw.changes is not None
        return crop, draw.changes

    def _draw(self, sample_number: int, attempt: int = 0, *, second: bool = False) -> Draw:
        """Draw the file, the start and the changes, in this order, from a Philox generator seeded by all arguments."""
        seeds = np.random.SeedSequence((self.settings.seed, sample_number, attempt), spawn_key=(1,) if second else ())
        random = np.random.Generator(np.random.Philox(seeds))
        place = self._place(random.random(), self._shares[second][sample_number])
        file = self.files[place]
        last = _last_start(file, self.settings)
        start = int(random.integers(last + 1))
        changes = self.settings.draw(random)
        # At every speed, the same random number selects the same relative place among the possible starts.
        start = start * _last_start(file, self.settings, changes.speed) // max(last, 1)
        return Draw(file, start, place, changes)

    def _place(self, random: float, source: int) -> int:
        """Return the index of the file of a source that a number from 0 to 1 selects."""
        first, stop = self._bounds[source : source + 2]
        low = self._ends[first - 1] if first else 0.0
        place = np.searchsorted(self._ends, low + random * (self._ends[stop - 1] - low), side="right")
        return int(min(place, stop - 1))


class ValidationSegments(Dataset[Tensor]):
    """Consecutive segments (C, N) of every file, or an evenly spread selection of at most `max_segments`.

    The rest at the end of a file is dropped, but a file shorter than one segment is padded with zeros. Every chosen
    segment is read once on construction, so that damaged files are found before training and left out as a whole. A
    segment that becomes unreadable later is replaced by the next readable one. A warning then reports that the scores
    before and after are of different audio. The only change applied to segments is that of the loudness.

    Raises:
        DataError: no segment can be read; with `settings.strict`, any segment cannot be read.
    """

    def __init__(self, files: Sequence[AudioFile], settings: CropSettings, max_segments: int) -> None:
        self.settings = settings
        self.damaged: set[str] = set()
        num_samples, rate = settings.num_samples, settings.sample_rate
        # With a list of all segments, 1000 h would take hundreds of megabytes.
        counts = [max(int(file.num_frames * rate / (num_samples * file.sample_rate)), 1) for file in files]
        total, stops = sum(counts), np.cumsum(counts)
        chosen = min(total, max_segments)
        self.segments: list[tuple[AudioFile, int]] = []
        for number in (k * total // chosen for k in range(chosen)):
            place = int(np.searchsorted(stops, number, side="right"))
            file, before = files[place], int(stops[place]) - counts[place]
            start = round((number - before) * num_samples * file.sample_rate / rate)
            try:
                _read(file, start, settings)
            except DataError as error:
                if settings.strict:
                    raise
                if file.name not in self.damaged:
                    self.damaged.add(file.name)
                    log.warning("Skipped in validation: %s", error)
            else:
                self.segments.append((file, start))
        self.segments = [(file, start) for file, start in self.segments if file.name not in self.damaged]
        if not self.segments:
            raise DataError("none of the validation files can be used; see the warnings above")
        places: dict[str, int] = {}
        self._draws = [Draw(*one, places.setdefault(one[0].name, len(places))) for one in self.segments]
        self._damage = Damage(
            len(places),
            "Replaced in validation by the next segment (%d so far): %s; scores before and after are of different "
            "audio",
        )

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, index: int) -> Tensor:
        draws = itertools.chain(self._draws[index:], self._draws[:index])
        return _leveled(self._damage.first_readable(draws, self.settings)[0], self.settings)


def folder_weights(files: Sequence[AudioFile], root: Paths) -> list[float]:
    """Return weights for drawing every folder directly below `root` equally often, and its files by duration.

    A file at any depth belongs to the folder directly below `root`, or below the nearest of several roots. Files
    directly in `root` form one more group. In a tar, the tar's own folders are the groups. The weights of a group add
    up to 1. Within a group, durations are multiplied by the files' own weights.
    """
    roots = [path.expanduser() for path in listed(root)]
    groups = [name.partition("/")[0] if "/" in name else "" for name in (key_of(file, *roots) for file in files)]
    weights = [file.duration_s * file.weight for file in files]
    sums: dict[str, float] = defaultdict(float)
    for weight, group in zip(weights, groups, strict=True):
        sums[group] += weight
    return [weight / sums[group] for weight, group in zip(weights, groups, strict=True)]


def mixture(audio: Tensor, other: Tensor, other_db: float) -> Tensor:
    """Add another crop, amplified by `other_db`; lower the sum if its peak would exceed 1."""
    return amplify(audio + 10 ** (other_db / 20) * other, 0.0)


def equalize(audio: Tensor, band_gains_db: npt.NDArray[np.float64]) -> Tensor:
    """Filter by a smooth magnitude response with zero phase; attenuate the result if its peak would exceed 1.

    The gains apply at frequencies an octave apart, the last of which is half the sample rate. Between two of these
    frequencies, the gain in dB follows half a period of a cosine over log-frequency, and stays between the two gains.
    Below the first frequency, the gain is constant.
    """
    num_samples = audio.shape[1]
    size, bands = _bands(num_samples)
    magnitude = 10 ** (band_gains_db.astype(np.float32) / 20 @ bands)
    filtered = np.fft.irfft(np.fft.rfft(audio.numpy(), size) * magnitude, size)[:, :num_samples]
    return amplify(torch.from_numpy(filtered.astype(np.float32, copy=False)), 0.0)


def _read(file: AudioFile, start: int, settings: CropSettings, speed: float = 1.0) -> Tensor:
    """Return (C, N) from frame `start` of the file on, padded with zeros after the end of the file.

    At a speed other than 1, a longer or shorter stretch of the file is read, as in `read_audio`.
    """
    note(file.name)
    rate, num_samples = settings.sample_rate, settings.num_samples
    start_s, duration_s = start / file.sample_rate, num_samples / rate
    read = read_audio(file, rate, settings.channels, start_s, duration_s, speed=speed)
    audio = torch.from_numpy(read)
    if missing := num_samples - read.shape[1]:  # even padding by 0 samples takes a tenth of the time of a crop
        audio = F.pad(audio, (0, missing))
    return audio


def _last_start(file: AudioFile, settings: CropSettings, speed: float = 1.0) -> int:
    """Return the last start frame of a crop that fits into the file; 0 if no crop fits."""
    num_frames = math.ceil(settings.num_samples * file.sample_rate * speed / settings.sample_rate)
    return max(file.num_frames - num_frames, 0)


def _leveled(audio: Tensor, settings: CropSettings) -> Tensor:
    return bring_to_loudness(audio, settings.sample_rate, settings.loudness_lufs)


def _between(ends: Sequence[float], place: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * place


@functools.lru_cache(maxsize=4)
def _bands(num_samples: int) -> tuple[int, npt.NDArray[np.float32]]:
    """Return an FFT size that avoids wrap-around, and the share of each band in each frequency bin (bands, bins)."""
    size = scipy.fft.next_fast_len(num_samples + _ANSWER_SAMPLES, real=True)
    octaves = np.log2(np.maximum(2 * np.fft.rfftfreq(size), 2.0 ** (1 - NUM_BANDS)))
    distances = np.minimum(np.abs(octaves - np.arange(1 - NUM_BANDS, 1)[:, None]), 1)
    return size, ((1 + np.cos(np.pi * distances)) / 2).astype(np.float32)
