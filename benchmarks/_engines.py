"""Loaders of one-second training crops of 16 kHz mono: ours, and webdataset, which reads sequentially.

An engine reads its own storage format and yields batches (B, 1, N) forever. For each crop it creates, it adds the bytes
it received to `made`. These counts run ahead of the delivered batches, since some crops wait in a buffer.
"""

import io
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
import torch
import webdataset as wds
from torch import Tensor

from discrete_ae.data import CropSettings, TrainingCrops
from discrete_ae.data.datamodule import AudioLoader, TrainingBatches
from discrete_ae.data.index import index

RATE = 16000
BATCH_SIZE = 64
SEED = 1
SHARD_BYTES = 64 * 10**6
SHUFFLED = 1000
"""Crops in the shuffle buffer of a sequential engine, a usual value according to webdataset's documentation."""


class Made:
    """Counter of the crops created in this process."""

    crops = 0
    num_bytes = 0

    def add(self, crops: int, num_bytes: int) -> None:
        """Add crops and bytes to the counts."""
        self.crops += crops
        self.num_bytes += num_bytes


made = Made()


class Engine(NamedTuple):
    """A configured loader."""

    name: str
    store: str
    """Name of the storage format it reads: files, or tars."""
    load: Callable[[Path | list[str]], Iterable[Tensor]]
    """Maps a folder or the URLs of tars to the batches, which are loaded in this process."""


def sought(content: bytes) -> Tensor:
    """Return a random second (1, N) of a recording by seeking in its bytes."""
    made.add(1, len(content))
    with soundfile.SoundFile(io.BytesIO(content)) as sound:
        sound.seek(random.randrange(sound.frames - RATE + 1))
        return torch.from_numpy(sound.read(RATE, dtype="float32"))[None]


def decoded(content: bytes) -> Tensor:
    """Return a random second (1, N) of a recording by decoding all of it."""
    made.add(1, len(content))
    audio = soundfile.read(io.BytesIO(content), dtype="float32")[0]
    start = random.randrange(len(audio) - RATE + 1)
    return torch.from_numpy(audio[start : start + RATE].copy())[None]


def all_seconds(content: bytes) -> Iterator[Tensor]:
    """Yield the consecutive seconds (1, N) of a recording, from a random start on."""
    audio = torch.from_numpy(soundfile.read(io.BytesIO(content), dtype="float32")[0])
    seconds = audio[random.randrange(len(audio) % RATE + 1) :].unfold(0, RATE, RATE)
    made.add(len(seconds), len(content))
    for second in seconds:
        yield second[None].clone()


def _ours(folder: Path | list[str]) -> Iterable[Tensor]:
    settings = CropSettings.of({"sample_rate": RATE, "channels": 1, "crop_seconds": 1.0, "seed": SEED})
    crops = TrainingCrops(index(folder).files, settings)
    for batch in AudioLoader(crops, batch_sampler=TrainingBatches(BATCH_SIZE)):
        made.add(len(batch), 0)
        yield batch


def _webdataset(crops_of: Callable[[bytes], Iterable[Tensor]]) -> Callable[[Path | list[str]], Iterable[Tensor]]:
    """Return a loader that draws shards forever, shuffles crops in a buffer, and batches them."""

    def crops(samples: Iterable[dict[str, Any]]) -> Iterator[Tensor]:
        for sample in samples:
            yield from crops_of(sample["flac"])

    def load(folder: Path | list[str]) -> Iterable[Tensor]:
        tars = sorted(map(str, folder.glob("*.tar"))) if isinstance(folder, Path) else folder
        stream = wds.DataPipeline(
            wds.ResampledShards(tars, seed=SEED, deterministic=True),
            wds.tarfile_to_samples(),
            crops,
            wds.shuffle(SHUFFLED, seed=SEED),
            wds.batched(BATCH_SIZE, torch.stack),
        )
        return wds.WebLoader(stream, batch_size=None)

    return load


OURS = Engine("ours, tars", "tars", _ours)
SOUGHT = Engine("webdataset, seek in its bytes", "tars", _webdataset(lambda one: [sought(one)]))
EVERY_SECOND = Engine("webdataset, every second of it", "tars", _webdataset(all_seconds))
ENGINES = [
    Engine("ours, files", "files", _ours),
    OURS,
    Engine("webdataset, whole recording decoded", "tars", _webdataset(lambda one: [decoded(one)])),
    SOUGHT,
    EVERY_SECOND,
]
