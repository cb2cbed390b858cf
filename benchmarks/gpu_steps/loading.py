"""Measure the seconds of audio per second that the data loader delivers, with as many worker processes as cores."""

import os
import time
from itertools import islice

from _common import composed
from hydra.utils import instantiate
from loading import LOADED, measure_loader

from gpu_steps.results import Given

BATCH = 64


def measure(given: Given) -> None:
    """Measure the recordings of the training run in one-second crops, then those of benchmarks/loading.py."""
    cores = len(os.sched_getaffinity(0))
    best = 0.0
    counts = {1} if given.tiny else {cores, max(cores - 1, 1), min(cores, 8), 1}
    for workers in sorted(counts, reverse=True):
        rate = loaded(given, workers, batches=5 if given.tiny else 30 * min(workers, 8))
        best = max(best, rate)
        given.add(**{"processes": workers, "crops of 1 s a second": rate, "per process": rate / workers})
        given.summarize(f"{best:,.0f} s of audio a second at most, {cores} cores")
        if given.left_s < 0:
            break
    if given.left_s < 0:
        given.note("no time was left for recordings of other kinds")
        return
    short = {"crop_seconds": 0.5, "counts": [0], "seconds": 0.05, "rounds": 1, "minutes": 0.1, "kinds": LOADED[:2]}
    usual = {"crop_seconds": 1.0, "counts": [max(cores - 1, 1)], "seconds": 0.5, "rounds": 1, "minutes": 0.5}
    for record in measure_loader(**(short if given.tiny else usual)):
        given.add(**record)


def loaded(given: Given, workers: int, batches: int) -> float:
    """Return the crops per second of the given number of worker processes, after a warm-up."""
    few = "data.max_validation_segments=1"  # each is read before the first crop
    config = composed(f"data.batch_size={BATCH}", few, *(["data.root=" + str(given.corpus)] if given.corpus else []))
    data = instantiate(config.data, num_workers=workers)
    data.setup("fit")
    loader = iter(data.train_dataloader())
    for _ in islice(loader, 4 * workers):
        pass
    begin, count = time.perf_counter(), 0
    for _ in islice(loader, batches):
        count += 1
        if given.left_s < 0:
            break
    return BATCH * count / (time.perf_counter() - begin)
