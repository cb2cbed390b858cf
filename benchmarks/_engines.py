"""Loaders of one-second training crops of 16 kHz mono: ours, and engines that read sequentially.

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
from torch import Tensor

from discrete_ae.data import CropSettings, TrainingCrops
from discrete_ae.data.datamodule import AudioLoader, TrainingBatches
from discrete_ae.data.index import index
from discrete_ae.data.shards import write_shards

RATE = 16000
BATCH_SIZE = 64
SEED = 1
SHARD_BYTES = 64 * 10**6
"""Size of tars and of litdata's chunks, which is litdata's default."""
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
    package: str | None
    """Module name of the package it needs besides this project's dependencies; None for ours."""
    store: str
    """Name of the storage format it reads."""
    load: Callable[[Path | list[str], int], Iterable[Tensor]]
    """Maps a folder or the URLs of tars, and a number of worker processes, to the batches."""


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


def _ours(folder: Path | list[str], workers: int) -> Iterable[Tensor]:
    settings = CropSettings.of({"sample_rate": RATE, "channels": 1, "crop_seconds": 1.0, "seed": SEED})
    crops = TrainingCrops(index(folder).files, settings)
    for batch in AudioLoader(crops, batch_sampler=TrainingBatches(BATCH_SIZE), num_workers=workers):
        made.add(len(batch), 0)
        yield batch


def _webdataset(crops_of: Callable[[bytes], Iterable[Tensor]]) -> Callable[[Path | list[str], int], Iterable[Tensor]]:
    """Return a loader that draws shards forever, shuffles crops in a buffer, and batches in the worker process."""

    def crops(samples: Iterable[dict[str, Any]]) -> Iterator[Tensor]:
        for sample in samples:
            yield from crops_of(sample["flac"])

    def load(folder: Path | list[str], workers: int) -> Iterable[Tensor]:
        import webdataset as wds

        tars = sorted(map(str, folder.glob("*.tar"))) if isinstance(folder, Path) else folder
        stream = wds.DataPipeline(
            wds.ResampledShards(tars, seed=SEED, deterministic=True),
            wds.tarfile_to_samples(),
            crops,
            wds.shuffle(SHUFFLED, seed=SEED),
            wds.batched(BATCH_SIZE, torch.stack),
        )
        return wds.WebLoader(stream, batch_size=None, num_workers=workers)

    return load


def _litdata(folder: Path | list[str], workers: int) -> Iterable[Tensor]:
    import litdata

    # Without drop_last, which would drop a third of the crops of a hundred recordings.
    stream = litdata.StreamingDataset(str(folder), shuffle=True, seed=SEED, transform=sought)
    loader = litdata.StreamingDataLoader(stream, batch_size=BATCH_SIZE, num_workers=workers)
    while True:
        yield from loader


def _lhotse(all_windows: bool) -> Callable[[Path | list[str], int], Iterable[Tensor]]:
    """Return a loader that splits shards between workers, and shuffles and batches cuts in the worker process."""

    def load(folder: Path | list[str], workers: int) -> Iterable[Tensor]:
        import lhotse
        from lhotse.dataset import DynamicCutSampler, IterableDatasetWrapper
        from lhotse.dataset.dataloading import make_worker_init_fn

        cuts = lhotse.CutSet.from_shar(
            in_dir=folder, shuffle_shards=True, seed=SEED, split_for_dataloading=True, stateful_shuffle=True
        )
        count = len(cuts)
        cuts = cuts.cut_into_windows(1.0).filter(_is_whole) if all_windows else cuts.map(_second_of)
        # A buffered cut holds the bytes of its whole recording; a larger buffer would hold those of several epochs.
        sampler = DynamicCutSampler(
            cuts.repeat(),
            max_cuts=BATCH_SIZE,
            shuffle=True,
            shuffle_buffer_size=SHUFFLED if all_windows else min(SHUFFLED, count),
            seed=SEED,
        )
        return torch.utils.data.DataLoader(
            IterableDatasetWrapper(_LoadedCuts(), sampler),
            batch_size=None,
            num_workers=workers,
            worker_init_fn=make_worker_init_fn(seed=SEED),
        )

    return load


def _is_whole(cut: Any) -> bool:
    return cut.num_samples == RATE


def _second_of(cut: Any) -> Any:
    return cut.truncate(offset=random.randrange(cut.num_samples - RATE + 1) / RATE, duration=1.0)


class _LoadedCuts(torch.utils.data.Dataset):
    def __getitem__(self, cuts: Any) -> Tensor:
        audio = torch.stack([torch.from_numpy(cut.load_audio()) for cut in cuts])
        made.add(len(audio), sum(len(cut.recording.sources[0].source) for cut in cuts))
        return audio


def write_tars(recordings: Path, folder: Path) -> None:
    """Write tars as `discrete-ae shards` does."""
    write_shards(recordings, folder, SHARD_BYTES)


def write_chunks(recordings: Path, folder: Path) -> None:
    """Write the bytes of the files to litdata's chunks, by the writer that its `optimize` uses."""
    from litdata.streaming import Cache

    cache = Cache(str(folder), chunk_bytes=SHARD_BYTES)
    for place, path in enumerate(sorted(recordings.iterdir())):
        cache[place] = path.read_bytes()
    cache.done()
    cache.merge()


def write_shar(recordings: Path, folder: Path) -> None:
    """Write the recordings, encoded again as FLAC, to Lhotse's shar, in shards about as large as the tars."""
    import lhotse

    paths = sorted(recordings.iterdir())
    per_shard = round(len(paths) * SHARD_BYTES / sum(path.stat().st_size for path in paths))
    manifest = lhotse.RecordingSet.from_recordings(map(lhotse.Recording.from_file, paths))
    cuts = lhotse.CutSet.from_manifests(recordings=manifest)
    folder.mkdir()
    cuts.to_shar(folder, fields={"recording": "flac"}, shard_size=per_shard)


STORES = {"tars": (None, write_tars), "chunks": ("litdata", write_chunks), "shar": ("lhotse", write_shar)}
"""Storage formats besides plain files: the package needed, and the function that writes a folder to it."""

ENGINES = [
    Engine("ours, files", None, "files", _ours),
    Engine("ours, tars", None, "tars", _ours),
    Engine("webdataset, whole recording decoded", "webdataset", "tars", _webdataset(lambda one: [decoded(one)])),
    Engine("webdataset, seek in its bytes", "webdataset", "tars", _webdataset(lambda one: [sought(one)])),
    Engine("webdataset, every second of it", "webdataset", "tars", _webdataset(all_seconds)),
    Engine("litdata, seek in its bytes", "litdata", "chunks", _litdata),
    Engine("lhotse shar, seek in its bytes", "lhotse", "shar", _lhotse(all_windows=False)),
    Engine("lhotse shar, every second of it", "lhotse", "shar", _lhotse(all_windows=True)),
]
